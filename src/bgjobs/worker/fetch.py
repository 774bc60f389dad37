"""When to claim jobs, and how many: as many as the runners can take, and a little ahead when jobs are short.

No job waits behind a long one: when jobs take more than a few milliseconds, nothing is sent ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.errors import BgjobsError, why

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bgjobs.clock import Now
    from bgjobs.store import Bell, Session
    from bgjobs.system import Poller
    from bgjobs.worker.in_flight import InFlight
    from bgjobs.worker.pool import Pool


WINDOW_S = 0.05
MOST_CLAIMED = 256
MOST_AHEAD = 64
SHORT_S = 0.005
AHEAD_S = 0.02  # about so much work may be queued in one runner
WEIGHT = 0.2  # of the latest job in the mean


class Throughput:
    """Measures how many jobs end and how long they take; says how many to claim and to send to one runner."""

    def __init__(self, now: float) -> None:
        """No job has ended yet: send nothing ahead."""
        self._window_at = now
        self._ended = 0  # in this window
        self._ended_before = 0  # in the one before
        self._mean_s = SHORT_S

    def job_ended(self, took_s: float, now: float) -> None:
        """Count one more job, which took so many seconds."""
        self._roll(now)
        self._ended += 1
        self._mean_s += WEIGHT * (took_s - self._mean_s)

    def depth(self) -> int:
        """Return how many jobs one runner may hold."""
        if self._mean_s >= SHORT_S:
            return 1
        return min(MOST_AHEAD, int(AHEAD_S / max(self._mean_s, AHEAD_S / MOST_AHEAD)))

    def batch(self, free: int, now: float) -> int:
        """Return how many jobs to claim when the runners can take `free`: also those that the next window will need."""
        self._roll(now)
        return max(free, min(MOST_CLAIMED, 2 * max(self._ended, self._ended_before)))

    def _roll(self, now: float) -> None:
        windows = int((now - self._window_at) / WINDOW_S)
        if windows:
            self._ended_before = self._ended if windows == 1 else 0
            self._window_at, self._ended = now, 0


MOST_IDLE_RINGS = 8  # in a row: a ring wakes all workers, and all but one of them find nothing
IGNORE_S = 0.01


class BellBackoff:
    """Ignores the doorbell for 10 ms after eight rings in a row that brought no work."""

    def __init__(self) -> None:
        """There was no ring yet."""
        self._idle_rings = 0
        self._ignore_until = 0.0

    def ignored_s(self, now: float) -> float:
        """Return for how many seconds from `now` on the doorbell is ignored."""
        return max(0.0, self._ignore_until - now)

    def rang(self, now: float) -> None:
        """Count a ring that was noticed."""
        self._idle_rings += 1
        if self._idle_rings > MOST_IDLE_RINGS:
            self._ignore_until = now + IGNORE_S

    def found_work(self) -> None:
        """The rings so far brought work: count anew."""
        self._idle_rings = 0


class WakeUps:
    """Waits for what wakes a worker: its runners, signals and the doorbell. A ring may be noticed late, never lost."""

    def __init__(self, poller: Poller, bell: Bell) -> None:
        """Watch the doorbell from now on."""
        self._poller = poller
        self._bell = bell
        self._backoff = BellBackoff()
        poller.watch_bell(bell)

    def wait(self, timeout_s: float, now: float) -> list[tuple[object, bytes]]:
        """Wait as the poller does, at most until the doorbell is not ignored any more."""
        ignored_s = self._backoff.ignored_s(now)
        if ignored_s:
            return self._poller.wait(min(ignored_s, timeout_s), bells=False)
        return self._poller.wait(timeout_s)

    def rang(self, now: float) -> bool:
        """Tell whether the doorbell rang since the last call; while it is ignored, no."""
        if self._backoff.ignored_s(now) or not self._bell.rang():
            return False
        self._backoff.rang(now)
        return True

    def found_work(self) -> None:
        """The rings so far brought work: count anew."""
        self._backoff.found_work()


LOOK_EVERY_S = 1.0
RETRY_S = 1.0
MOST_UNDECIDED = 256


class Schedule:
    """When to look for jobs: after a ring, when a delayed job is due, and once a second in any case.

    After a claim that failed, not for a second. `may_be_more` says that there may be jobs that were not claimed yet.
    """

    def __init__(self) -> None:
        """Look at once."""
        self.may_be_more = True
        self.rang = False
        self._look_at = self._not_before = 0.0

    def is_open(self, now: float) -> bool:
        """Tell whether jobs may be claimed now; notice that it is time to look for some."""
        if now < self._not_before:
            return False
        if now >= self._look_at:
            self.may_be_more = True
        return True

    def take_ring(self) -> bool:
        """Tell whether the doorbell rang since the last call: then there may be new jobs."""
        rang, self.rang = self.rang, False
        self.may_be_more = self.may_be_more or rang
        return rang

    def claimed(self, now: Now, next_due: datetime | None, *, may_be_more: bool) -> None:
        """Note that jobs were claimed as of `now`; the next delayed one is due at `next_due`, as far as is known."""
        self.may_be_more = may_be_more
        wait_s = LOOK_EVERY_S if next_due is None else (next_due - now.at).total_seconds()
        self._look_at = now.s + min(LOOK_EVERY_S, max(0.0, wait_s))

    def pause(self, now: float) -> None:
        """Claim nothing for a second: something is wrong."""
        self._not_before = now + RETRY_S

    @property
    def next_at(self) -> float:
        """When to look again, on the monotonic clock."""
        return max(self._look_at, self._not_before)


def shortage(free: int, waiting: int, undecided: int) -> int:
    """Return how many more jobs to claim for runners that can take `free`, with some claimed already.

    Some undecided ones do not count: they may wait for a minute, and others should run meanwhile.
    """
    return free - waiting - max(0, undecided - MOST_UNDECIDED)


class Fetcher:
    """Claims jobs for the runners of a worker. At most `most_jobs` end in it, if that is given."""

    def __init__(
        self,
        session: Session,
        pool: Pool,
        in_flight: InFlight,
        wake_ups: WakeUps,
        throughput: Throughput,
        *,
        most_jobs: int | None,
        announce: Callable[[str], None],
    ) -> None:
        """Expect that there is something to do."""
        self.schedule = Schedule()
        self.ended = 0
        self._session = session
        self._pool = pool
        self._in_flight = in_flight
        self._wake_ups = wake_ups
        self._throughput = throughput
        self._most_jobs = most_jobs
        self._announce = announce

    def fetch(self, now: Now) -> None:
        """Claim what there is room for, if it is time to."""
        if not self.schedule.is_open(now.s):
            return
        if self.schedule.take_ring():
            self._claim_more_urgent(now)
        free = self._pool.room(self._throughput.depth(), now.s)
        missing = shortage(free, len(self._in_flight.waiting), len(self._in_flight.undecided))
        if missing > 0 and self.schedule.may_be_more:
            self._claim(self._within_limit(self._throughput.batch(missing, now.s)), now, above=-1)

    def job_ended(self) -> None:
        """Count one more job."""
        self.ended += 1

    @property
    def is_enough(self) -> bool:
        """Whether as many jobs have ended as should."""
        return self._most_jobs is not None and self.ended >= self._most_jobs

    def _claim_more_urgent(self, now: Now) -> None:
        """Claim new jobs of a higher priority than one that was claimed or sent ahead, before that one starts."""
        ahead = [*self._pool.sent_ahead(), *(claim.job for claim in self._in_flight.waiting)]
        if ahead:
            self._claim(self._within_limit(len(ahead)), now, above=min(job.priority for job in ahead))

    def _recall_less_urgent(self) -> None:
        """Ask back what was sent ahead of something more urgent, which may have been claimed before its ring."""
        sent, waiting = self._pool.sent_ahead(), self._in_flight.waiting
        if sent and waiting and waiting[0].job.priority > min(job.priority for job in sent):
            self._pool.recall()

    def _claim(self, most: int, now: Now, *, above: int) -> None:
        if most <= 0:
            return
        try:
            claims = self._session.claim(most, above=above)
        except (OSError, BgjobsError) as error:
            # A full descriptor table, a disk that went read-only: nothing is lost by trying again later.
            self._announce(f"cannot claim jobs: {why(error)}")
            self.schedule.pause(now.s)
            return
        now = clock.both()  # a claim in a long queue on a slow disk takes a while
        if claims:
            self._wake_ups.found_work()
        self.schedule.claimed(now, self._session.next_due(), may_be_more=above >= 0 or len(claims) == most)
        self._in_flight.add(claims, now)
        self._recall_less_urgent()

    def _within_limit(self, most: int) -> int:
        return within_limit(most, self._most_jobs, ended=self.ended, claimed=len(self._in_flight))


def within_limit(most: int, most_jobs: int | None, *, ended: int, claimed: int) -> int:
    """Return how many of `most` jobs to claim, so that no more than `most_jobs` end in this worker."""
    return most if most_jobs is None else min(most, most_jobs - ended - claimed)
