"""What a running method can know of its job, and say to bgjobs."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from bgjobs.errors import BgjobsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Progress


class Retry(Exception):  # noqa: N818 - a request, not an error
    """Raise it to ask for another attempt `delay` from now: seconds, or a timedelta.

    The attempt counts: when none is left, the job fails. Without a delay the job's own backoff holds.
    """

    def __init__(self, reason: str = "", *, delay: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay = timedelta(seconds=delay) if isinstance(delay, int | float) else delay
        if self.delay is not None and self.delay < timedelta(0):
            raise ValueError("the delay of a Retry must not be negative")


class Fail(Exception):  # noqa: N818 - a request, not an error
    """Raise it to fail the job for good, whatever attempts are left."""


class JobTimeout(BaseException):
    """The attempt has run longer than its timeout: clean up and return soon, the process is killed next."""


class JobCancelled(BaseException):
    """A person cancelled the job, or its worker has to stop: clean up and return soon."""


class CurrentJob:
    """The job that this process runs right now. `attempt` counts from 1 the attempts that were charged."""

    def __init__(self, job_id: str, *, attempt: int, retries: int, report: Callable[[Progress], None]) -> None:
        self.id = job_id
        self.attempt = attempt
        self.retries = retries
        self._report = report

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is: `done` of `total` in any unit, and a short message. Cheap enough for a tight loop."""
        from bgjobs.job import Progress  # noqa: PLC0415 - keeps `import bgjobs` small

        for number in (done, total):
            if number is not None and not -math.inf < number < math.inf:
                raise ValueError(f"progress is not a finite number: {number}")
        self._report(Progress(done=done, total=total, message=str(message)))


_current: CurrentJob | None = None


def current_job() -> CurrentJob:
    """Return the job that is running. Raises BgjobsError outside of one."""
    if _current is None:
        raise BgjobsError("no job is running in this process", hint="call current_job() inside a job", code="no-job")
    return _current


def set_current(job: CurrentJob | None) -> None:
    """Set the running job. For the runner alone."""
    global _current  # noqa: PLW0603 - one process runs one job at a time
    _current = job
