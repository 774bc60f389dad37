"""The worker: claim, run, finish, again. One thread, one loop; the code of jobs runs in child processes alone."""

from __future__ import annotations

import os
import random
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from bgjobs import __version__, lifecycle, system
from bgjobs.backend import Claim, Selection, WorkerInfo
from bgjobs.errors import BgjobsError, ClaimLostError, NotAllowedError, SessionLostError
from bgjobs.job import Cancelled, Interrupted, JobError, moment
from bgjobs.worker import assignments, housekeeping
from bgjobs.worker.pace import Pace
from bgjobs.worker.pool import Pool
from bgjobs.worker.runners import Finished, Returned, Why

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bgjobs.job import Job, Outcome
    from bgjobs.queue import Queue
    from bgjobs.worker.options import WorkerOptions
    from bgjobs.worker.runners import Report, Runner

TICK_S = 0.25
POLL_S = 1.0
PREFETCH_S = 1.0
TROUBLE_PAUSE_S = 1.0


def run(queue: Queue, options: WorkerOptions) -> int:
    """Be a worker until asked to stop, or until there is nothing left to do; return the exit status."""
    worker = Worker(queue, options)
    with system.stop_requests(worker.asked_to_stop):
        return worker.run()


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
            started_at=datetime.now(UTC),
            version=__version__,
        )
        selection = Selection(classes=options.only or None, min_priority=options.min_priority)
        self._session = queue.backend.join(self._info, selection)
        self._poller = system.Poller()
        self._poller.watch_bell(self._session.bell)
        self._pool = Pool(queue, self._session, self._poller, options)
        self._watch = housekeeping.Watch(queue, code=options.reload, say=self._say)
        self._tidying = housekeeping.Tidying()
        self._pace = Pace()
        self._waiting: list[Claim] = []  # claimed ahead, best first
        self._claimed_at = 0.0
        self._may_be_more = True
        self._rang = False
        self._owed: list[tuple[Claim, Job]] = []
        self._claims: dict[str, Claim] = {}
        self._ended = 0
        self._stops = 0
        self._stopping_since: float | None = None
        self._interrupted = False
        self._tick_at = self._look_at = self._claim_at = 0.0
        self._end_at = time.monotonic() + options.max_time.total_seconds() if options.max_time else None

    def asked_to_stop(self) -> None:
        """Stop soon. Called by the signal handler, perhaps more than once."""
        self._stops += 1
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
                for runner, data in self._poller.wait(self._patience()):
                    self._hear(runner, data)
                self._rang = self._session.bell.rang() or self._rang
        except SessionLostError as error:
            # Our place is gone: others may own our jobs already, so nothing of them may be stored.
            self._say(str(error))
            self._pool.kill()
            return 1
        finally:
            self._leave()
        return 1 if self._pool.broken else 0

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
        free = len(self._pool.idle()) - len(self._waiting)
        if free <= 0 or not self._may_be_more:
            return
        most = self._limited(self._pace.batch(free))
        self._take(most, above=-1)

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
        self._may_be_more = above >= 0 or len(claims) == most
        self._claimed_at = time.monotonic()
        due = self._session.next_due()
        wait = POLL_S if due is None else (due - datetime.now(UTC)).total_seconds()
        self._look_at = self._claimed_at + min(POLL_S, max(0.0, wait))
        self._waiting += [claim for claim in claims if self._admit(claim)]
        self._waiting.sort(key=_rank)

    def _admit(self, claim: Claim) -> bool:
        """Check a claimed job against the allowlist as it is now; a job that it refuses fails."""
        self._claims[claim.job.id] = claim
        try:
            self._queue.allowlist.target(claim.job.class_name, claim.job.method)
        except NotAllowedError as error:
            now = datetime.now(UTC)
            reason = JobError(type=error.code, message=str(error))
            if self._store(claim, lifecycle.failed(claim.job, reason, now)):
                self._queue.log.refused(claim.job, reason, now)
            return False
        return True

    def _let_overtake(self) -> None:
        """See new jobs of a higher priority before one that was claimed ahead starts."""
        if self._waiting:
            self._take(len(self._waiting), above=self._waiting[0].job.priority)

    def _limited(self, most: int) -> int:
        if self._options.max_jobs is None:
            return most
        under_way = len(self._waiting) + len(self._pool.busy())
        return min(most, self._options.max_jobs - self._ended - under_way)

    # Run

    def _assign(self) -> None:
        """Give claimed jobs to free runners."""
        for runner in self._pool.idle():
            if not self._waiting:
                return
            self._start(runner, self._waiting.pop(0))

    def _start(self, runner: Runner, claim: Claim) -> None:
        assert runner.ready is not None  # noqa: S101 - only ready runners are idle
        try:
            held = assignments.assignment(
                self._queue,
                self._session,
                claim,
                worker=self._info.name,
                slot=runner.slot,
                runner=(runner.ready.pid, runner.ready.birth),
            )
        except NotAllowedError:
            self._admit(claim)  # the allowlist changed since the job was claimed
            return
        runner.assign(held)
        self._queue.log.started(held.job, datetime.now(UTC))

    def _hear(self, runner: object, data: bytes) -> None:
        with self._queue.log.together():
            for report in self._pool.hear(runner, data):
                self._take_report(report)

    def _take_report(self, report: Report) -> None:
        claim = self._claims[report.assignment.job.id]
        match report:
            case Finished(assignment=held, outcome=outcome):
                # The next job first, then the books of this one: runners need not wait for us.
                self._assign()
                self._finish(claim, held.job, outcome, report)
            case Returned(gone=True, reason=reason):
                self._say(f"job {claim.job.id} is lost to us: {reason}")
                del self._claims[claim.job.id]
            case Returned(reason=reason):
                self._claim_at = time.monotonic() + TROUBLE_PAUSE_S
                self._give_back(claim, reason)

    # Finish

    def _finish(self, claim: Claim, running: Job, outcome: Outcome, report: Finished) -> None:
        """Decide what becomes of the job, and store it."""
        now = datetime.now(UTC)
        if report.began_ms is not None:
            *earlier, last = running.attempts
            began = msgspec.structs.replace(last, started_at=moment(report.began_ms))
            running = msgspec.structs.replace(running, attempts=(*earlier, began))
        if report.assignment.progress is not None:
            running = msgspec.structs.replace(running, progress=report.assignment.progress)
        policy = report.assignment.policy
        job = lifecycle.after(running, outcome, policy, now, random.random())  # noqa: S311 - jitter, not a secret
        if self._store(claim, job):
            self._queue.log.ended(running, job, outcome, now)
        if not isinstance(outcome, Interrupted):
            self._ended += 1
        self._pace.count()

    def _store(self, claim: Claim, job: Job) -> bool:
        """Store what became of a claimed job; what cannot be stored now is tried again at each tick."""
        try:
            self._session.finish(claim, job)
        except ClaimLostError as error:
            self._say(str(error))
            self._claims.pop(job.id, None)
            return False
        except OSError as error:
            self._say(f"cannot store how job {job.id} ended: {error}")
            self._owed.append((claim, job))
            return True
        self._claims.pop(job.id, None)
        return True

    def _give_back(self, claim: Claim, reason: str) -> None:
        try:
            self._session.give_back(claim)
        except ClaimLostError:
            pass  # it is somebody else's by now
        else:
            self._queue.log.handed_back(claim.job, datetime.now(UTC), reason)
        self._claims.pop(claim.job.id, None)

    # Beside that

    def _tick(self) -> None:
        """Do what has to be done now and then: keep deadlines, look after the others, notice changes."""
        now = time.monotonic()
        self._pool.keep_deadlines(now)
        if now < self._tick_at and not self._rang:
            return
        self._tick_at = now + TICK_S
        for report in self._pool.look_after():
            self._take_report(report)
        try:
            self._obey(self._session.renew(self._pool.progress()))
            self._pay()
            if self._stopping_since is None:
                self._keep_house(now)
        except OSError as error:
            # A full descriptor table, a failing disk: running jobs go on, and the next tick tries again.
            self._say(f"cannot look after the queue: {error}")
            self._tick_at = now + TROUBLE_PAUSE_S

    def _pay(self) -> None:
        """Store what could not be stored before."""
        owed, self._owed = self._owed, []
        for claim, job in owed:
            self._store(claim, job)

    def _keep_house(self, now: float) -> None:
        housekeeping.recover(self._session, self._queue)
        self._tidying.check(self._session, self._queue.settings)
        if self._watch.changed():
            self._pool.renew()
        if now - self._claimed_at > PREFETCH_S:
            # Others may be idle: what was claimed ahead and is not soon begun goes back.
            soon = len(self._pool.idle())
            for claim in self._waiting[soon:]:
                self._give_back(claim, "claimed ahead, but not begun")
            del self._waiting[soon:]

    def _obey(self, wishes: Mapping[str, str]) -> None:
        """Stop the jobs that somebody asked to cancel."""
        for job_id, by in wishes.items():
            if self._pool.cancel(job_id, by):
                continue
            claim = next((claim for claim in self._waiting if claim.job.id == job_id), None)
            if claim is not None:
                self._waiting.remove(claim)
                now = datetime.now(UTC)
                if self._store(claim, lifecycle.cancelled(claim.job, by, now)):
                    self._queue.log.ended(claim.job, claim.job, Cancelled(by), now)

    def _patience(self) -> float:
        """Return how long to wait at most, in seconds."""
        now = time.monotonic()
        moments = [self._tick_at, *self._pool.deadlines()]
        if self._stopping_since is None and len(self._pool.idle()) > len(self._waiting):
            moments.append(max(self._look_at, self._claim_at))
        return max(0.0, min(moments) - now)

    # End

    def _is_over(self) -> bool:
        """Tell whether to leave: asked to, with nothing running any more, or nothing left to do."""
        if self._pool.broken:
            return True
        if self._stopping_since is None:
            if not self._should_stop():
                return False
            self._stop_claiming()
        self._hurry()
        return not self._pool.busy()

    def _should_stop(self) -> bool:
        options = self._options
        if self._stops or (self._end_at is not None and time.monotonic() >= self._end_at):
            return True
        if options.max_jobs is not None and self._ended >= options.max_jobs:
            return True
        if not (options.drain or options.once) or self._may_be_more or self._rang or self._claims:
            return False
        left = self._queue.backend.unfinished(datetime.now(UTC))
        if left.due and not options.only and not options.min_priority:
            self._may_be_more = True
        return self._nothing_to_do(due=left.due, later=left.later, claimed=left.claimed)

    def _nothing_to_do(self, *, due: bool, later: bool, claimed: bool) -> bool:
        if self._options.only or self._options.min_priority:
            due = False  # what we do not take is not ours to wait for, and what we take was claimed just now
        return not due and (self._options.once or not (later or claimed))

    def _stop_claiming(self) -> None:
        self._stopping_since = time.monotonic()
        for claim in self._waiting:
            self._give_back(claim, "the worker stops")
        self._waiting = []
        if self._pool.busy() and self._stops:
            self._say(f"stopping: waiting up to {self._options.grace.total_seconds():g} s for running jobs")

    def _hurry(self) -> None:
        """After the grace, or at the second request, interrupt what still runs; it goes back uncharged."""
        assert self._stopping_since is not None  # noqa: S101 - only a stopping worker hurries
        patience = self._options.grace.total_seconds() if self._stops else float("inf")
        over = time.monotonic() - self._stopping_since > patience
        if (over or self._stops > 1) and not self._interrupted:
            self._interrupted = True
            for runner in self._pool.busy():
                runner.stop(Why.WORKER_STOPS)
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
        count = len(list(self._queue.allowlist))
        self._say(
            f"worker {self._info.name}: {self._options.concurrency} runners, {count} methods may run, "
            f"spool {self._queue.settings.spool}"
        )

    def _say(self, text: str) -> None:
        if not self._options.quiet:
            print(f"bgjobs: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's own voice


def _rank(claim: Claim) -> tuple[int, datetime, str]:
    """Sort claims by priority, then by age."""
    return -claim.job.priority, claim.job.not_before, claim.job.id
