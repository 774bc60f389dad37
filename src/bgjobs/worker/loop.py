"""The worker: claim, run, finish, again. One thread, one loop; the code of jobs runs in child processes alone."""

from __future__ import annotations

import os
import random
import sys
import time
from typing import TYPE_CHECKING

from bgjobs import __version__, clock, lifecycle, system
from bgjobs.backend import Selection, WorkerInfo
from bgjobs.errors import BgjobsError, ClaimLostError, NotAllowedError, SessionLostError, SyncFailedError
from bgjobs.job import Interrupted
from bgjobs.worker import assignments, housekeeping
from bgjobs.worker.hearing import Hearing
from bgjobs.worker.holdings import Holdings
from bgjobs.worker.pace import Pace
from bgjobs.worker.pool import Pool
from bgjobs.worker.runners import Began, Finished, Returned, Why

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bgjobs.backend import Claim, Unfinished
    from bgjobs.queue import Queue
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.runners import Assignment, Report, Runner

TICK_S = 0.25
POLL_S = 1.0
TROUBLE_PAUSE_S = 1.0
BEHIND_S = 0.01


def run(queue: Queue, options: WorkerOptions) -> int:
    """Be a worker until asked to stop, or until there is nothing left to do; return the exit status."""
    _open_standard_descriptors()
    worker = Worker(queue, options)
    with system.stop_requests(worker.asked_to_stop):
        return worker.run()


def _open_standard_descriptors() -> None:
    """Open what a strange parent left closed: a runner's own pipes must not come to lie on 0, 1 or 2."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


class Worker:
    """Runs the jobs of one queue."""

    def __init__(self, queue: Queue, options: WorkerOptions) -> None:
        """Take a place in the queue. Raises SpoolError."""
        self._queue = queue
        self._options = options
        self._info = WorkerInfo(
            host=system.host(),
            pid=os.getpid(),
            concurrency=options.concurrency,
            started_at=clock.now(),
            version=__version__,
        )
        selection = Selection(classes=options.only or None, min_priority=options.min_priority)
        self._session = queue.backend.join(self._info, selection)
        self._poller = system.Poller()
        self._hearing = Hearing(self._poller, self._session.bell)
        self._pool = Pool(queue, self._session, self._poller, options, self._say)
        self._watch = housekeeping.Watch(queue, code=options.reload, say=self._say)
        self._tidying = housekeeping.Tidying()
        self._pace = Pace()
        self._holdings = Holdings(queue, self._session, self._say)
        self._may_be_more = True
        self._rang = False
        self._ended = 0
        self._stops = 0
        self._asked_at: float | None = None
        self._announced = False
        self._stopping_since: float | None = None
        self._interrupted = False
        self._tick_at = self._look_at = self._claim_at = 0.0
        self._end_at = time.monotonic() + options.max_time.total_seconds() if options.max_time else None

    def asked_to_stop(self) -> None:
        """Stop soon. Called by the signal handler, perhaps more than once."""
        self._stops += 1
        self._asked_at = self._asked_at or time.monotonic()
        self._poller.wake()

    def run(self) -> int:
        """Claim, run, finish, again."""
        self._greet()
        try:
            while not self._is_over():
                with self._queue.log.together():
                    self._tick()
                    self._claim()
                    self._assign()
                for runner, data in self._hearing.wait(self._patience()):
                    self._hear(runner, data)
                self._rang = self._hearing.rang() or self._rang
        except SessionLostError as error:
            # Our place is gone: others may own our jobs already, so nothing of them may be stored.
            self._say(str(error))
            self._pool.kill()
            return 1
        finally:
            self._leave()
        # What could not be stored is not lost, but somebody should know: the next worker goes on from there.
        return 1 if self._is_broken() or len(self._holdings) else 0

    # Claim

    def _claim(self) -> None:
        """Claim as much as the runners can take, and a little ahead when jobs are short."""
        now = time.monotonic()
        if self._stopping_since is not None or now < self._claim_at:
            return
        if now >= self._look_at:
            self._may_be_more = True
        if self._rang:
            self._rang = False
            self._may_be_more = True
            self._let_overtake()
        room = self._pool.room(self._pace.depth()) - len(self._holdings.waiting)
        if room > 0 and self._may_be_more:
            self._take(self._limited(self._pace.batch(room)), above=-1)

    def _let_overtake(self) -> None:
        """See new jobs of a higher priority before one that was claimed or sent ahead starts."""
        sent = self._pool.sent_ahead()
        ahead = [*sent, *(claim.job for claim in self._holdings.waiting)]
        if ahead:
            self._take(self._limited(len(ahead)), above=min(job.priority for job in ahead))
            waiting = self._holdings.waiting
            if sent and waiting and waiting[0].job.priority > min(job.priority for job in sent):
                self._pool.recall()

    def _take(self, most: int, *, above: int) -> None:
        if most <= 0:
            return
        try:
            claims = self._session.claim(most, above=above)
        except (OSError, BgjobsError) as error:
            # A full descriptor table, a disk that went read-only: nothing is lost by trying again later.
            self._say(f"cannot claim jobs: {error}")
            self._claim_at = time.monotonic() + TROUBLE_PAUSE_S
            return
        if claims:
            self._hearing.found()
        self._may_be_more = above >= 0 or len(claims) == most
        due = self._session.next_due()
        wait = POLL_S if due is None else (due - clock.now()).total_seconds()
        self._look_at = time.monotonic() + min(POLL_S, max(0.0, wait))
        self._holdings.add(claims)

    def _limited(self, most: int) -> int:
        if self._options.max_jobs is None:
            return most
        return min(most, self._options.max_jobs - self._ended - len(self._holdings))

    # Run

    def _assign(self) -> None:
        """Give claimed jobs to runners that have room, in order."""
        depth = self._pace.depth()
        while self._holdings.waiting and self._stopping_since is None:
            runner = self._pool.roomiest(depth)
            if runner is None:
                break
            self._start(runner, self._holdings.waiting.pop(0))
        self._pool.flush()

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
            for report in self._pool.hear(runner, data):
                self._take_report(report)

    def _take_report(self, report: Report) -> None:
        claim = self._holdings.claim_of(report.assignment.job.id)
        if claim is None:
            return  # it is not ours any more
        match report:
            case Began(assignment=held):
                self._queue.log.started(held.job, clock.now())
            case Finished(died=True) if not self._session.has_begun(claim):
                self._put_back(claim, report.assignment)
            case Finished():
                if self._pace.depth() == 1:
                    self._assign()  # first of all: the runner need not wait while we do the books of the last job
                self._finish(claim, report)
            case Returned(gone=True, reason=reason):
                self._say(f"job {claim.job.id} is lost to us: {reason}")
                self._holdings.forget(claim)
            case Returned(trouble=True, assignment=held, reason=reason):
                self._claim_at = time.monotonic() + TROUBLE_PAUSE_S
                self._return_untried(claim, held, reason)
            case Returned(assignment=held, reason=reason):
                self._put_back(claim, held, reason)

    def _return_untried(self, claim: Claim, held: Assignment, reason: str) -> None:
        """Put back a job whose runner could not write that it begins; if it could after all, take that back."""
        if not self._session.has_begun(claim):
            self._holdings.give_back(claim, reason)
            return
        now = clock.now()
        job = lifecycle.after(held.job, Interrupted(), held.policy, now, 0.0)
        if self._holdings.store(claim, job):
            self._queue.log.handed_back(claim.job, now, reason)

    def _put_back(self, claim: Claim, held: Assignment, reason: str = "") -> None:
        """Do what is to be done with a job that was sent to a runner and not begun."""
        if held.why is Why.CANCELLED:
            self._holdings.end_cancelled(claim, held.asked_by)
        elif self._stopping_since is not None:
            self._holdings.give_back(claim, Why.WORKER_STOPS.value)
        else:
            if reason:  # the log has said that it runs
                self._queue.log.handed_back(claim.job, clock.now(), reason)
            self._holdings.wait_again(claim)

    # Finish

    def _finish(self, claim: Claim, report: Finished) -> None:
        """Decide what becomes of the job, and store it."""
        now, running, outcome = clock.now(), report.running(), report.outcome
        policy = report.assignment.policy
        job = lifecycle.after(running, outcome, policy, now, random.random())  # noqa: S311 - jitter, not a secret
        if self._holdings.store(claim, job):
            self._queue.log.ended(running, job, outcome, now)
        if not isinstance(outcome, Interrupted):
            self._ended += 1
        if report.took is not None:
            self._pace.count(report.took)

    # Beside that

    def _tick(self) -> None:
        """Do what has to be done now and then: keep deadlines, look after the others, notice changes."""
        now = time.monotonic()
        self._pool.keep_deadlines(now)
        if now < self._tick_at and not self._rang:
            return
        self._tick_at = now + TICK_S
        try:
            for report in self._pool.look_after():
                self._take_report(report)
            self._obey(self._session.renew(self._pool.progress()))
            self._holdings.pay()
            if self._stopping_since is None:
                self._keep_house()
        except SyncFailedError as error:
            self._say(str(error))
            self._holdings.disk_failed = True
        except (OSError, ClaimLostError) as error:
            # A full descriptor table, a failing disk: running jobs go on, and the next tick tries again.
            self._say(f"cannot look after the queue: {error}")
            self._tick_at = now + TROUBLE_PAUSE_S

    def _keep_house(self) -> None:
        self._pool.recall(overdue_only=True)
        self._holdings.give_back_overdue(self._pool.room(1))
        if self._watch.changed():
            self._pool.renew()
        housekeeping.recover(self._session, self._queue)
        self._may_be_more |= housekeeping.import_jobs(self._session, self._queue) > 0
        self._tidying.check(self._session, self._queue.settings)

    def _obey(self, wishes: Mapping[str, str]) -> None:
        """Stop the jobs that somebody asked to cancel."""
        for job_id, by in wishes.items():
            if not self._pool.cancel(job_id, by):
                self._holdings.cancel_waiting(job_id, by)

    def _patience(self) -> float:
        """Return how long to wait at most, in seconds."""
        now = time.monotonic()
        moments = [self._tick_at, self._pool.deadline()]
        if self._stopping_since is None and self._pool.room(1) > len(self._holdings.waiting):
            moments.append(max(self._look_at, self._claim_at))
        return max(0.0, min(BEHIND_S if self._pool.behind() else TICK_S, min(moments) - now))

    # End

    def _is_over(self) -> bool:
        """Tell whether to leave: asked to, with nothing running any more, or nothing left to do."""
        if self._stopping_since is None:
            if not self._should_stop():
                return False
            self._stop_claiming()
        self._hurry()
        return not self._pool.busy()

    def _should_stop(self) -> bool:
        options = self._options
        if self._stops or self._is_broken() or (self._end_at is not None and time.monotonic() >= self._end_at):
            return True
        if options.max_jobs is not None and self._ended >= options.max_jobs:
            return True
        if not (options.drain or options.once) or self._may_be_more or self._rang or len(self._holdings):
            return False
        try:
            left = self._queue.backend.unfinished(clock.now())
        except OSError as error:
            self._say(f"cannot see what is left to do: {error}")
            return False
        if left.due and not options.only and not options.min_priority:
            self._may_be_more = True
        return self._nothing_to_do(left)

    def _is_broken(self) -> bool:
        """Tell whether it cannot go on: no runner can be started, or the disk does not keep what is written."""
        return self._pool.broken or self._holdings.disk_failed

    def _nothing_to_do(self, left: Unfinished) -> bool:
        # What we do not take is not ours to wait for, and what we take was claimed just now.
        due = left.due and not (self._options.only or self._options.min_priority)
        return not (due or left.incoming) and (self._options.once or not (left.later or left.claimed))

    def _stop_claiming(self) -> None:
        self._stopping_since = time.monotonic()
        self._holdings.give_back_waiting(Why.WORKER_STOPS.value)
        self._pool.recall()

    def _hurry(self) -> None:
        """After the grace, or at the second request, interrupt what still runs; it goes back uncharged."""
        if self._asked_at is None:
            return  # nobody asked: it stops because there is nothing left that it should begin
        grace = self._options.grace.total_seconds()
        if self._pool.busy() and not self._announced:
            self._announced = True
            self._say(f"stopping: waiting up to {grace:g} s for running jobs")
        over = time.monotonic() - self._asked_at > grace
        if (over or self._stops > 1) and not self._interrupted:
            self._interrupted = True
            self._pool.interrupt()
        if self._stops > 2:  # noqa: PLR2004 - the third request: no patience left
            self._pool.kill()

    def _leave(self) -> None:
        self._pool.close()
        self._poller.close()
        try:
            self._session.leave()
        except OSError as error:
            self._say(f"left traces behind: {error}")

    def _greet(self) -> None:
        if system.is_elevated():
            self._say("running as root: so do all jobs")
        count, runners = len(list(self._queue.allowlist)), self._options.concurrency
        self._say(
            f"worker {self._info.name}: {runners} runner{'s'[: runners != 1]}, "
            f"{count} method{'s'[: count != 1]} may run, spool {self._queue.settings.spool}"
        )

    def _say(self, text: str) -> None:
        if self._options.quiet or sys.stderr is None:
            return
        try:
            print(f"bgjobs: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's own voice
        except OSError:
            pass  # a full disk, a terminal that was closed: no reason to leave the jobs alone
