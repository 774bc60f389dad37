"""Wait for jobs with a progress bar, and report which of them failed."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bgjobs.cli import output
from bgjobs.errors import JobFailed, JobWasCancelled
from bgjobs.views import jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgjobs.job import Job
    from bgjobs.queue import Queue


def for_submitted(queue: Queue, job_id: str, *, follow: bool, as_json: bool) -> int:
    """Wait for a job that was just submitted; return the exit status that it stands for."""
    try:
        if follow:
            from bgjobs.views import attempts  # noqa: PLC0415 - most submissions do not follow

            job = attempts.follow(queue, job_id, output.writer(sys.stderr))
        else:
            [job] = until_ended(queue, [job_id])
    except KeyboardInterrupt:
        output.note(f"job {job_id} goes on: `bgjobs wait` waits for it, `bgjobs cancel` stops it")
        raise
    if as_json:
        output.json(queue.to_json(job))
    else:
        note_loss(job)
    return verdict(queue, [job], as_json=as_json)


def until_ended(queue: Queue, ids: Sequence[str], *, first: bool = False, timeout: float | None = None) -> list[Job]:
    """Wait as `views.jobs.until_ended` does, with a bar for each job on a terminal."""
    with ExitStack() as stack:
        if not output.is_terminal(sys.stderr):
            return jobs.until_ended(queue, ids, first=first, timeout=timeout)
        from bgjobs.cli import terminal  # noqa: PLC0415 - rich is slow to import

        bars = stack.enter_context(terminal.Bars(sys.stderr))
        return jobs.until_ended(queue, ids, first=first, timeout=timeout, show=bars.show)


def note_loss(job: Job) -> None:
    """Print what was lost of a result: it would look like a complete one."""
    if job.note:
        output.note(f"job {job.id}: {job.note}")


def verdict(queue: Queue, ended: Sequence[Job], *, as_json: bool) -> int:
    """Print which jobs failed or were cancelled; return 0, 5 or 6."""
    worst = 0
    for job in ended:
        try:
            queue.wait(job.id, timeout=0)
        except (JobFailed, JobWasCancelled) as error:
            output.error(error, as_json=as_json)
            worst = JobFailed.exit_status if isinstance(error, JobFailed) else worst or error.exit_status
    return worst
