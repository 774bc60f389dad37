"""A spool with very many jobs in it: made once, and looked at by several measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.measures import below, say
from bgjobs import clock
from bgjobs.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.job import Job

GROUP = 1000
DAY_S = 24 * 3600
FIRST_DONE, FIRST_DELAYED, FIRST_NEW = 10**10, 2 * 10**10, 3 * 10**10  # numbers of jobs that do not run


class GreatSpool:
    """Filled when it is first asked for. Whoever starts something in it ends it, too."""

    def __init__(self, *, done: int, delayed: int, waiting: int) -> None:
        """Do not exist yet, but know how many jobs shall be in it."""
        self.done, self.delayed, self.waiting = done, delayed, waiting
        self.examples: dict[str, str] = {}
        self._made: Bgjobs | None = None

    def get(self, directory: Path) -> Bgjobs:
        """Return it, filled."""
        if self._made is None:
            self._made = Bgjobs("os")
            self._made.set_up(below(directory))
            self._fill(self._made)
        return self._made

    def _fill(self, made: Bgjobs) -> None:
        say("great spool: it is filled")
        for group in _groups(FIRST_DONE, self.done):
            self.examples["done"] = end(made, made.submit_with(group))
        say(f"great spool: {self.done:,} jobs are done")
        for minutes, group in enumerate(_groups(FIRST_DELAYED, self.delayed)):
            self.examples["delayed"] = made.submit_with(group, delay=DAY_S + minutes * 60)[-1].id
        say(f"great spool: {self.delayed:,} jobs are delayed")
        for group in _groups(0, self.waiting):
            made.submit_many(group)
        say(f"great spool: {self.waiting:,} jobs wait")

    def top_up(self) -> None:
        """Replace the jobs that were run meanwhile; the last of the new ones is an example."""
        made = self._made
        assert made is not None
        missing = max(1, self.waiting + self.delayed - made.waiting())
        for group in _groups(FIRST_NEW, missing):
            self.examples["waiting"] = made.submit_with(group)[-1].id


def end(made: Bgjobs, jobs: list[Job]) -> str:
    """Let these jobs end without running them: write the lines of an attempt, and move the files, as a worker does.

    They have to be the only ones that wait. Return the id of the last.
    """
    hour = clock.now().strftime("%Y%m%d%H")
    spool = made.directory / "spool"
    there = spool / "done" / hour
    there.mkdir(exist_ok=True)
    lines = _lines_of_an_attempt()
    for job_file in spool.glob("pending/*/*/*.json"):
        with job_file.open("ab", buffering=0) as file:
            file.write(lines)
        job_file.rename(there / job_file.name.split("-", 1)[1])
    for bucket in spool.glob("pending/*/*"):
        bucket.rmdir()
    return jobs[-1].id


def _lines_of_an_attempt() -> bytes:
    about = {"at": clock.now_ms(), "wid": new_id()}
    start = {"number": 1, "worker": "benchmark:1", "slot": 0, "pid": 1, "birth": "1", "boot": "1"}
    ended = {"outcome": "succeeded", "state": "done", "result": 0}
    events = [{"event": "start", **about, **start}, {"event": "end", **about, **ended}]
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def _groups(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, GROUP):
        yield range(start, min(start + GROUP, first + count))
