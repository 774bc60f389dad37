"""What a running method can use: `current_job()` with its progress, `Retry`, `Fail`, and the stop exceptions."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from bgjobs.errors import BgjobsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import SupportsFloat, SupportsIndex

    from bgjobs.job import Progress


class Retry(Exception):  # noqa: N818 - a request, not an error
    """Raise it to ask for another attempt `delay` from now: seconds, a text such as "5m", or a timedelta.

    The attempt counts: if none is left, the job fails. Without a delay the job's own backoff applies. The constructor
    raises UsageError for an invalid delay, and for a delay in the place of the reason.
    """

    def __init__(self, reason: str = "", *, delay: str | float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay: timedelta | None = None
        from datetime import timedelta  # noqa: PLC0415 - keeps `import bgjobs` small

        given: object = reason
        if isinstance(given, int | float | timedelta):  # a delay as the reason would be ignored silently
            raise UsageError("bad reason of a Retry", hint="write Retry(delay=60), not Retry(60)", code="bad-delay")
        if delay is None:
            return
        from bgjobs import durations  # noqa: PLC0415 - as above

        try:
            self.delay = durations.of(delay)
        except durations.UnfitError as error:
            shown = f" {ascii(delay)[:40]}" if isinstance(delay, str | float) else ""
            what = f"bad delay{shown} of a Retry: {error}"
            raise UsageError(what, hint="or leave it out", code="bad-delay") from None


class Fail(Exception):  # noqa: N818 - a request, not an error
    """Raise it to fail the job for good, whatever attempts are left."""


class JobTimeout(BaseException):
    """The attempt has run longer than its timeout: clean up and return soon, the process is killed next."""


class JobCancelled(BaseException):
    """A person cancelled the job, or its worker has to stop: clean up and return soon."""


class CurrentJob:
    """The job that this process runs right now.

    `attempt` counts from 1 the attempts that were charged, `crashes` those that were lost with their worker. `number`
    counts every start, as `BGJOBS_ATTEMPT` does: from 2 on the job may have run before.
    """

    def __init__(
        self,
        job_id: str,
        *,
        attempt: int,
        retries: int,
        report: Callable[[Progress], None],
        number: int = 1,
        crashes: int = 0,
    ) -> None:
        self.id = job_id
        self.attempt = attempt
        self.number = number
        self.crashes = crashes
        self.retries = retries
        self._report = report

    def progress(
        self,
        done: SupportsFloat | SupportsIndex,
        total: SupportsFloat | SupportsIndex | None = None,
        message: object = "",
    ) -> None:
        """Report progress: `done` of `total` in any unit, and a short message. Cheap enough for a tight loop.

        Any number that `int` or `float` accepts will do. Raises TypeError for what is no number, and ValueError for a
        number that is not finite.
        """
        from bgjobs.job import Progress  # noqa: PLC0415 - keeps `import bgjobs` small

        self._report(
            Progress(
                done=_finite("done", done),
                total=None if total is None else _finite("total", total),
                message="" if message is None else str.__str__(str(message)),
            )
        )


def _finite(name: str, value: SupportsFloat | SupportsIndex) -> float:
    """Return the number as an int or float."""
    kind = type(value)
    is_whole = hasattr(kind, "__index__")
    if not is_whole and not hasattr(kind, "__float__"):
        raise TypeError(f"progress: {name} has to be a number, not a {kind.__name__}")
    try:
        number = operator.index(value) if is_whole else float(value)  # type: ignore[arg-type]  # as just checked
        is_finite = math.isfinite(number)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"progress: {name} cannot become a finite number") from error
    if not is_finite:
        raise ValueError(f"progress: {name} has to be a finite number, not {number}")
    return number


_current: CurrentJob | None = None


def current_job() -> CurrentJob:
    """Return the job that is running in this process. Raises BgjobsError outside of a job."""
    if _current is None:
        raise BgjobsError("no job is running in this process", hint="call current_job() inside a job", code="no-job")
    return _current


def set_current(job: CurrentJob | None) -> None:
    """Set the running job. Only the runner calls it."""
    global _current  # noqa: PLW0603 - one process runs one job at a time
    _current = job
