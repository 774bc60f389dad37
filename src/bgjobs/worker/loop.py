"""The worker: claim, run, finish, again. One thread, one loop; the code of jobs runs in child processes alone."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs import clock, lifecycle, system
from bgjobs.config import run_as, trust
from bgjobs.errors import ClaimLostError, NotAllowedError, SessionLostError, SpoolError, SyncFailedError, why
from bgjobs.events import Decided, Started
from bgjobs.job import Interrupted, Succeeded, moment
from bgjobs.queue import store_of
from bgjobs.store import Finish, Selection, WorkerInfo
from bgjobs.version import version
from bgjobs.worker.announce import Console, Supervision
from bgjobs.worker.assignment import Assignment, Began, Finished, Returned, run_message
from bgjobs.worker.duties.recover import import_jobs, recover
from bgjobs.worker.duties.reload import ConfigWatch, StaleCode
from bgjobs.worker.duties.tidy import Tidy
from bgjobs.worker.fetch import Fetcher, Throughput, WakeUps
from bgjobs.worker.in_flight import InFlight
from bgjobs.worker.pool import Pool
from bgjobs.worker.shutdown import Shutdown, StopRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from bgjobs.clock import Now
    from bgjobs.queue import Queue
    from bgjobs.store import Claim
    from bgjobs.worker.assignment import Report
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.runner import Runner

DUTIES_EVERY_S = 0.25
RETRY_S = 1.0  # after a duty that failed
UNSENT_S = 0.01
START_S = 0.1  # about what it takes to start a fresh process for a job that needs one


def run(
    queue: Queue,
    options: WorkerOptions,
    arrived: Callable[[str, WorkerInfo], None] | None = None,
    *,
    then_exit: bool = False,
) -> int:
    """Be a worker until asked to stop, or until there is nothing left to do; return the exit status.

    `arrived` is called with its id once it has joined the queue, before it starts any runner. With `then_exit` the
    process has nothing to do afterwards but exit with that status, and no signal that asks it to stop changes it any
    more. Raises ConfigError where another user could choose what runs, or where no job can run as the user that it has.
    """
    trust.refuse(queue.settings, queue.allowlist)
    run_as.refuse(run_as.those_of(queue.allowlist, options.only))
    _open_standard_descriptors()
    requests = StopRequests()
    # Before it joins the queue: from then on it ends in order, whenever it is asked to.
    with system.adopting(), system.stop_requests(requests.add, then_exit=then_exit):
        return Worker(queue, options, requests, arrived).run()


def _open_standard_descriptors() -> None:
    """Open the standard descriptors that the parent left closed: no pipe of a runner may get the number 0, 1 or 2."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        # What Python opens, here or in place of a missing stream, no child would have: a runner without descriptor 2
        # would take its own pipe for that.
        if not os.get_inheritable(descriptor):
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - named so in the standard library alone


class Worker:
    """Runs the jobs of one queue."""

    def __init__(
        self,
        queue: Queue,
        options: WorkerOptions,
        requests: StopRequests,
        arrived: Callable[[str, WorkerInfo], None] | None = None,
    ) -> None:
        """Join the queue. Raises SpoolError."""
        self._supervision = Supervision()
        self._queue = queue
        self._options = options
        self._requests = requests
        self._console = Console(quiet=options.quiet)
        self._announce = announce = self._console.announce
        self._info = WorkerInfo(
            host=system.host(),
            pid=os.getpid(),
            concurrency=options.concurrency,
            started_at=clock.now(),
            version=version(),
            only=tuple(sorted(options.only)),
            min_priority=options.min_priority,
        )
        selection = Selection(
            classes=options.only or None, min_priority=options.min_priority, pairs=lambda: queue.allowlist.pairs
        )
        self._session = session = store_of(queue).join(self._info, selection)
        if arrived is not None:
            self._report_arrival(arrived)
        now = clock.both()
        self._poller = system.Poller()
        self._wake_ups = WakeUps(self._poller, session.bell)
        self._pool = pool = Pool(queue, session, self._poller, options, announce=announce, now=now.s)
        self._config = config = ConfigWatch(queue, now, only=options.only, announce=announce)
        self._stale = StaleCode(queue, pool, announce)
        self._tidy = Tidy(now.s)
        self._duty_failures: set[str] = set()  # of the last round
        self._throughput = Throughput(now.s)
        self._in_flight = in_flight = InFlight(queue, session, announce, config.is_current, config.keys_are_current)
        self._fetcher = Fetcher(
            session,
            pool,
            in_flight,
            self._wake_ups,
            self._throughput,
            most_jobs=options.max_jobs,
            announce=announce,
        )
        self._shutdown = Shutdown(
            queue, options, pool, in_flight, self._fetcher, requests=requests, announce=announce, now=now.s
        )
        self._duties_at = now.s

    def _report_arrival(self, arrived: Callable[[str, WorkerInfo], None]) -> None:
        try:
            arrived(self._session.id, self._info)
        except OSError:
            self._session.leave()
            raise

    def run(self) -> int:
        """Claim, run, finish, again."""
        self._console.announce_start(self._queue, self._info.name, self._options)
        self._supervision.ready(self._status())
        try:
            now = clock.both()
            while not self._shutdown.advance(now):
                self._update_supervisor(now.s)
                with self._queue.events.together():
                    self._run_round(now)
                now = clock.both()
                messages = self._wake_ups.wait(self._wait_s(now.s), now.s)
                for runner, data in messages:
                    self._receive(runner, data)
                now = clock.both()
                self._fetcher.schedule.rang |= self._wake_ups.rang(now.s)
        except SessionLostError as error:
            # This worker was removed: others may own its jobs already, so nothing of them may be stored.
            self._announce(str(error))
            self._pool.kill()
            return 1
        finally:
            self._supervision.stopping()
            self._leave()
        # What could not be stored is not lost, but somebody should know: the next worker goes on from there.
        return 1 if self._shutdown.is_broken() or len(self._in_flight) else 0

    def _run_round(self, now: Now) -> None:
        rang = self._fetcher.schedule.rang
        self._pool.enforce_deadlines(now.s)
        is_time = now.s >= self._duties_at
        if is_time:
            self._do_duties(now.s)
            now = clock.both()
        self._begin(now)
        if rang and not is_time:
            # Perhaps somebody wants a job cancelled. Mostly it is a new job, and that waits for nothing else.
            self._do_duties(now.s)
            self._begin(clock.both())

    # Run

    def _begin(self, now: Now) -> None:
        if not self._shutdown.is_stopping:
            self._fetcher.fetch(now)
        self._assign()

    def _assign(self) -> None:
        """Give claimed jobs to runners that have room, in order."""
        now = clock.both()  # what came before may have taken long, and none of that is part of a job's timeout
        depth = self._throughput.depth()
        room = self._pool.room_of_each(depth, now.s)
        alone = 0
        for claim in list(self._in_flight.waiting):
            if self._shutdown.is_stopping:
                break
            if self._needs_fresh_process(claim):
                runner = self._pool.unused()
                alone += runner is None
                if runner is None and self._pool.make_unused(alone, now.s):
                    room = self._pool.room_of_each(depth, now.s)
                    continue  # soon; those behind it need not wait for that
            else:
                runner = room.most()
            if runner is None:
                break
            self._in_flight.waiting.remove(claim)
            room.take(runner)
            self._start(runner, claim, now)
        self._pool.flush()
        if depth > 1:
            self._pool.prepare(now.s)  # with jobs as short as that, the start of a process would be felt

    def _needs_fresh_process(self, claim: Claim) -> bool:
        target = self._queue.allowlist.find(claim.job.class_name, claim.job.method)
        return target is not None and bool(run_as.other(target.policy))

    def _start(self, runner: Runner, claim: Claim, now: Now) -> None:
        try:
            assignment = self._assignment(claim, runner, now.at)
        except NotAllowedError:
            self._in_flight.admit_or_refuse(claim, now)  # the allowlist changed since the job was claimed
            return
        began = runner.assign(assignment, now.s)
        if began is not None:
            self._take_report(began, now)

    def _assignment(self, claim: Claim, runner: Runner, at: datetime) -> Assignment:
        """Return the assignment for a claimed job that this ready runner is to run. Raises NotAllowedError."""
        assert runner.ready is not None  # noqa: S101 - only ready runners have room
        target = self._queue.allowlist.target_for(claim.job)
        policy = lifecycle.with_options_of(target.policy, claim.job)
        begun = lifecycle.started(claim.job, worker=self._info.name, at=at)
        begin = self._session.begin(claim, slot=runner.slot, pid=runner.ready.pid, birth=runner.ready.birth)
        message = run_message(target, begun, policy, begin=begin)
        return Assignment(begun, message, policy)

    def _receive(self, runner: object, data: bytes) -> None:
        """Read what a runner has sent; give it more to do, then store what became of its last jobs."""
        with self._queue.events.together():
            now = clock.both()
            reports = list(self._pool.receive(runner, data, now.s))
            if not any(isinstance(report, Returned) for report in reports):
                self._assign()  # first of all: the runner need not wait until the last jobs are stored
            for report in reports:
                self._stale.check(report, now.s)
                self._take_report(report, now)

    def _take_report(self, report: Report, now: Now) -> None:
        claim = self._in_flight.claim_of(report.assignment.job.id)
        if claim is None:
            return  # it is not ours any more
        match report:
            case Began(assignment=held):
                self._queue.events.emit(Started(held.job, now.at))
            case Finished(died=False):
                self._finish(claim, report, now)
            case Finished():
                self._finish_died(claim, report, now)
            case Returned(gone=True, reason=reason):
                self._announce(f"lost the claim on job {claim.job.id}: {reason}")
                self._in_flight.forget(claim)
            case Returned(trouble=True) | Returned(begun=True):
                if report.trouble:
                    self._fetcher.schedule.pause(now.s)
                self._in_flight.return_failed_start(claim, report.assignment, report.reason, now.at)
            case Returned(assignment=held, reason=reason):
                stopping = self._shutdown.is_stopping
                self._in_flight.return_not_started(claim, held, now.at, stopping=stopping, reason=reason)

    def _finish_died(self, claim: Claim, report: Finished, now: Now) -> None:
        """Find out how far an attempt had come whose runner has died, and store what became of it."""
        recorded = self._session.attempt(claim)
        if recorded.succeeded_ms is not None:
            outcome = Succeeded(note="its process died right after that")
            self._finish(claim, replace(report, outcome=outcome, recorded_ms=recorded.succeeded_ms), now)
        elif recorded.begun:
            self._finish(claim, report, now)
        else:
            stopping = self._shutdown.is_stopping
            self._in_flight.return_not_started(claim, report.assignment, now.at, stopping=stopping)

    # Finish

    def _finish(self, claim: Claim, report: Finished, now: Now) -> None:
        """Decide what becomes of the job, and store that."""
        recorded = report.recorded_ms is not None
        at = now.at if report.recorded_ms is None else moment(report.recorded_ms)
        running, policy = report.running(), report.assignment.policy
        verdict = lifecycle.after(running, report.outcome, policy, at, random.random())  # noqa: S311 - jitter, no secret
        if self._in_flight.finish(Finish(claim=claim, running=running, verdict=verdict, at=at, recorded=recorded)):
            self._queue.events.emit(Decided(running, verdict, report.outcome, at))
        if not isinstance(report.outcome, Interrupted):
            self._fetcher.job_ended()
        if report.took is not None:
            self._throughput.job_ended(report.took + (START_S if report.assignment.message.user else 0.0), now.s)

    # Beside that

    def _update_supervisor(self, now: float) -> None:
        if self._shutdown.is_stopping:
            self._supervision.stopping()
        self._supervision.update(now, self._status)

    def _status(self) -> str:
        busy, runners = len(self._pool.busy()), self._options.concurrency
        return f"{busy} of {runners} runners busy, jobs ended: {self._fetcher.ended}"

    def _do_duties(self, now: float) -> None:
        """Do what has to be done now and then: stop what is cancelled, recover jobs, notice changes."""
        self._duties_at = now + DUTIES_EVERY_S
        told, self._duty_failures = self._duty_failures, set()
        for duty in self._duties():  # each by itself: one that always fails must not prevent the others
            try:
                duty(clock.both())
            except SyncFailedError as error:
                self._announce(str(error))
                self._in_flight.disk_failed = True
            except (OSError, SpoolError, ClaimLostError) as error:
                # A full descriptor table, a failing disk: running jobs go on, and the next time tries again.
                failure = f"cannot look after the queue: {why(error)}"
                if failure not in told | self._duty_failures:  # not again each second for as long as it lasts
                    self._announce(failure)
                self._duty_failures.add(failure)
                self._duties_at = now + RETRY_S

    def _duties(self) -> Iterator[Callable[[Now], object]]:
        yield self._check_runners
        yield self._stop_cancelled
        yield self._count_stop_requests
        yield lambda now: self._in_flight.retry_pending_writes(now.at)
        if self._shutdown.is_stopping:
            return
        yield self._return_overdue
        yield self._reload
        yield self._in_flight.recheck_undecided
        yield lambda _: recover(self._session, self._queue)
        yield self._import
        yield lambda _: self._tidy.run(self._begin_tidying, time.monotonic)

    def _check_runners(self, now: Now) -> None:
        for report in self._pool.check_runners(now.s):
            self._take_report(report, clock.both())  # what the runner did before it died is in the past now

    def _stop_cancelled(self, now: Now) -> None:
        """Stop the jobs that somebody asked to cancel; show others that this worker lives."""
        progress, dropped = self._pool.progress(), self._queue.events.dropped
        for job_id, by in self._session.renew(progress, stale=self._stale.is_stale(), dropped=dropped).items():
            if not self._pool.cancel(job_id, by, now.s):
                self._in_flight.cancel_waiting(job_id, by, now.at)

    def _count_stop_requests(self, _: Now) -> None:
        """Stop when somebody asked for it without a signal."""
        for _request in range(self._session.stop_requests()):
            self._requests.add()

    def _return_overdue(self, now: Now) -> None:
        """Take back and release jobs that were claimed or sent ahead and cannot begin soon."""
        self._pool.recall_overdue(now.s)
        self._in_flight.release_overdue(self._pool.room(1, now.s), now)

    def _reload(self, now: Now) -> None:
        if self._config.changed(now.s):
            self._pool.renew(now.s)

    def _import(self, _: Now) -> None:
        self._fetcher.schedule.may_be_more |= import_jobs(self._session, self._queue) > 0

    def _begin_tidying(self) -> Iterator[int]:
        settings = self._queue.settings
        return self._session.tidy(keep_done=settings.keep_done, keep_failed=settings.keep_failed)

    def _wait_s(self, now: float) -> float:
        """Return how many seconds to wait at most for a message, a signal or a ring."""
        moments = [self._duties_at, self._pool.deadline(), self._supervision.ping_at]
        if not self._shutdown.is_stopping and self._pool.room(1, now) > len(self._in_flight.waiting):
            moments.append(self._fetcher.schedule.next_at)
        return max(0.0, min(UNSENT_S if self._pool.has_unsent() else DUTIES_EVERY_S, min(moments) - now))

    # End

    def _leave(self) -> None:
        self._pool.close(time.monotonic(), is_urgent=lambda: self._requests.count > 1)
        self._poller.close()
        try:
            self._session.leave()
        except OSError as error:
            self._announce(f"cannot remove the files of this worker: {why(error)}")
