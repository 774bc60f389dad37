"""The state machine: an outcome becomes a verdict, a verdict becomes the job as it is then.

Pure rules, with no clock, no files and no dice of their own. How an attempt has ended, its outcome, is found out in
`worker/assignment.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from msgspec import Raw, Struct
from msgspec.structs import replace

from bgjobs.job import (
    Attempt,
    Cancelled,
    Crashed,
    Interrupted,
    Job,
    JobError,
    Outcome,
    Raised,
    Refused,
    State,
    Succeeded,
    TimedOut,
)

JITTER = 0.25
NOW = timedelta(0)


class Policy(Struct, frozen=True, kw_only=True):
    """How a job is treated: the settings that a class, a method or a single submission can change."""

    priority: int = 5
    delay: timedelta = NOW
    retries: int = 3
    retry_delay: timedelta = timedelta(seconds=5)
    backoff: str = "exponential"
    max_retry_delay: timedelta = timedelta(minutes=10)
    timeout: timedelta = timedelta(minutes=5)
    max_timeout: timedelta = NOW
    kill_after: timedelta = timedelta(seconds=10)
    max_crashes: int = 3
    retry_on: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    max_output: int = 8 * 1024 * 1024
    max_memory: int = 0
    max_cpu: timedelta = NOW
    max_files: int = 0
    max_file_size: int = 0
    user: str = ""


def with_options_of(policy: Policy, job: Job) -> Policy:
    """Return the policy with what this one job asked for: its retries, its retry delay and its timeout.

    No timeout is longer than `max_timeout`, if there is one: whoever submits a job cannot hold a runner for ever.
    """
    if job.retries == policy.retries and job.retry_delay is job.timeout is None and not policy.max_timeout:
        return policy
    timeout = policy.timeout if job.timeout is None else job.timeout
    return replace(
        policy,
        retries=job.retries,
        retry_delay=policy.retry_delay if job.retry_delay is None else job.retry_delay,
        timeout=min(timeout, policy.max_timeout) if policy.max_timeout else timeout,
    )


def started(job: Job, *, worker: str, at: datetime) -> Job:
    """Return the job with one more attempt under way."""
    attempt = Attempt(number=len(job.attempts) + 1, started_at=at, worker=worker)
    return replace(job, state=State.RUNNING, worker=worker, charged=job.charged + 1, attempts=(*job.attempts, attempt))


class Again(Struct, frozen=True):
    """The attempt ended so, and another one follows, not before this moment. `lost`: it was lost with its worker."""

    not_before: datetime
    outcome: str
    error: JobError
    exit: int | None = None
    lost: bool = False


class Back(Struct, frozen=True):
    """The attempt was interrupted by a stopping worker: the job goes back to the queue, uncharged."""


class Ended(Struct, frozen=True):
    """The job ends in this state: DONE, FAILED or CANCELLED.

    `outcome` says how the attempt ended that ends with it, and is empty where none runs. `note` says what was lost of
    the result. `lost`: its last attempt was lost with its worker.
    """

    state: State
    outcome: str = ""
    error: JobError | None = None
    exit: int | None = None
    result: Raw | None = None
    note: str = ""
    lost: bool = False


Verdict = Again | Back | Ended


def after(job: Job, outcome: Outcome, policy: Policy, now: datetime, luck: float) -> Verdict:
    """Decide what becomes of a job whose running attempt ended so.

    `luck` in 0..1 spreads the wait before another attempt by ±25 %.
    """
    match outcome:
        case Succeeded(result, note):
            return Ended(state=State.DONE, outcome="succeeded", result=result, note=note)
        case Cancelled(by):
            return cancelled(by, outcome="cancelled")
        case Interrupted():
            return Back()
        case Crashed(error, exit_status, True):
            return _after_loss(job, _Failure("crashed", error, exit_status), policy, now, luck)
        case Crashed(error, exit_status):
            return _after_failure(job, _Failure("crashed", error, exit_status), policy, now, luck)
        case TimedOut(timeout, exit_status):
            error = JobError(type="JobTimeout", message=f"ran longer than {timeout.total_seconds():g} s")
            return _after_failure(job, _Failure("timed_out", error, exit_status), policy, now, luck)
        case Raised(error, lineage, asked, retry_in, final, beside):
            # What asks for another attempt is not asked itself, but another failure in its group is.
            is_retried = _may_be_retried(beside, policy) if asked else _is_retried(lineage, policy)
            if final or not is_retried:
                return failed(error, outcome="raised")
            return _after_failure(job, _Failure("raised", error), policy, now, luck, wait=retry_in)
        case Refused(error):
            return failed(error, outcome="raised")
    assert_never(outcome)


def failed(error: JobError, *, outcome: str = "") -> Ended:
    """Decide that a job has failed for good, for instance because it may not run any more."""
    return Ended(state=State.FAILED, outcome=outcome, error=error)


def cancelled(by: str, *, outcome: str = "") -> Ended:
    """Decide that a person has stopped a job, at `outcome` "cancelled" while an attempt ran."""
    error = JobError(type="Cancelled", message=f"by {by}" if by else "")
    return Ended(state=State.CANCELLED, outcome=outcome, error=error)


def applied(job: Job, verdict: Verdict, now: datetime) -> Job:
    """Return the job as it is after the verdict of this moment."""
    match verdict:
        case Back():
            closed = _closed(job, "interrupted", now)
            return replace(closed, state=State.QUEUED, worker="", charged=job.charged - 1, progress=None)
        case Again(not_before, outcome, error, exit_status, lost):
            return replace(
                _counted(_closed(job, outcome, now, error, exit_status), lost=lost),
                state=State.SCHEDULED if not_before > now else State.QUEUED,
                error=error,
                not_before=not_before,
                worker="",
                progress=None,
            )
        case Ended(state, outcome, error, exit_status, result, note, lost):
            # A cancelled attempt has no error of its own: the job has.
            its_error = None if state is State.CANCELLED else error
            closed = _closed(job, outcome, now, its_error, exit_status) if outcome else job
            return replace(
                _counted(closed, lost=lost), state=state, error=error, finished_at=now, result_json=result, note=note
            )
    assert_never(verdict)


def is_due(job: Job, now: datetime) -> bool:
    """Tell whether the job may start now."""
    return job.not_before <= now


def backoff(policy: Policy, failures: int, luck: float) -> timedelta:
    """Return the wait before the next attempt after so many failures (1 or more), with jitter, within the maximum."""
    match policy.backoff:
        case "fixed":
            factor = 1.0
        case "linear":
            factor = float(failures)
        case _:
            factor = 2.0 ** min(failures - 1, 40)
    spread = 1 - JITTER + 2 * JITTER * luck
    seconds = policy.retry_delay.total_seconds() * factor * spread
    return timedelta(seconds=min(seconds, policy.max_retry_delay.total_seconds()))


def _may_be_retried(lineage: tuple[str, ...], policy: Policy) -> bool:
    return not set(lineage).intersection(policy.fail_on)


def _is_retried(lineage: tuple[str, ...], policy: Policy) -> bool:
    if not _may_be_retried(lineage, policy):
        return False
    return not policy.retry_on or bool(set(lineage).intersection(policy.retry_on))


class _Failure(NamedTuple):
    """How an attempt failed: its outcome in a word, why, and the exit status of its process if that died."""

    outcome: str
    error: JobError
    exit: int | None = None


def _after_failure(
    job: Job, failure: _Failure, policy: Policy, now: datetime, luck: float, *, wait: timedelta | None = None
) -> Verdict:
    """Decide on another attempt of a job whose attempt failed, or fail it when none is left."""
    outcome, error, exit_status = failure
    if job.charged > policy.retries:
        return Ended(state=State.FAILED, outcome=outcome, error=error, exit=exit_status)
    pause = backoff(policy, job.charged, luck) if wait is None else wait
    return Again(not_before=now + pause, outcome=outcome, error=error, exit=exit_status)


def _after_loss(job: Job, failure: _Failure, policy: Policy, now: datetime, luck: float) -> Verdict:
    """Decide on a job that was lost with its worker: again at once the first time, then with backoff, then no more."""
    outcome, error, exit_status = failure
    crashes = job.crashes + 1
    if crashes >= policy.max_crashes:
        return Ended(state=State.FAILED, outcome=outcome, error=error, exit=exit_status, lost=True)
    # The first time at its own moment, if that is not ahead (a clock was set back): the job is not younger for having
    # been lost.
    again_at = min(job.not_before, now) if crashes == 1 else now + backoff(policy, crashes - 1, luck)
    return Again(not_before=again_at, outcome=outcome, error=error, exit=exit_status, lost=True)


def _counted(job: Job, *, lost: bool) -> Job:
    """Return the job with a lost attempt counted as a crash, not as a charged attempt."""
    return replace(job, charged=job.charged - 1, crashes=job.crashes + 1) if lost else job


def _closed(
    job: Job, outcome: str, now: datetime, error: JobError | None = None, exit_status: int | None = None
) -> Job:
    """Return the job with its running attempt ended."""
    *earlier, last = job.attempts
    ended = replace(last, finished_at=now, outcome=outcome, error=error, exit=exit_status)
    return replace(job, attempts=(*earlier, ended))
