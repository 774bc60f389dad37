"""bgjobs, with either durability."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import PROCESSES, SYNCED, UNSYNCED, Contestant
from benchmarks.processes import ROOT, Worker
from bgjobs.queue import Queue
from bgjobs.requests import Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bgjobs.job import Job

ALLOWLIST = """
[bgjobs]
import_paths = [{root}]
durability = "{durability}"
{limit}

[jobs.Work]
class = "benchmarks.work"
methods = ["note"]
"""


def opened(directory: Path, durability: str, *, limited: bool) -> Queue:
    """Make a project in this directory, if there is none, and open its queue."""
    path = directory / "allowed_jobs.toml"
    if not path.exists():
        limit = "" if limited else "max_queued = 0"
        text = ALLOWLIST.format(root=json.dumps(str(ROOT)), durability=durability, limit=limit)
        path.write_text(text, encoding="utf-8")
    queue = Queue.open(config=str(path))
    queue.submit_many([])  # makes the spool: to open it does not
    return queue


class Bgjobs(Contestant):
    """A spool beside an allowlist, and `bgjobs worker`."""

    end_is = UNSYNCED
    bulk = True

    def __init__(self, durability: str, *, limited: bool = True, recycle: int | None = None) -> None:
        """Choose the durability, whether only so many jobs may wait, and how many a runner serves."""
        self._recycle = [] if recycle is None else ["--recycle", str(recycle)]
        self.name = ", ".join([f"bgjobs, durability {durability}", *([" ".join(self._recycle)] if recycle else [])])
        self.submit_is = SYNCED if durability == "full" else UNSYNCED
        worker = " ".join(["bgjobs worker --concurrency", str(PROCESSES), *self._recycle])
        self.options = f"durability = {durability}; {worker}; all else by default"
        self._durability = durability
        self._limited = limited
        self.workers: list[Worker] = []

    def versions(self) -> dict[str, str]:
        """Return those of bgjobs and of the packages on the way of a job."""
        return {name: version(name) for name in ("bgjobs", "filelock", "msgspec")}

    def set_up(self, directory: Path) -> None:
        """Write the allowlist and open the queue."""
        self.workers = []
        self.directory = directory
        self.queue = opened(directory, self._durability, limited=self._limited)

    def submit(self, number: int) -> None:
        """Submit one job."""
        self.queue.submit("Work", "note", [number])

    def submit_many(self, numbers: Sequence[int]) -> None:
        """Submit many jobs by one call."""
        self.submit_with(numbers)

    def submit_with(self, numbers: Sequence[int], **wishes: Any) -> list[Job]:  # noqa: ANN401 - those of a Request
        """Submit many jobs with a delay, a priority, or whatever else can be wished for."""
        return self.queue.submit_many(
            Request(class_name="Work", method="note", args=[number], **wishes) for number in numbers
        )

    def waiting(self) -> int:
        """Return how many jobs lie in the queue, not begun: by counting the files, not by asking bgjobs."""
        return sum(len(files) for _, _, files in os.walk(self.directory / "spool" / "pending"))

    def start_worker(self) -> None:
        """Start the command that anyone would start."""
        self.add_worker()

    def add_worker(self, concurrency: int = PROCESSES) -> Worker:
        """Start one more worker, with so many runners."""
        worker = Worker(self.command("worker", "--concurrency", str(concurrency), *self._recycle), self.directory)
        self.workers.append(worker)
        return worker

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a command of bgjobs."""
        return [sys.executable, "-m", "bgjobs", *arguments]

    def kill_worker(self) -> None:
        """Kill all workers."""
        while self.workers:
            self.workers.pop().kill()

    def pids(self) -> list[int]:
        """Return those of the workers and their runners."""
        return [pid for worker in self.workers for pid in worker.pids()]

    def stop_worker(self) -> None:
        """End all workers."""
        while self.workers:
            self.workers.pop().stop()
