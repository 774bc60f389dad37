"""The claims in a worker's hands: which of them wait for a runner, and how each is stored or put back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs import clock, lifecycle
from bgjobs.errors import ClaimLostError, NotAllowedError, SyncFailedError, why
from bgjobs.job import Crashed, Interrupted, JobError
from bgjobs.worker.runners import Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from bgjobs.backend import Claim, Session
    from bgjobs.job import Job
    from bgjobs.queue import Queue
    from bgjobs.worker.runners import Assignment

PREFETCH_S = 1.0
DOUBT_S = 60.0
NOT_BEGUN = "asked back before it began"


class Holdings:
    """Every job that was claimed and has not been stored or put back yet."""

    def __init__(
        self,
        queue: Queue,
        session: Session,
        say: Callable[[str], None],
        is_current: Callable[[], bool] = lambda: True,
        keys_are_current: Callable[[], bool] = lambda: True,
    ) -> None:
        """Hold nothing. `is_current` tells whether the allowlist that we go by is the one on the disk.

        `keys_are_current` tells the same of the signing keys.
        """
        self.waiting: list[Claim] = []  # for a runner, best first
        self.doubtful: list[Claim] = []  # refused, but the allowlist or the signing keys are being changed
        self._is_current = is_current
        self._keys_are_current = keys_are_current
        self._queue = queue
        self._session = session
        self._say = say
        self._claims: dict[str, Claim] = {}
        self._owed: list[tuple[Claim, Job]] = []
        self._to_settle: list[tuple[Claim, int]] = []
        self._to_return: list[tuple[Claim, str]] = []
        self._since: dict[str, float] = {}
        self.disk_failed = False

    def __len__(self) -> int:
        """Count all of them."""
        return len(self._claims)

    def claim_of(self, job_id: str) -> Claim | None:
        """Return the claim on a job that we hold, or None when it is not ours any more."""
        return self._claims.get(job_id)

    def add(self, claims: Iterable[Claim]) -> None:
        """Take in new claims; those that the allowlist refuses fail at once."""
        now = time.monotonic()
        for claim in claims:
            if claim.job.id in self._claims:
                # Somebody copied its file: run it twice at a time we must not, and under one name we cannot.
                self._session.put_aside(claim, "duplicate: a job of this id is being run")
                continue
            self._claims[claim.job.id] = claim
            self._since[claim.job.id] = now
            if self.admits(claim):
                self.waiting.append(claim)
        self.waiting.sort(key=_rank)

    def admits(self, claim: Claim) -> bool:
        """Check a claimed job against the allowlist as it is now; a job that it refuses fails.

        So does one whose signature is in doubt, and one that was tried so often that its record is full.
        """
        if claim.doubt is not None:
            if not self._keys_are_current() and self._may_wait(claim):
                self.doubtful.append(claim)
            else:
                self._refuse(claim, claim.doubt)
            return False
        if claim.full:
            self._fail_full(claim)
            return False
        try:
            self._queue.allowlist.target_for(claim.job)
        except NotAllowedError as error:
            # The file may be half written, or newer than what we have read: only what stands still refuses for good.
            if not self._is_current() and self._may_wait(claim):
                self.doubtful.append(claim)
            else:
                self._refuse(claim, JobError(type=error.code, message=str(error)))
            return False
        return True

    def _may_wait(self, claim: Claim) -> bool:
        return time.monotonic() < self._since[claim.job.id] + DOUBT_S

    def judge_again(self) -> None:
        """Check again what was refused while the allowlist or the signing keys were being changed."""
        doubtful, self.doubtful = self.doubtful, []
        for claim in doubtful:
            if claim.doubt is not None and self._keys_are_current():
                self.give_back(claim, "its signature is checked again with the changed keys")
            elif self.admits(claim):
                self._wait_again(claim)

    def _refuse(self, claim: Claim, reason: JobError) -> None:
        now = clock.now()
        if self.store(claim, lifecycle.failed(claim.job, reason, now)):
            self._queue.log.refused(claim.job, reason, now)

    def _fail_full(self, claim: Claim) -> None:
        now = clock.now()
        outcome = Crashed(JobError(type="TooManyAttempts", message="its record has no room for another attempt"))
        job = lifecycle.failed(claim.job, outcome.error, now)
        if self.store(claim, job):
            self._queue.log.ended(claim.job, job, outcome, now)

    def return_unbegun(self, claim: Claim, held: Assignment, *, stopping: bool, reason: str = "") -> None:
        """Do what is to be done with a job that was sent to a runner and not begun."""
        if held.why is Why.CANCELLED:
            self.end_cancelled(claim, held.asked_by)
        elif stopping:
            self.give_back(claim, Why.WORKER_STOPS.value)
        else:
            if reason or held.head_since is not None:  # the log has said that it runs
                self._queue.log.handed_back(claim.job, clock.now(), reason or NOT_BEGUN)
            self._wait_again(claim)

    def return_untried(self, claim: Claim, held: Assignment, reason: str) -> None:
        """Put back a job whose runner could not write that it begins; if it could after all, take that back."""
        if not self._session.has_begun(claim):
            self.give_back(claim, reason)
            return
        now = clock.now()
        job = lifecycle.after(held.job, Interrupted(), held.policy, now, 0.0)
        if self.store(claim, job):
            self._queue.log.handed_back(claim.job, now, reason)

    def _wait_again(self, claim: Claim) -> None:
        """Let a job that a runner did not begin wait for its turn again."""
        self.waiting.append(claim)
        self.waiting.sort(key=_rank)

    def settle(self, claim: Claim, at_ms: int) -> bool:
        """Put away a job whose runner has recorded that it is done; return whether it was ours."""
        try:
            self._session.settle(claim, at_ms)
        except ClaimLostError as error:
            self._say(str(error))
            self.forget(claim)
            return False
        except OSError as error:
            self._say(f"cannot store how job {claim.job.id} ended: {why(error)}")
            self._to_settle.append((claim, at_ms))
            return True
        self.forget(claim)
        return True

    def store(self, claim: Claim, job: Job) -> bool:
        """Store what became of a job; return whether it was ours. What cannot be stored now is owed."""
        try:
            self._session.finish(claim, job)
        except ClaimLostError as error:
            self._say(str(error))
            self.forget(claim)
            return False
        except SyncFailedError as error:
            # It has ended, and its file says so; but whether that survives a power cut nobody knows. It stays where it
            # is, for the next worker to move on.
            self._say(str(error))
            self.disk_failed = True
            self.forget(claim)
            return True
        except OSError as error:
            self._say(f"cannot store how job {job.id} ended: {why(error)}")
            self._owed.append((claim, job))
            return True
        self.forget(claim)
        return True

    def pay(self) -> None:
        """Store what is owed."""
        owed, self._owed = self._owed, []
        for claim, job in owed:
            self.store(claim, job)
        to_settle, self._to_settle = self._to_settle, []
        for claim, at_ms in to_settle:
            self.settle(claim, at_ms)
        to_return, self._to_return = self._to_return, []
        for claim, reason in to_return:
            self.give_back(claim, reason)

    def forget(self, claim: Claim) -> None:
        """Drop a claim that is not ours any more."""
        self._claims.pop(claim.job.id, None)
        self._since.pop(claim.job.id, None)

    def give_back(self, claim: Claim, reason: str) -> None:
        """Put a job that was not begun back into the queue, uncharged."""
        try:
            self._session.give_back(claim)
        except ClaimLostError:
            pass  # it is somebody else's by now
        except OSError as error:
            self._say(f"cannot put back job {claim.job.id}: {why(error)}")
            self._to_return.append((claim, reason))
            return
        else:
            self._queue.log.handed_back(claim.job, clock.now(), reason)
        self.forget(claim)

    def give_back_waiting(self, reason: str) -> None:
        """Put back all that wait for a runner."""
        back = [*self.waiting, *self.doubtful]
        self.waiting, self.doubtful = [], []
        for claim in back:
            self.give_back(claim, reason)

    def give_back_overdue(self, room: int) -> None:
        """Put back what was claimed ahead some time ago and will not begin at once: others may be idle."""
        overdue = time.monotonic() - PREFETCH_S
        for claim in [claim for claim in self.waiting[room:] if self._since[claim.job.id] < overdue]:
            self.waiting.remove(claim)
            self.give_back(claim, "claimed ahead, but not begun")

    def cancel_waiting(self, job_id: str, by: str) -> None:
        """Cancel a job that waits for a runner, if it does."""
        for held in (self.waiting, self.doubtful):
            for claim in held:
                if claim.job.id == job_id:
                    held.remove(claim)
                    self.end_cancelled(claim, by)
                    return

    def end_cancelled(self, claim: Claim, by: str) -> None:
        """Cancel a claimed job that was not begun."""
        now = clock.now()
        job = lifecycle.cancelled(claim.job, by, now)
        if self.store(claim, job):
            self._queue.log.cancelled(job, now, by)


def _rank(claim: Claim) -> tuple[int, datetime, str]:
    """Sort claims by priority, then by age."""
    return -claim.job.priority, claim.job.not_before, claim.job.id
