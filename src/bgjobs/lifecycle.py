"""The state machine: what becomes of a job. Pure rules, with no clock, no files and no dice of their own."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct
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


def with_wishes(policy: Policy, job: Job) -> Policy:
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


def after(job: Job, outcome: Outcome, policy: Policy, now: datetime, luck: float) -> Job:
    """Return what becomes of a job whose running attempt ended so.

    `luck` in 0..1 spreads the wait before another attempt by ±25 %.
    """
    match outcome:
        case Succeeded(result, note):
            done = _closed(job, "succeeded", now)
            return replace(done, state=State.DONE, finished_at=now, result_json=result, note=note, error=None)
        case Cancelled(by):
            return cancelled(_closed(job, "cancelled", now), by, now)
        case Interrupted():
            back = _closed(job, "interrupted", now)
            return replace(back, state=State.QUEUED, worker="", charged=job.charged - 1, progress=None)
        case Crashed(error, exit_status, True):
            return _after_loss(_closed(job, "crashed", now, error, exit_status), policy, now, luck)
        case Crashed(error, exit_status):
            return _after_failure(_closed(job, "crashed", now, error, exit_status), policy, now, luck)
        case TimedOut(timeout, exit_status):
            error = JobError(type="JobTimeout", message=f"ran longer than {timeout.total_seconds():g} s")
            return _after_failure(_closed(job, "timed_out", now, error, exit_status), policy, now, luck)
        case Raised(error, lineage, asked, retry_in, final, beside):
            closed = _closed(job, "raised", now, error)
            # What asks for another attempt is not asked itself, but another failure in its group is.
            is_retried = _is_worth_it(beside, policy) if asked else _is_retried(lineage, policy)
            if final or not is_retried:
                return failed(closed, error, now)
            return _after_failure(closed, policy, now, luck, wait=retry_in)
        case Refused(error):
            return failed(_closed(job, "raised", now, error), error, now)
    assert_never(outcome)


def failed(job: Job, error: JobError, now: datetime) -> Job:
    """Return the job as failed for good, for instance because it may not run any more."""
    return replace(job, state=State.FAILED, error=error, finished_at=now)


def cancelled(job: Job, by: str, now: datetime) -> Job:
    """Return the job as stopped by a person."""
    error = JobError(type="Cancelled", message=f"by {by}" if by else "")
    return replace(job, state=State.CANCELLED, error=error, finished_at=now)


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


def _is_worth_it(lineage: tuple[str, ...], policy: Policy) -> bool:
    return not set(lineage).intersection(policy.fail_on)


def _is_retried(lineage: tuple[str, ...], policy: Policy) -> bool:
    if not _is_worth_it(lineage, policy):
        return False
    return not policy.retry_on or bool(set(lineage).intersection(policy.retry_on))


def _after_failure(job: Job, policy: Policy, now: datetime, luck: float, wait: timedelta | None = None) -> Job:
    """Queue another attempt of a job whose attempt failed, or fail it when none is left."""
    error = job.attempts[-1].error or JobError(type="Unknown")
    if job.charged > policy.retries:
        return failed(job, error, now)
    pause = backoff(policy, job.charged, luck) if wait is None else wait
    return _again(job, error, now + pause, now)


def _after_loss(job: Job, policy: Policy, now: datetime, luck: float) -> Job:
    """Queue a job that was lost with its worker: at once the first time, then with backoff, in the end not at all."""
    error = job.attempts[-1].error or JobError(type="WorkerLost")
    lost = replace(job, charged=job.charged - 1, crashes=job.crashes + 1)
    if lost.crashes >= policy.max_crashes:
        return failed(lost, error, now)
    if lost.crashes == 1:
        # Its own moment, if that is not ahead (a clock was set back): the job is not younger for having been lost.
        return _again(lost, error, min(job.not_before, now), now)
    return _again(lost, error, now + backoff(policy, lost.crashes - 1, luck), now)


def _again(job: Job, error: JobError, not_before: datetime, now: datetime) -> Job:
    state = State.SCHEDULED if not_before > now else State.QUEUED
    return replace(job, state=state, error=error, not_before=not_before, worker="", progress=None)


def _closed(
    job: Job, outcome: str, now: datetime, error: JobError | None = None, exit_status: int | None = None
) -> Job:
    """Return the job with its running attempt ended."""
    *earlier, last = job.attempts
    ended = replace(last, finished_at=now, outcome=outcome, error=error, exit=exit_status)
    return replace(job, attempts=(*earlier, ended))
