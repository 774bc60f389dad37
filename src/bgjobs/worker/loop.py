"""The worker: claim, run, finish, again. One thread, one loop; the code of jobs runs in child processes alone."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs import __version__, audit, clock, lifecycle, system, users
from bgjobs.backend import Selection, WorkerInfo
from bgjobs.errors import ClaimLostError, NotAllowedError, SessionLostError, SyncFailedError, why
from bgjobs.job import Interrupted, moment
from bgjobs.worker import assignments, housekeeping
from bgjobs.worker.claiming import Claiming
from bgjobs.worker.ending import Ending, StopRequests
from bgjobs.worker.hearing import Hearing
from bgjobs.worker.holdings import Holdings
from bgjobs.worker.pace import Pace
from bgjobs.worker.pool import Pool
from bgjobs.worker.runners import Began, Finished, Returned
from bgjobs.worker.stale_code import StaleCode
from bgjobs.worker.supervision import Supervision
from bgjobs.worker.voice import Voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.backend import Claim
    from bgjobs.queue import Queue
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.runners import Report, Runner

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
    audit.refuse(queue.settings, queue.allowlist)
    users.refuse(users.those_of(queue.allowlist, options.only))
    _open_standard_descriptors()
    requests = StopRequests()
    # Before it has a place: from then on it ends in order, whenever it is asked to.
    with system.adopting(), system.stop_requests(requests.add, then_exit=then_exit):
        return Worker(queue, options, requests, arrived).run()


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
            version=__version__,
        )
        selection = Selection(classes=options.only or None, min_priority=options.min_priority)
        self._session = queue.backend.join(self._info, selection)
        if arrived is not None:
            self._arrive(arrived)
        self._poller = system.Poller()
        self._hearing = Hearing(self._poller, self._session.bell)
        self._pool = Pool(queue, self._session, self._poller, options, self._say)
        self._watch = housekeeping.Watch(queue, only=options.only, say=self._say)
        self._stale = StaleCode(queue, self._pool, self._say)
        self._tidying = housekeeping.Tidying()
        self._pace = Pace()
        watch = self._watch
        self._holdings = Holdings(queue, self._session, self._say, watch.is_current, watch.keys_are_current)
        self._claiming = Claiming(
            self._session, self._pool, self._holdings, self._hearing, self._pace, most=options.max_jobs, say=self._say
        )
        self._ending = Ending(
            queue, options, self._pool, self._holdings, self._claiming, requests=requests, say=self._say
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
                with self._queue.log.together():
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
        return 1 if self._ending.is_broken() or len(self._holdings) else 0

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
        for claim in list(self._holdings.waiting):
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
            self._holdings.waiting.remove(claim)
            rooms.take(runner)
            self._start(runner, claim)
        self._pool.flush()
        if depth > 1:
            self._pool.prepare()  # with jobs as short as that, the start of a process would be felt

    def _needs_fresh_process(self, claim: Claim) -> bool:
        target = self._queue.allowlist.find(claim.job.class_name, claim.job.method)
        return target is not None and bool(users.other(target.policy))

    def _start(self, runner: Runner, claim: Claim) -> None:
        try:
            held = assignments.assignment(self._queue, self._session, claim, worker=self._info.name, runner=runner)
        except NotAllowedError:
            self._holdings.admits(claim)  # the allowlist changed since the job was claimed
            return
        began = runner.assign(held)
        if began is not None:
            self._take_report(began)

    def _hear(self, runner: object, data: bytes) -> None:
        with self._queue.log.together():
            reports = list(self._pool.hear(runner, data))
            if not any(isinstance(report, Returned) for report in reports):
                self._assign()  # first of all: the runner need not wait while we do the books of the last jobs
            for report in reports:
                self._stale.hear(report)
                self._take_report(report)

    def _take_report(self, report: Report) -> None:
        claim = self._holdings.claim_of(report.assignment.job.id)
        if claim is None:
            return  # it is not ours any more
        match report:
            case Began(assignment=held):
                self._queue.log.started(held.job, clock.now())
            case Finished(died=False):
                self._finish(claim, report)
            case Finished() if (recorded := self._session.recorded(claim)) is not None:
                self._finish(claim, replace(report, outcome=recorded.outcome, recorded_ms=recorded.at))
            case Finished() if not self._session.has_begun(claim):
                self._holdings.return_unbegun(claim, report.assignment, stopping=self._ending.has_begun)
            case Finished():
                self._finish(claim, report)
            case Returned(gone=True, reason=reason):
                self._say(f"job {claim.job.id} is lost to us: {reason}")
                self._holdings.forget(claim)
            case Returned(trouble=True) | Returned(begun=True):
                self._return_untried(claim, report)
            case Returned(assignment=held, reason=reason):
                self._holdings.return_unbegun(claim, held, stopping=self._ending.has_begun, reason=reason)

    def _return_untried(self, claim: Claim, report: Returned) -> None:
        if report.trouble:
            self._claiming.pause()
        self._holdings.return_untried(claim, report.assignment, report.reason)

    # Finish

    def _finish(self, claim: Claim, report: Finished) -> None:
        """See to it that what became of the job is stored."""
        if report.recorded_ms is None:
            self._decide(claim, report)
        elif self._holdings.settle(claim, report.recorded_ms):
            job = report.assignment.job
            self._queue.log.ended(job, job, report.outcome, moment(report.recorded_ms))
        if not isinstance(report.outcome, Interrupted):
            self._claiming.count_ended()
        if report.took is not None:
            self._pace.count(report.took + (START_S if report.assignment.message.user else 0.0))

    def _decide(self, claim: Claim, report: Finished) -> None:
        """Decide what becomes of the job, and store it."""
        now, running, outcome = clock.now(), report.running(), report.outcome
        policy = report.assignment.policy
        job = lifecycle.after(running, outcome, policy, now, random.random())  # noqa: S311 - jitter, not a secret
        if self._holdings.store(claim, job):
            self._queue.log.ended(running, job, outcome, now)

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
        steps = (self._look_after_runners, self._obey_cancels, self._obey_stops, self._holdings.pay, self._keep_house)
        for step in steps:  # each by itself: one that fails every time must not keep us from doing the others
            try:
                step()
            except SyncFailedError as error:
                self._say(str(error))
                self._holdings.disk_failed = True
            except (OSError, ClaimLostError) as error:
                # A full descriptor table, a failing disk: running jobs go on, and the next tick tries again.
                self._say(f"cannot look after the queue: {why(error)}")
                self._tick_at = now + TROUBLE_PAUSE_S

    def _look_after_runners(self) -> None:
        for report in self._pool.look_after():
            self._take_report(report)
        self._stale.tell(self._session)

    def _keep_house(self) -> None:
        if self._ending.has_begun:
            return
        self._pool.recall(overdue_only=True)
        self._holdings.give_back_overdue(self._pool.room(1))
        if self._watch.changed():
            self._pool.renew()
        self._holdings.judge_again()
        housekeeping.recover(self._session, self._queue)
        self._claiming.may_be_more |= housekeeping.import_jobs(self._session, self._queue) > 0
        self._tidying.check(self._session, self._queue.settings)

    def _obey_cancels(self) -> None:
        """Stop the jobs that somebody asked to cancel."""
        for job_id, by in self._session.renew(self._pool.progress()).items():
            if not self._pool.cancel(job_id, by):
                self._holdings.cancel_waiting(job_id, by)

    def _obey_stops(self) -> None:
        """Stop when somebody asked for it without a signal."""
        for _ in range(self._session.stop_requests()):
            self._requests.add()

    def _patience(self) -> float:
        """Return how long to wait at most, in seconds."""
        now = time.monotonic()
        moments = [self._tick_at, self._pool.deadline(), self._supervision.due_at]
        if not self._ending.has_begun and self._pool.room(1) > len(self._holdings.waiting):
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
