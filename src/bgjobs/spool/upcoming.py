"""Find the next pending jobs to claim: by priority, then by age, or by both with `age_boost`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bgjobs.spool import lanes
from bgjobs.spool.backlog import Backlog
from bgjobs.spool.bucket import ClosedLanes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from bgjobs.spool.layout import Layout


class Candidate(NamedTuple):
    """A pending job that may start: another worker may still be faster."""

    priority: int
    bucket: str
    name: str


class Upcoming:
    """The pending jobs that one worker may claim, best first."""

    def __init__(
        self, paths: Layout, *, min_priority: int, age_boost: timedelta, since: str = lanes.NO_ID_HAS_LANE
    ) -> None:
        """Use the priorities from 9 down to the lowest that this worker takes. Ids hold lanes from `since` on."""
        self._paths = paths
        self._lanes = ClosedLanes(since)
        self._opens_ms: int | None = None
        self._backlogs = [self._backlog(priority) for priority in range(9, min_priority - 1, -1)]
        self._boost_ms = age_boost.total_seconds() * 1000

    def _backlog(self, priority: int) -> Backlog:
        return Backlog(self._paths.priority(priority), priority, self._lanes)

    def close_lanes(self, closed: frozenset[str], *, opens_ms: int | None = None) -> None:
        """Pass over jobs of these lanes, and of no others, from now on. `opens_ms` is when the first of them opens."""
        self._opens_ms = opens_ms
        if closed is self._lanes.closed:
            return
        opened, self._lanes.closed = self._lanes.closed - closed, closed
        for backlog in self._backlogs:
            backlog.interrupted = False
        if opened:
            kept = [(backlog, backlog.reopen(opened)) for backlog in self._backlogs]
            self._backlogs = [backlog if is_whole else self._backlog(backlog.priority) for backlog, is_whole in kept]

    def candidates(self, now_ms: int, *, above: int = -1) -> Iterator[Candidate]:
        """Go through the jobs of a priority higher than `above` that may start now, best first.

        Each is named once, until its directory changes. With closed lanes this may end early: then `next_ms` is now.
        """
        backlogs = [backlog for backlog in self._backlogs if backlog.priority > above]
        if self._lanes.closed:
            self._lanes.begin_slice()
        if self._boost_ms:
            yield from self._by_rank(backlogs, now_ms)
            return
        for backlog in backlogs:  # they stand in order of priority
            backlog.refresh(now_ms)
            while (name := backlog.best(now_ms)) is not None:
                yield Candidate(backlog.priority, backlog.take().name, name)
            if backlog.interrupted:
                return  # a job of a lower priority must not overtake one that was not seen yet

    def _by_rank(self, backlogs: list[Backlog], now_ms: int) -> Iterator[Candidate]:
        """Go through the jobs with ageing: the oldest of each priority competes with the others."""
        for backlog in backlogs:
            backlog.refresh(now_ms)
        while True:
            heads = [(backlog, name) for backlog in backlogs if (name := backlog.best(now_ms)) is not None]
            if not heads or any(backlog.interrupted for backlog in backlogs):
                return
            backlog, name = max(heads, key=lambda found: self._rank(found[0].priority, found[1], now_ms))
            yield Candidate(backlog.priority, backlog.take().name, name)

    def strange(self) -> list[str]:
        """Return, once, the paths in buckets that no job can have."""
        found: dict[str, None] = {}  # a directory that was listed twice meanwhile named them twice
        for backlog in self._backlogs:
            found |= dict.fromkeys(backlog.strange)
            backlog.strange = []
        return list(found)

    def unreadable(self) -> dict[str, OSError]:
        """Return, once, the directories that could not be read, each with the reason."""
        found: dict[str, OSError] = {}
        for backlog in self._backlogs:
            found |= backlog.unreadable
            backlog.unreadable = {}
        return found

    def next_ms(self, now_ms: int) -> int | None:
        """Return when there will be something to claim, as far as is known: a delayed job may start, or a lane opens.

        A job of a closed lane does not count, however long it has been due.
        """
        if any(backlog.interrupted for backlog in self._backlogs):
            return now_ms
        moments = [self._opens_ms, *(backlog.next_ms(now_ms) for backlog in self._backlogs)]
        return min((ms for ms in moments if ms is not None), default=None)

    def _rank(self, priority: int, name: str, now_ms: int) -> tuple[int, int]:
        """Rank with ageing: a level per `age_boost` of waiting, then the older one."""
        waited = now_ms - int(name[:13])
        return min(9, priority + max(0, int(waited // self._boost_ms))), waited
