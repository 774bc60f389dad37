"""The errors that bgjobs raises on purpose, each with a stable code and an exit status."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bgjobs.job import Job


class BgjobsError(Exception):
    """An error that a person can act on: what went wrong, which one, and what to do.

    `code` is stable and appears in JSON output and in the error log; `exit_status` is what the command line
    ends with; `hint` says what to do about it.
    """

    code: str = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        """Return the message and the hint as one line."""
        return f"{self.message}: {self.hint}" if self.hint else self.message


def why(error: OSError | BgjobsError) -> str:
    """Return in one line why something failed: in our own words, or as the system puts it, and with which file."""
    if isinstance(error, BgjobsError):
        return str(error)
    where = f" ({os.fsdecode(error.filename)})" if error.filename and not isinstance(error.filename, int) else ""
    return f"{error.strerror or str(error) or type(error).__name__}{where}"


class ConfigError(BgjobsError):
    """The allowlist file is missing, unreadable or says something that is not understood."""

    code = "bad-config"


class SpoolError(BgjobsError):
    """The spool cannot be used: missing, not writable, full, of another format, or on a network disk."""

    code = "unusable-spool"


class AlreadyEndedError(BgjobsError):
    """The job has already ended, so there is nothing left to stop."""

    code = "already-ended"


class AlreadyRunningError(BgjobsError):
    """The job has begun, so there is no delay left to drop."""

    code = "already-running"


class NotEndedError(BgjobsError):
    """The job has not ended yet, so it cannot be deleted."""

    code = "not-ended"


class UsageError(BgjobsError):
    """A value that is invalid in any context: a priority, a delay, the form of an id."""

    code = "bad-value"
    exit_status = 2


class RefusedError(BgjobsError):
    """The call is not allowed, or cannot succeed: nothing was queued."""

    code = "refused"
    exit_status = 3


class NotAllowedError(RefusedError):
    """The (class, method) pair is not in the allowlist."""

    code = "not-allowed"


class NotPermittedError(NotAllowedError):
    """The pair is in the allowlist, but not for the user who handed the job in."""

    code = "not-permitted"


class NoSuchTargetError(RefusedError):
    """The allowlist names a module, class or method that its source does not have."""

    code = "no-such-method"


class BadArgumentsError(RefusedError, UsageError):
    """The arguments do not fit: missing, unknown, repeated, too large, or of the wrong kind.

    A refusal, as the command line counts it, and for a Python program a mistake of the caller like any other.
    """

    code = "bad-arguments"


class NoSuchJobError(BgjobsError):
    """No job has this id."""

    code = "no-such-job"
    exit_status = 4


class JobFailed(BgjobsError):  # noqa: N818 - the name is part of the public interface
    """The job that was waited for has failed. `job` is its final state."""

    code = "job-failed"
    exit_status = 5

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it picklable: a process pool that cannot read a result waits for ever."""
        return type(self), (self.job, self.message)


class JobWasCancelled(BgjobsError):  # noqa: N818 - the name is part of the public interface
    """The job that was waited for was cancelled. `job` is its final state."""

    code = "job-cancelled"
    exit_status = 6

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it picklable: a process pool that cannot read a result waits for ever."""
        return type(self), (self.job, self.message)


class TimedOutError(BgjobsError):
    """What was waited for had not happened when the time was over."""

    code = "timed-out"
    exit_status = 124


class ClaimLostError(BgjobsError):
    """The claim belongs to another worker now: the outcome of the attempt must not be stored."""

    code = "claim-lost"


class NotPrintedError(BgjobsError):
    """The command is done, but could not print its answer: a full disk, a closed stream, a reader that is gone."""

    code = "not-printed"


class SyncFailedError(BgjobsError):
    """The disk could not sync what was written. It is not tried again: a second success would mean nothing."""

    code = "sync-failed"


class SessionLostError(BgjobsError):
    """The worker's place in the queue is gone (its spool vanished, or its lock file was deleted)."""

    code = "session-lost"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint with the known name that is most like an unknown one, or `otherwise` if none is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a refusal needs it

    near = get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else otherwise
