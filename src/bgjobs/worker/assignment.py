"""A job that was given to a runner: its deadlines, why it is asked to stop, and how its attempt ended.

Rules about values: nothing here reads a clock, knows a process or a store.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bgjobs import system
from bgjobs.config import run_as
from bgjobs.job import Cancelled, Crashed, Interrupted, Job, JobError, Outcome, Progress, Succeeded, TimedOut, moment
from bgjobs.worker import limits
from bgjobs.worker.protocol import LOST_CONTACT, Ended, Run

if TYPE_CHECKING:
    from bgjobs.config.allowlist import Target
    from bgjobs.lifecycle import Policy
    from bgjobs.store import Begin

STOP_AT_MOST_S = 5.0
OVERDUE_S = 0.1
NEVER = float("inf")


class StopReason(Enum):
    """Why an attempt is asked to stop."""

    TIMED_OUT = "the timeout has passed"
    CANCELLED = "the job was cancelled"
    WORKER_STOPS = "the worker stops"


class Assignment:
    """A job that a runner was given: it runs now, or as soon as those before it have ended."""

    def __init__(self, job: Job, message: Run, policy: Policy) -> None:
        """Do not begin the time of its timeout yet."""
        self.job = job
        self.message = message
        self.policy = policy
        self.progress: Progress | None = None
        self.recalled = False
        self.stop_reason: StopReason | None = None
        self.asked_by = ""
        self.head_since: float | None = None
        self.stop_at = self.kill_at = NEVER

    def become_head(self, now: float) -> None:
        """Begin the time of its timeout: nothing is before it any more."""
        self.head_since = now
        self.stop_at = now + self.policy.timeout.total_seconds()
        if self.stop_reason is not None:
            self.kill_at = now + self._time_to_stop_s()

    def ask_to_stop(self, why: StopReason, by: str, now: float, *, is_head: bool) -> None:
        """Note why its method is asked to stop, and by whom; let the time that it has for that begin if it runs."""
        self.stop_reason, self.asked_by = why, by
        if is_head:
            self.kill_at = now + self._time_to_stop_s()

    def is_overdue(self, now: float) -> bool:
        """Tell whether it has run for so long that nothing should wait behind it."""
        return self.head_since is not None and now - self.head_since > OVERDUE_S

    def _time_to_stop_s(self) -> float:
        seconds = self.policy.kill_after.total_seconds()
        return min(seconds, STOP_AT_MOST_S) if self.stop_reason is StopReason.WORKER_STOPS else seconds


class Step(Enum):
    """What a deadline that has passed asks for."""

    NONE = "nothing: none has passed"
    STOP = "ask the method to stop"
    KILL = "kill the process with its whole tree"


def next_deadline(head: Assignment | None, end_by: float) -> float:
    """Return the monotonic moment from which on `step_due` asks for something.

    `head` is the job that the runner works on. By `end_by` a process that gets no more jobs must have ended, or have
    returned what it holds; it is not asked to stop any more.
    """
    if head is None:
        return NEVER
    return min(head.kill_at, head.stop_at if end_by == NEVER else end_by)


def step_due(head: Assignment | None, end_by: float, now: float) -> Step:
    """Return what is to be done at this moment with a runner that works on `head` (see `next_deadline`)."""
    if head is None:
        return Step.NONE
    if now >= head.kill_at or now >= end_by:
        return Step.KILL
    return Step.STOP if end_by == NEVER and now >= head.stop_at else Step.NONE


def room_left(depth: int, *, held: int, jobs_left: int, is_overdue: bool) -> int:
    """Return how many more jobs a runner can take that may hold `depth`; nothing waits behind a long job.

    It holds `held` jobs, and is replaced after `jobs_left` more.
    """
    return min((1 if is_overdue else depth) - held, jobs_left)


def run_message(
    target: Target,
    job: Job,
    policy: Policy,
    *,
    begin: Begin | None = None,
    look_only: bool = False,
) -> Run:
    """Return the message that lets a runner run this job, of which an attempt is under way, as the policy says."""
    return Run(
        id=job.id,
        attempt=job.charged,
        retries=job.retries,
        class_name=job.class_name,
        method=job.method,
        module=target.module,
        owner=target.owner,
        args=job.args,
        kwargs=job.kwargs,
        text=job.text,
        secret=target.secret,
        begin=begin,
        max_output=policy.max_output,
        limits=limits.of(policy),
        user=run_as.other(policy),
        look_only=look_only,
        number=job.attempts[-1].number if job.attempts else 1,
        crashes=job.crashes,
    )


class Began(Struct, frozen=True):
    """No job of the runner is before this one any more: it begins."""

    assignment: Assignment


class Finished(Struct, frozen=True):
    """The attempt ended. After the death of the runner nobody knows yet whether it had begun at all: `died`.

    `recorded_ms` is when the runner wrote down that it succeeded, if it did. `stale` and `output_left`: see `Ended`.
    """

    assignment: Assignment
    outcome: Outcome
    began_ms: int | None = None
    took: float | None = None
    died: bool = False
    recorded_ms: int | None = None
    stale: str = ""
    output_left: bool = False

    def running(self) -> Job:
        """Return the job as it ran: with the moment at which it really began, and its latest progress."""
        job = self.assignment.job
        if self.began_ms is not None:
            *earlier, last = job.attempts
            began = replace(last, started_at=moment(self.began_ms))
            job = replace(job, attempts=(*earlier, began))
        return job if self.assignment.progress is None else replace(job, progress=self.assignment.progress)


class Returned(Struct, frozen=True):
    """The job was not begun. `gone`: it is not ours any more; `trouble`: it could not be begun.

    `stale` and `begun` are as in `NotStarted`.
    """

    assignment: Assignment
    reason: str = ""
    gone: bool = False
    trouble: bool = False
    stale: str = ""
    begun: bool = False


Report = Began | Finished | Returned


def finished(message: Ended, held: Assignment) -> Finished:
    """Return the report on an attempt whose end its runner has reported."""
    outcome = outcome_of(message, held)
    # A runner that has become another user could not write the success to the job's file.
    recorded = isinstance(outcome, Succeeded) and not held.message.user
    return Finished(
        held,
        outcome,
        message.began_ms,
        message.took,
        recorded_ms=message.recorded_ms if recorded else None,
        stale=message.stale,
        output_left=message.output_left,
    )


def outcome_of(message: Ended, held: Assignment) -> Outcome:
    """Return how an attempt ended that ended by itself, perhaps because it was asked to."""
    outcome = message.outcome
    match held.stop_reason:
        case None:
            return outcome
        case StopReason.TIMED_OUT:
            return TimedOut(held.policy.timeout) if message.stopped else outcome
        case StopReason.CANCELLED:
            # A method that catches the request, cleans up and returns was cancelled all the same.
            finished_first = isinstance(outcome, Succeeded) and not message.stopped
            return outcome if finished_first else Cancelled(held.asked_by)
        case StopReason.WORKER_STOPS:
            # A method that was asked to stop has not done its job, whatever it returns.
            return Interrupted() if message.stopped else outcome


def outcome_of_death(held: Assignment, status: int | None, stale: str) -> Outcome:
    """Return how an attempt ended whose process died with this exit status. `stale`: see `Ended`."""
    match held.stop_reason:
        case StopReason.TIMED_OUT:
            return TimedOut(held.policy.timeout, status)
        case StopReason.CANCELLED:
            return Cancelled(held.asked_by)
        case StopReason.WORKER_STOPS:
            return Interrupted()
        case None:
            remark = f"; {stale} has changed since this process loaded it" if stale else ""
            message = described(status) + limits.memory_hint(status, held.policy) + remark
            return Crashed(limits.ended_by(status, held.policy) or JobError(type="Crashed", message=message), status)


def described(status: int | None) -> str:
    """Describe how a process ended."""
    if status is None:
        return "its process closed its pipes and had to be killed"
    if status == LOST_CONTACT:
        return "its process could not answer any more: did the method close descriptors that were not its own?"
    if status < 0:
        return f"its process was killed by {system.signal_name(-status)}"
    return f"its process exited with status {status} before the method returned"
