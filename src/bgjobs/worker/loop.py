"""The worker: claim, run, finish, again. One thread, one loop; the code of jobs runs in child processes alone."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs import clock, lifecycle, system
from bgjobs.config import run_as, trust
from bgjobs.errors import ClaimLostError, NotAllowedError, SessionLostError, SyncFailedError, why
from bgjobs.events import Decided, Started
from bgjobs.job import Interrupted, Succeeded, moment
from bgjobs.queue import store_of
from bgjobs.store import Finish, Selection, WorkerInfo
from bgjobs.version import version
from bgjobs.worker import duties, limits
from bgjobs.worker.announce import Supervision, Voice
from bgjobs.worker.fetch import Claiming, Hearing, Pace
from bgjobs.worker.in_flight import InFlight
from bgjobs.worker.pool import Pool
from bgjobs.worker.protocol import Run
from bgjobs.worker.runner import Assignment, Began, Finished, Returned
from bgjobs.worker.shutdown import Ending, StopRequests
from bgjobs.worker.stale_code import StaleCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.queue import Queue
    from bgjobs.store import Claim, Session
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.runner import Report, Runner

TICK_S = 0.25
TROUBLE_PAUSE_S = 1.0
BEHIND_S = 0.01
START_S = 0.1  # about what it takes to start a fresh process for a job that needs one


def run(
    queue: Queue,
    options: WorkerOptions,
    arrived: Callable[[str, WorkerInfo], None] | None = None,
    *,
    then_exit: bool = False,
) -> int:
    """Be a worker until asked to stop, or until there is nothing left to do; return the exit status.

    `arrived` is called with its id once it has a place, before it starts any runner. With `then_exit` the process has
    nothing to do afterwards but exit with that status, and no signal that asks it to stop changes it any more. Raises
    ConfigError where another user could choose what runs, or where no job can run as the user that it has.
    """
    trust.refuse(queue.settings, queue.allowlist)
    run_as.refuse(run_as.those_of(queue.allowlist, options.only))
    _open_standard_descriptors()
    requests = StopRequests()
    # Before it has a place: from then on it ends in order, whenever it is asked to.
    with system.adopting(), system.stop_requests(requests.add, then_exit=then_exit):
        return Worker(queue, options, requests, arrived).run()


def _assignment(queue: Queue, session: Session, claim: Claim, *, worker: str, runner: Runner) -> Assignment:
    """Return the assignment for a claimed job that this ready runner is to run. Raises NotAllowedError."""
    assert runner.ready is not None  # noqa: S101 - only ready runners have room
    job = claim.job
    target = queue.allowlist.target_for(job)
    policy = lifecycle.with_wishes(target.policy, job)
    begun = lifecycle.started(job, worker=worker, at=clock.now())
    message = Run(
        id=job.id,
        attempt=begun.charged,
        retries=job.retries,
        class_name=job.class_name,
        method=job.method,
        module=target.module,
        owner=target.owner,
        args=job.args,
        kwargs=job.kwargs,
        text=job.text,
        secret=target.secret,
        begin=session.begin(claim, slot=runner.slot, pid=runner.ready.pid, birth=runner.ready.birth),
        keep_output=session.output_path(claim),
        max_output=policy.max_output,
        limits=limits.of(policy),
        user=run_as.other(policy),
        number=begun.attempts[-1].number,
        crashes=begun.crashes,
    )
    return Assignment(begun, message, policy)


def _open_standard_descriptors() -> None:
    """Open what a strange parent left closed: a runner's own pipes must not come to lie on 0, 1 or 2."""
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
        """Take a place in the queue. Raises SpoolError."""
        self._supervision = Supervision()
        self._queue = queue
        self._options = options
        self._requests = requests
        self._voice = Voice(quiet=options.quiet)
        self._say = self._voice.say
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
        self._session = store_of(queue).join(self._info, selection)
        if arrived is not None:
            self._arrive(arrived)
        self._poller = system.Poller()
        self._hearing = Hearing(self._poller, self._session.bell)
        self._pool = Pool(queue, self._session, self._poller, options, self._say)
        self._watch = duties.Watch(queue, only=options.only, say=self._say)
        self._stale = StaleCode(queue, self._pool, self._say)
        self._tidying = duties.Tidying()
        self._pace = Pace()
        watch = self._watch
        self._in_flight = InFlight(queue, self._session, self._say, watch.is_current, watch.keys_are_current)
        self._claiming = Claiming(
            self._session, self._pool, self._in_flight, self._hearing, self._pace, most=options.max_jobs, say=self._say
        )
        self._ending = Ending(
            queue, options, self._pool, self._in_flight, self._claiming, requests=requests, say=self._say
        )
        self._tick_at = 0.0

    def _arrive(self, arrived: Callable[[str, WorkerInfo], None]) -> None:
        try:
            arrived(self._session.id, self._info)
        except OSError:
            self._session.leave()
            raise

    def run(self) -> int:
        """Claim, run, finish, again."""
        self._voice.greet(self._queue, self._info.name, self._options)
        self._supervision.ready(self._status())
        try:
            while not self._ending.is_over():
                self._report()
                with self._queue.events.together():
                    self._go_round()
                for runner, data in self._hearing.wait(self._patience()):
                    self._hear(runner, data)
                self._claiming.rang = self._hearing.rang() or self._claiming.rang
        except SessionLostError as error:
            # Our place is gone: others may own our jobs already, so nothing of them may be stored.
            self._say(str(error))
            self._pool.kill()
            return 1
        finally:
            self._supervision.stopping()
            self._leave()
        # What could not be stored is not lost, but somebody should know: the next worker goes on from there.
        return 1 if self._ending.is_broken() or len(self._in_flight) else 0

    def _go_round(self) -> None:
        rang = self._claiming.rang
        now = time.monotonic()
        self._pool.keep_deadlines(now)
        is_time = now >= self._tick_at
        if is_time:
            self._look_around(now)
        self._begin()
        if rang and not is_time:
            # Perhaps it was a wish. A new job is what it mostly is, and that waits for nobody else.
            self._look_around(now)
            self._begin()

    # Run

    def _begin(self) -> None:
        if not self._ending.has_begun:
            self._claiming.go_on()
        self._assign()

    def _assign(self) -> None:
        """Give claimed jobs to runners that have room, in order."""
        depth = self._pace.depth()
        rooms = self._pool.rooms(depth)
        alone = 0
        for claim in list(self._in_flight.waiting):
            if self._ending.has_begun:
                break
            if self._needs_fresh_process(claim):
                runner = self._pool.unused()
                alone += runner is None
                if runner is None and self._pool.make_unused(alone):
                    rooms = self._pool.rooms(depth)
                    continue  # soon; those behind it need not wait for that
            else:
                runner = rooms.roomiest()
            if runner is None:
                break
            self._in_flight.waiting.remove(claim)
            rooms.take(runner)
            self._start(runner, claim)
        self._pool.flush()
        if depth > 1:
            self._pool.prepare()  # with jobs as short as that, the start of a process would be felt

    def _needs_fresh_process(self, claim: Claim) -> bool:
        target = self._queue.allowlist.find(claim.job.class_name, claim.job.method)
        return target is not None and bool(run_as.other(target.policy))

    def _start(self, runner: Runner, claim: Claim) -> None:
        try:
            held = _assignment(self._queue, self._session, claim, worker=self._info.name, runner=runner)
        except NotAllowedError:
            self._in_flight.admits(claim)  # the allowlist changed since the job was claimed
            return
        began = runner.assign(held)
        if began is not None:
            self._take_report(began)

    def _hear(self, runner: object, data: bytes) -> None:
        with self._queue.events.together():
            reports = list(self._pool.hear(runner, data))
            if not any(isinstance(report, Returned) for report in reports):
                self._assign()  # first of all: the runner need not wait while we do the books of the last jobs
            for report in reports:
                self._stale.hear(report)
                self._take_report(report)

    def _take_report(self, report: Report) -> None:
        claim = self._in_flight.claim_of(report.assignment.job.id)
        if claim is None:
            return  # it is not ours any more
        match report:
            case Began(assignment=held):
                self._queue.events.emit(Started(held.job, clock.now()))
            case Finished(died=False):
                self._finish(claim, report)
            case Finished():
                self._take_death(claim, report)
            case Returned(gone=True, reason=reason):
                self._say(f"job {claim.job.id} is lost to us: {reason}")
                self._in_flight.forget(claim)
            case Returned(trouble=True) | Returned(begun=True):
                self._return_untried(claim, report)
            case Returned(assignment=held, reason=reason):
                self._in_flight.return_unbegun(claim, held, stopping=self._ending.has_begun, reason=reason)

    def _take_death(self, claim: Claim, report: Finished) -> None:
        """Find out how far an attempt had come whose runner has died, and store what became of it."""
        recorded = self._session.attempt(claim)
        if recorded.succeeded_ms is not None:
            outcome = Succeeded(note="its process died right after that")
            self._finish(claim, replace(report, outcome=outcome, recorded_ms=recorded.succeeded_ms))
        elif recorded.begun:
            self._finish(claim, report)
        else:
            self._in_flight.return_unbegun(claim, report.assignment, stopping=self._ending.has_begun)

    def _return_untried(self, claim: Claim, report: Returned) -> None:
        if report.trouble:
            self._claiming.pause()
        self._in_flight.return_untried(claim, report.assignment, report.reason)

    # Finish

    def _finish(self, claim: Claim, report: Finished) -> None:
        """See to it that what became of the job is stored."""
        recorded = report.recorded_ms is not None
        at = clock.now() if report.recorded_ms is None else moment(report.recorded_ms)
        running, policy = report.running(), report.assignment.policy
        verdict = lifecycle.after(running, report.outcome, policy, at, random.random())  # noqa: S311 - jitter, no secret
        if self._in_flight.finish(Finish(claim=claim, running=running, verdict=verdict, at=at, recorded=recorded)):
            self._queue.events.emit(Decided(running, verdict, report.outcome, at))
        if not isinstance(report.outcome, Interrupted):
            self._claiming.count_ended()
        if report.took is not None:
            self._pace.count(report.took + (START_S if report.assignment.message.user else 0.0))

    # Beside that

    def _report(self) -> None:
        """Tell who supervises us that we live, and what we do."""
        if self._ending.has_begun:
            self._supervision.stopping()
        self._supervision.alive(self._status)

    def _status(self) -> str:
        busy, runners = len(self._pool.busy()), self._options.concurrency
        return f"{busy} of {runners} runners busy, jobs ended: {self._claiming.ended}"

    def _look_around(self, now: float) -> None:
        """Do what has to be done now and then: obey wishes, look after the others, notice changes."""
        self._tick_at = now + TICK_S
        steps = (
            self._look_after_runners,
            self._obey_cancels,
            self._obey_stops,
            self._in_flight.retry_pending_writes,
            self._keep_house,
        )
        for step in steps:  # each by itself: one that fails every time must not keep us from doing the others
            try:
                step()
            except SyncFailedError as error:
                self._say(str(error))
                self._in_flight.disk_failed = True
            except (OSError, ClaimLostError) as error:
                # A full descriptor table, a failing disk: running jobs go on, and the next tick tries again.
                self._say(f"cannot look after the queue: {why(error)}")
                self._tick_at = now + TROUBLE_PAUSE_S

    def _look_after_runners(self) -> None:
        for report in self._pool.look_after():
            self._take_report(report)

    def _keep_house(self) -> None:
        if self._ending.has_begun:
            return
        self._pool.recall(overdue_only=True)
        self._in_flight.release_overdue(self._pool.room(1))
        if self._watch.changed():
            self._pool.renew()
        self._in_flight.decide_again()
        duties.recover(self._session, self._queue)
        self._claiming.may_be_more |= duties.import_jobs(self._session, self._queue) > 0
        self._tidying.check(self._session, self._queue.settings)

    def _obey_cancels(self) -> None:
        """Stop the jobs that somebody asked to cancel."""
        progress, dropped = self._pool.progress(), self._queue.events.dropped
        for job_id, by in self._session.renew(progress, stale=self._stale.look(), dropped=dropped).items():
            if not self._pool.cancel(job_id, by):
                self._in_flight.cancel_waiting(job_id, by)

    def _obey_stops(self) -> None:
        """Stop when somebody asked for it without a signal."""
        for _ in range(self._session.stop_requests()):
            self._requests.add()

    def _patience(self) -> float:
        """Return how long to wait at most, in seconds."""
        now = time.monotonic()
        moments = [self._tick_at, self._pool.deadline(), self._supervision.due_at]
        if not self._ending.has_begun and self._pool.room(1) > len(self._in_flight.waiting):
            moments.append(self._claiming.next_at)
        return max(0.0, min(BEHIND_S if self._pool.behind() else TICK_S, min(moments) - now))

    # End

    def _leave(self) -> None:
        self._pool.close(hurried=lambda: self._requests.count > 1)
        self._poller.close()
        try:
            self._session.leave()
        except OSError as error:
            self._say(f"left traces behind: {why(error)}")
