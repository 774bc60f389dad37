"""bgjobs, with either durability."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.contestants import PROCESSES, SYNCED, UNSYNCED
from benchmarks.contestants.commanded import Commanded
from benchmarks.processes import ROOT
from bgjobs import Request
from bgjobs.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ALLOWLIST = """
[bgjobs]
import_paths = [{root}]
durability = "{durability}"

[jobs.Work]
class = "benchmarks.work"
methods = ["note"]
"""


class Bgjobs(Commanded):
    """A spool beside an allowlist, and `bgjobs worker`."""

    end_is = UNSYNCED
    bulk = True

    def __init__(self, durability: str) -> None:
        """Choose the durability `full` or `os`."""
        self.name = f"bgjobs, durability {durability}"
        self.submit_is = SYNCED if durability == "full" else UNSYNCED
        self.options = f"durability = {durability}; bgjobs worker --concurrency {PROCESSES}; all else by default"
        self._durability = durability

    def versions(self) -> dict[str, str]:
        """Return those of bgjobs and of the packages on the way of a job."""
        return {name: version(name) for name in ("bgjobs", "filelock", "msgspec")}

    def set_up(self, directory: Path) -> None:
        """Write the allowlist and open the queue."""
        path = directory / "allowed_jobs.toml"
        text = ALLOWLIST.format(root=json.dumps(str(ROOT)), durability=self._durability)
        path.write_text(text, encoding="utf-8")
        self._directory = directory
        self._queue = Queue.open(config=str(path))

    def submit(self, number: int) -> None:
        """Submit one job."""
        self._queue.submit("Work", "note", [number])

    def submit_many(self, numbers: Sequence[int]) -> None:
        """Submit all in one call."""
        self._queue.submit_many(Request(class_name="Work", method="note", args=[number]) for number in numbers)

    def start_worker(self) -> None:
        """Start the command that anyone would start."""
        self.start([sys.executable, "-m", "bgjobs", "worker", "--concurrency", str(PROCESSES)], self._directory)
