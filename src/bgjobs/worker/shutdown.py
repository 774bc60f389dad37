"""When a worker stops: asked to, or with nothing left to do; and how long it waits for what still runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.errors import why
from bgjobs.queue import store_of
from bgjobs.worker.runner import Why

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.queue import Queue
    from bgjobs.store import Unfinished
    from bgjobs.worker.fetch import Claiming
    from bgjobs.worker.in_flight import InFlight
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.pool import Pool


class StopRequests:
    """Counts the requests to stop: from before the worker has its place on, and in signal handlers."""

    def __init__(self) -> None:
        """There was none yet."""
        self.count = 0
        self.first_at: float | None = None

    def add(self) -> None:
        """One more has come."""
        self.count += 1
        self.first_at = self.first_at or time.monotonic()


class Ending:
    """The end of one worker. Once `has_begun`, nothing is claimed or started any more."""

    def __init__(
        self,
        queue: Queue,
        options: WorkerOptions,
        pool: Pool,
        in_flight: InFlight,
        claiming: Claiming,
        *,
        requests: StopRequests,
        say: Callable[[str], None],
    ) -> None:
        """It has not begun yet."""
        self.has_begun = False
        self._queue = queue
        self._options = options
        self._pool = pool
        self._in_flight = in_flight
        self._claiming = claiming
        self._say = say
        self._requests = requests
        self._announced = False
        self._interrupted = False
        self._could_not_start = False
        self._end_at = time.monotonic() + options.max_time.total_seconds() if options.max_time else None

    def is_over(self) -> bool:
        """Tell whether to leave: asked to, with nothing running any more, or nothing left to do."""
        if not self.has_begun:
            if not self._should_stop():
                return False
            self._stop_claiming()
        self._hurry()
        return not self._pool.busy()

    def is_broken(self) -> bool:
        """Tell whether it cannot go on: no runner can be started, or the disk does not keep what is written."""
        # Afterwards no runner is started any more, and those that there are go one by one.
        cannot_start = self._could_not_start if self.has_begun else self._pool.broken
        return cannot_start or self._in_flight.disk_failed

    def _should_stop(self) -> bool:
        options, claiming = self._options, self._claiming
        if self._requests.count or self.is_broken() or (self._end_at is not None and time.monotonic() >= self._end_at):
            return True
        if claiming.is_enough:
            return True
        if not (options.drain or options.once) or claiming.may_be_more or claiming.rang or len(self._in_flight):
            return False
        try:
            left = store_of(self._queue).unfinished(clock.now())
        except OSError as error:
            self._say(f"cannot see what is left to do: {why(error)}")
            return False
        if left.due and not options.only and not options.min_priority:
            claiming.may_be_more = True
        return self._nothing_to_do(left)

    def _nothing_to_do(self, left: Unfinished) -> bool:
        # What we do not take is not ours to wait for, and what we take was claimed just now.
        due = left.due and not (self._options.only or self._options.min_priority)
        return not (due or left.incoming) and (self._options.once or not (left.later or left.claimed))

    def _stop_claiming(self) -> None:
        self._could_not_start = self._pool.broken
        self.has_begun = True
        if self._could_not_start:
            self._say(f"stopping: {self._pool.trouble}")
        self._pool.start_no_more()
        self._in_flight.release_waiting(Why.WORKER_STOPS.value)
        self._pool.recall()

    def _hurry(self) -> None:
        """After the grace, or at the second request, interrupt what still runs; it goes back uncharged."""
        asked_at = self._requests.first_at
        if asked_at is None:
            return  # nobody asked: it stops because there is nothing left that it should begin
        grace = self._options.grace.total_seconds()
        if self._pool.busy() and not self._announced:
            self._announced = True
            self._say(f"stopping: waiting up to {grace:g} s for running jobs")
        over = time.monotonic() - asked_at > grace
        if (over or self._requests.count > 1) and not self._interrupted:
            self._interrupted = True
            self._pool.interrupt()
        if self._requests.count > 2:  # noqa: PLR2004 - the third request: no patience left
            self._pool.kill()
