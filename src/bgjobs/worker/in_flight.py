"""The claimed jobs of a worker: which of them wait for a runner, and how each is stored or put back into the queue."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from bgjobs import lifecycle
from bgjobs.errors import ClaimLostError, NotAllowedError, SyncFailedError, why
from bgjobs.events import Cancelled, Decided, HandedBack
from bgjobs.job import Crashed, JobError, Refused
from bgjobs.store import Finish
from bgjobs.worker.assignment import StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from bgjobs.clock import Now
    from bgjobs.job import Outcome
    from bgjobs.lifecycle import Ended
    from bgjobs.queue import Queue
    from bgjobs.store import Claim, Session
    from bgjobs.worker.assignment import Assignment

AHEAD_S = 1.0
UNDECIDED_S = 60.0
NOT_BEGUN = "asked back before it began"


def is_refused(*, is_final: bool, claimed_at: float, now: float) -> bool:
    """Tell whether a claimed job that may not run fails now; else that is decided again, for up to a minute.

    Only what stands in files that are not being changed is final.
    """
    return is_final or now >= claimed_at + UNDECIDED_S


def overdue(waiting: Sequence[Claim], claimed_at: Mapping[str, float], free: int, now: float) -> list[Claim]:
    """Return which claims to put back: claimed ahead a second ago, while the runners have no room for them.

    `waiting` is in the order in which they begin, and runners can take `free` of them.
    """
    return [claim for claim in waiting[free:] if claimed_at[claim.job.id] < now - AHEAD_S]


class AfterReturn(Enum):
    """What to do with a job that a runner was given, and returned before it began."""

    CANCEL = "somebody asked for that"
    RELEASE = "put it back into the queue: the worker stops"
    WAIT_AGAIN = "let it wait for a runner once more"


def after_return(why: StopReason | None, *, stopping: bool) -> AfterReturn:
    """Return what to do with a job that was not begun; `why` it was to stop, if it was, and whether the worker is."""
    if why is StopReason.CANCELLED:
        return AfterReturn.CANCEL
    return AfterReturn.RELEASE if stopping else AfterReturn.WAIT_AGAIN


class InFlight:
    """Every job that was claimed and has not been stored or put back yet."""

    def __init__(
        self,
        queue: Queue,
        session: Session,
        announce: Callable[[str], None],
        is_current: Callable[[], bool] = lambda: True,
        keys_are_current: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """Hold nothing. `is_current` tells whether the allowlist in memory is the one on the disk.

        `keys_are_current` tells the same of the signing keys, as of a monotonic moment.
        """
        self.waiting: list[Claim] = []  # for a runner, best first
        self.undecided: list[Claim] = []  # refused, but the allowlist or the signing keys are being changed
        self.disk_failed = False
        self._is_current = is_current
        self._keys_are_current = keys_are_current
        self._queue = queue
        self._emit = queue.events.emit
        self._session = session
        self._announce = announce
        self._claims: dict[str, Claim] = {}
        self._claimed_at: dict[str, float] = {}
        self._pending_writes: list[Finish] = []
        self._pending_releases: list[tuple[Claim, str]] = []

    def __len__(self) -> int:
        """Count all of them."""
        return len(self._claims)

    def claim_of(self, job_id: str) -> Claim | None:
        """Return the claim on a job, or None when it is not ours any more."""
        return self._claims.get(job_id)

    # Claimed, not begun

    def add(self, claims: Iterable[Claim], now: Now) -> None:
        """Take in new claims; those that the allowlist refuses fail at once."""
        for claim in claims:
            if claim.job.id in self._claims:
                # Somebody copied its file: run it twice at a time we must not, and under one name we cannot.
                self._session.put_aside(claim, "duplicate: a job of this id is being run")
                continue
            self._claims[claim.job.id] = claim
            self._claimed_at[claim.job.id] = now.s
            if self.admit_or_refuse(claim, now):
                self.waiting.append(claim)
        self.waiting.sort(key=_rank)

    def admit_or_refuse(self, claim: Claim, now: Now) -> bool:
        """Return whether the allowlist, as it is now, lets a claimed job run; a job that it refuses fails.

        So does one whose signature is in doubt, and one that was tried so often that its record is full.
        """
        if claim.distrust is not None:
            self._refuse(claim, claim.distrust, now, is_final=self._keys_are_current(now.s))
            return False
        if claim.full:
            error = JobError(type="TooManyAttempts", message="its record has no room for another attempt")
            self._end(claim, lifecycle.failed(error), Crashed(error), now.at)
            return False
        try:
            self._queue.allowlist.target_for(claim.job)
        except NotAllowedError as error:
            # The file may be half written, or newer than what was read.
            self._refuse(claim, JobError(type=error.code, message=str(error)), now, is_final=self._is_current())
            return False
        return True

    def _refuse(self, claim: Claim, reason: JobError, now: Now, *, is_final: bool) -> None:
        if is_refused(is_final=is_final, claimed_at=self._claimed_at[claim.job.id], now=now.s):
            self._end(claim, lifecycle.failed(reason), Refused(reason), now.at)
        else:
            self.undecided.append(claim)

    def recheck_undecided(self, now: Now) -> None:
        """Check again what was refused while the allowlist or the signing keys were being changed."""
        undecided, self.undecided = self.undecided, []
        for claim in undecided:
            if claim.distrust is not None and self._keys_are_current(now.s):
                self.release(claim, "its signature is checked again with the changed keys", now.at)
            elif self.admit_or_refuse(claim, now):
                self._wait_again(claim)

    def return_not_started(
        self, claim: Claim, held: Assignment, at: datetime, *, stopping: bool, reason: str = ""
    ) -> None:
        """Do what is to be done with a job that was sent to a runner and not begun."""
        match after_return(held.stop_reason, stopping=stopping):
            case AfterReturn.CANCEL:
                self._cancel(claim, held.asked_by, at)
            case AfterReturn.RELEASE:
                self.release(claim, StopReason.WORKER_STOPS.value, at)
            case AfterReturn.WAIT_AGAIN:
                if reason or held.head_since is not None:  # the status log has it as running
                    self._emit(HandedBack(claim.job, at, reason or NOT_BEGUN))
                self._wait_again(claim)

    def return_failed_start(self, claim: Claim, held: Assignment, reason: str, at: datetime) -> None:
        """Put back a job whose runner could not write that it begins; if it could after all, take that back."""
        if not self._session.attempt(claim).begun:
            self.release(claim, reason, at)
            return
        finish = Finish(claim=claim, running=held.job, verdict=lifecycle.Back(), at=at)
        if self.finish(finish):
            self._emit(HandedBack(claim.job, at, reason))

    def _wait_again(self, claim: Claim) -> None:
        self.waiting.append(claim)
        self.waiting.sort(key=_rank)

    # Stored or put back

    def finish(self, finish: Finish) -> bool:
        """Store what was decided about a job; return whether it was ours. A write that fails is queued and retried."""
        (error,) = self._session.finish([finish])
        match error:
            case None:
                pass
            case ClaimLostError():
                self._announce(str(error))
            case SyncFailedError():
                # Its file has the end, but that may not survive a power cut. It stays claimed, and the next worker goes
                # on from there.
                self._announce(str(error))
                self.disk_failed = True
            case _:
                self._announce(f"cannot store how job {finish.claim.job.id} ended, trying again: {why(error)}")
                self._pending_writes.append(finish)
                return True
        self.forget(finish.claim)
        return not isinstance(error, ClaimLostError)

    def _end(self, claim: Claim, verdict: Ended, outcome: Outcome, at: datetime) -> None:
        """End a claimed job of which no attempt runs."""
        if self.finish(Finish(claim=claim, running=claim.job, verdict=verdict, at=at)):
            self._emit(Decided(claim.job, verdict, outcome, at))

    def retry_pending_writes(self, at: datetime) -> None:
        """Try again to store and to put back what could not be when it was decided."""
        writes, self._pending_writes = self._pending_writes, []
        for finish in writes:
            self.finish(finish)
        releases, self._pending_releases = self._pending_releases, []
        for claim, reason in releases:
            self.release(claim, reason, at)

    def release(self, claim: Claim, reason: str, at: datetime) -> None:
        """Put a job that was not begun back into the queue, uncharged."""
        try:
            self._session.release(claim)
        except ClaimLostError:
            pass  # it is somebody else's by now
        except OSError as error:
            self._announce(f"cannot put back job {claim.job.id}, trying again: {why(error)}")
            self._pending_releases.append((claim, reason))
            return
        else:
            self._emit(HandedBack(claim.job, at, reason))
        self.forget(claim)

    def release_waiting(self, reason: str, at: datetime) -> None:
        """Put back all that wait for a runner."""
        back = [*self.waiting, *self.undecided]
        self.waiting, self.undecided = [], []
        for claim in back:
            self.release(claim, reason, at)

    def release_overdue(self, free: int, now: Now) -> None:
        """Put back what was claimed ahead some time ago and will not begin at once: other workers may be idle."""
        for claim in overdue(self.waiting, self._claimed_at, free, now.s):
            self.waiting.remove(claim)
            self.release(claim, "claimed ahead, but not begun", now.at)

    def cancel_waiting(self, job_id: str, by: str, at: datetime) -> None:
        """Cancel a job that waits for a runner, if it does."""
        for held in (self.waiting, self.undecided):
            for claim in held:
                if claim.job.id == job_id:
                    held.remove(claim)
                    self._cancel(claim, by, at)
                    return

    def _cancel(self, claim: Claim, by: str, at: datetime) -> None:
        """Cancel a claimed job that was not begun."""
        if self.finish(Finish(claim=claim, running=claim.job, verdict=lifecycle.cancelled(by), at=at)):
            self._emit(Cancelled(claim.job, at, by))

    def forget(self, claim: Claim) -> None:
        """Drop a claim that is not ours any more."""
        self._claims.pop(claim.job.id, None)
        self._claimed_at.pop(claim.job.id, None)


def _rank(claim: Claim) -> tuple[int, datetime, str]:
    """Sort claims by priority, then by age."""
    return -claim.job.priority, claim.job.not_before, claim.job.id
