"""When a worker stops: asked to, or with nothing left to do; and how long it waits for the jobs that still run."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from bgjobs.errors import why
from bgjobs.queue import store_of
from bgjobs.worker.assignment import StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.clock import Now
    from bgjobs.queue import Queue
    from bgjobs.store import Unfinished
    from bgjobs.worker.fetch import Fetcher
    from bgjobs.worker.in_flight import InFlight
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.pool import Pool


class StopRequests:
    """Counts the requests to stop, also those from before the worker joins the queue. Signal handlers call it."""

    def __init__(self) -> None:
        """There was none yet."""
        self.count = 0
        self.first_at: float | None = None

    def add(self) -> None:
        """Count one more, which came just now."""
        self.count += 1
        self.first_at = self.first_at or time.monotonic()


class StopStep(Enum):
    """What a stopping worker does with the jobs that still run."""

    WAIT = "let them finish"
    INTERRUPT = "ask them to stop; they go back to the queue, uncharged"
    KILL = "kill them"


def stop_step(requests: int, first_at: float | None, grace_s: float, now: float) -> StopStep:
    """Return what to do with running jobs after so many requests to stop, of which the first came at `first_at`.

    The second request ends the grace, the third kills. Without any, the worker stops by itself, and waits.
    """
    if first_at is None or requests == 0:
        return StopStep.WAIT
    if requests > 2:  # noqa: PLR2004 - as said above
        return StopStep.KILL
    return StopStep.INTERRUPT if requests > 1 or now - first_at > grace_s else StopStep.WAIT


def is_done(left: Unfinished, options: WorkerOptions) -> bool:
    """Tell whether a worker with these options, `once` or `drain`, has nothing left to do. It has just looked."""
    # What we do not take is not ours to wait for, and what we take was claimed just now.
    due = left.due and not takes_some(options)
    return not (due or left.incoming) and (options.once or not (left.later or left.claimed))


def takes_some(options: WorkerOptions) -> bool:
    """Tell whether the worker leaves some jobs to others, because of their class or priority."""
    return bool(options.only or options.min_priority)


class Shutdown:
    """The end of one worker. Once `is_stopping`, nothing is claimed or started any more."""

    def __init__(
        self,
        queue: Queue,
        options: WorkerOptions,
        pool: Pool,
        in_flight: InFlight,
        fetcher: Fetcher,
        *,
        requests: StopRequests,
        announce: Callable[[str], None],
        now: float,
    ) -> None:
        """Let the time of the worker, if it has one, begin now."""
        self.is_stopping = False
        self._queue = queue
        self._options = options
        self._pool = pool
        self._in_flight = in_flight
        self._fetcher = fetcher
        self._announce = announce
        self._requests = requests
        self._is_announced = False
        self._has_interrupted = False
        self._could_not_start = False
        self._end_at = now + options.max_time.total_seconds() if options.max_time else float("inf")

    def advance(self, now: Now) -> bool:
        """Take the next step of the end, if it is time for one; return whether the worker may leave now.

        It ends when it is asked to or has nothing left to do: it claims no more, then waits for what still runs, and
        ends that after the grace or at a further request.
        """
        if not self.is_stopping:
            if not self._should_stop(now):
                return False
            self._stop_claiming(now)
        self._end_running(now.s)
        return not self._pool.busy()

    def is_broken(self) -> bool:
        """Tell whether the worker cannot go on: no runner can be started, or the disk does not keep what is written."""
        # Afterwards no runner is started any more, and those that there are go one by one.
        cannot_start = self._could_not_start if self.is_stopping else self._pool.broken
        return cannot_start or self._in_flight.disk_failed

    def _should_stop(self, now: Now) -> bool:
        if self._requests.count or now.s >= self._end_at or self._fetcher.is_enough or self.is_broken():
            return True
        if not (self._options.drain or self._options.once):
            return False
        schedule = self._fetcher.schedule
        if schedule.may_be_more or schedule.rang or len(self._in_flight):
            return False
        try:
            left = store_of(self._queue).unfinished(now.at)
        except OSError as error:
            self._announce(f"cannot see what is left to do: {why(error)}")
            return False
        if left.due and not takes_some(self._options):
            schedule.may_be_more = True
        return is_done(left, self._options)

    def _stop_claiming(self, now: Now) -> None:
        self._could_not_start = self._pool.broken
        self.is_stopping = True
        if self._could_not_start:
            self._announce(f"stopping: {self._pool.trouble}")
        self._pool.start_no_more()
        self._in_flight.release_waiting(StopReason.WORKER_STOPS.value, now.at)
        self._pool.recall()

    def _end_running(self, now: float) -> None:
        """After the grace, or at a further request, end what still runs; it goes back uncharged."""
        requests, first_at = self._requests.count, self._requests.first_at
        grace_s = self._options.grace.total_seconds()
        if first_at is not None and self._pool.busy() and not self._is_announced:
            self._is_announced = True
            self._announce(f"stopping: waiting up to {grace_s:g} s for running jobs")
        step = stop_step(requests, first_at, grace_s, now)
        if step is not StopStep.WAIT and not self._has_interrupted:
            self._has_interrupted = True
            self._pool.interrupt(now)
        if step is StopStep.KILL:
            self._pool.kill()
