"""Refuse new jobs when too many wait already, without counting them for each submission.

A count is used for a second, or for a hundred times as long as it took, at most a minute. If there are many jobs it is
saved in a file, for processes that submit only one job each. So counting costs little, and the limit is exceeded by at
most what other processes submit meanwhile. Nothing is refused because of a count that is older than a second.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bgjobs import clock, files
from bgjobs.errors import SpoolError
from bgjobs.ids import new_id

if TYPE_CHECKING:
    from bgjobs.spool.layout import Layout

FRESH_MS = 1000
TIMES_ITS_COST = 100
OLDEST_MS = 60_000
MANY = 10_000  # counting so many takes as long as submitting one, and is worth a file


class Count(Struct, frozen=True):
    """How many jobs waited at a moment, and how long it took to count them."""

    at_ms: int
    jobs: int
    took_ms: int

    def is_good(self, now_ms: int) -> bool:
        """Tell whether it can still be trusted. One from the future was made by another clock."""
        return 0 <= now_ms - self.at_ms <= max(FRESH_MS, min(self.took_ms * TIMES_ITS_COST, OLDEST_MS))


class Quota:
    """At most so many jobs may wait in a spool; 0 stands for no limit."""

    def __init__(self, paths: Layout, most: int) -> None:
        """Count nothing yet."""
        self._paths = paths
        self._most = most
        self._count: Count | None = None

    def refuse_beyond(self, more: int) -> None:
        """Raise SpoolError if the queue is too long for so many more jobs."""
        if not self._most:
            return
        now_ms = clock.now_ms()
        count = self._count
        if count is None or not count.is_good(now_ms):
            count = self._noted(now_ms) or self._counted()
        if count.jobs + more > self._most and not 0 <= now_ms - count.at_ms <= FRESH_MS:
            count = self._counted()
        self._count = count
        if count.jobs + more > self._most:
            raise SpoolError(
                f"the queue in {self._paths.root} is full: {count.jobs} jobs wait, and max_queued is {self._most}",
                hint="submit again when workers have run some, or raise max_queued",
                code="queue-full",
            )

    def add(self, more: int) -> None:
        """Count jobs that were submitted just now."""
        if self._count is not None:
            self._count = replace(self._count, jobs=self._count.jobs + more)

    def _noted(self, now_ms: int) -> Count | None:
        text = files.read_note(self._paths.queued) or ""
        found = files.decoded(text.encode("utf-8", "replace"), Count)
        return found if found is not None and found.is_good(now_ms) else None

    def _counted(self) -> Count:
        from bgjobs.spool import counts  # noqa: PLC0415 - a submission that need not count does without it

        start = time.perf_counter()
        jobs = counts.count_pending(self._paths)
        count = Count(clock.now_ms(), jobs, round(1000 * (time.perf_counter() - start)))
        if count.jobs >= MANY:
            self._note(count)
        return count

    def _note(self, count: Count) -> None:
        fresh = f"{self._paths.tmp}/queued.{new_id()}"
        with suppress(OSError):  # the next process counts for itself
            files.create(fresh, msgspec.json.encode(count), sync=False)
            files.replace(fresh, self._paths.queued)
