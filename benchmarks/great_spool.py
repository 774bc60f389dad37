"""A spool with very many jobs in it: made once, and looked at by several measures."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.measures import below, say
from bgjobs.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


GROUP = 1000
IN_AN_HOUR = 100_000
WORKER = "01k00000000000000000000000"  # an id such as workers have
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
            self._made = Bgjobs("os", limited=False)
            self._made.set_up(below(directory))
            self._fill(self._made)
        return self._made

    def _fill(self, made: Bgjobs) -> None:
        say("great spool: it is filled")
        if self.done:
            self.examples["done"] = _finish(made, self.done)
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


def _finish(made: Bgjobs, count: int) -> str:
    """Write jobs that are done, a part of them in each of the hours before this one; return the id of the last."""
    _ = made.queue.backend  # it makes the spool
    done, last = made.directory / "spool" / "done", ""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for back, group in enumerate(_groups(FIRST_DONE, count, IN_AN_HOUR), 1):
        began = this_hour - timedelta(hours=back)
        hour = done / began.strftime("%Y%m%d%H")
        hour.mkdir(mode=0o700)
        ms = int(began.timestamp() * 1000)
        for number in group:
            last = new_id(ms + (number - FIRST_DONE) % IN_AN_HOUR)
            descriptor = os.open(f"{hour}/{last}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, _done_job(last, ms, number))
            os.close(descriptor)
    return last


def _done_job(job_id: str, ms: int, number: int) -> bytes:
    """Return the file of a job that was tried once: its line, and those of the attempt."""
    call = {"format": 1, "id": job_id, "class": "Work", "method": "note", "args": [number], "priority": 5}
    job = {**call, "not_before": ms, "retries": 3, "submitted_at": ms, "submitted_by": "benchmark@here"}
    about = {"at": ms, "wid": WORKER}
    start = {"number": 1, "worker": "here:1", "slot": 0, "pid": 1, "birth": "1", "boot": "1"}
    ended = {"outcome": "succeeded", "state": "done", "result": number}
    lines = [job, {"event": "start", **about, **start}, {"event": "end", **about, **ended}]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _groups(first: int, count: int, size: int = GROUP) -> Iterator[range]:
    for start in range(first, first + count, size):
        yield range(start, min(start + size, first + count))
