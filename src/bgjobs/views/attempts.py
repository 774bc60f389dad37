"""Read what an attempt printed, or follow it live, from one attempt to the next until the job has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs.errors import UsageError
from bgjobs.queue import store_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Job
    from bgjobs.queue import Queue

PAUSE_S = 0.1


def output(queue: Queue, job: Job, number: int | None) -> bytes:
    """Return what an attempt (default: the latest) printed so far. Raises UsageError if there was no such attempt."""
    if number is None:
        number = max(1, len(job.attempts))
    elif not 1 <= number <= len(job.attempts):
        raise UsageError(
            f"job {job.id} has no attempt {number}", hint=f"it had {len(job.attempts)}", code="bad-attempt"
        )
    return _piece(queue, job, number, 0)[0]


def follow(
    queue: Queue,
    job_id: str,
    write: Callable[[bytes], None],
    *,
    number: int = 1,
    trim: Callable[[bytes], bytes] = bytes,
) -> Job:
    """Write what the job prints, from this attempt on, until it has ended; return it then.

    `trim` may shorten what had already been printed at the beginning.
    """
    job = queue.get(job_id)
    first = True
    written = 0
    while True:
        piece, job = _piece(queue, job, number, written)
        if piece:
            write(trim(piece) if first else piece)
            written += len(piece)
        first = False
        if len(job.attempts) > number:
            number, written = number + 1, 0
        elif job.state.ended:
            return job
        else:
            time.sleep(PAUSE_S)


def _piece(queue: Queue, job: Job, number: int, offset: int) -> tuple[bytes, Job]:
    """Return what an attempt printed after an offset, and the job as it was afterwards."""
    piece = store_of(queue).read_output(job, number, offset)
    # The runner uses its file again for the next job, and then what was read may be that job's. When the attempt
    # is not over after the reading, it was not; else what it printed lies under its own name by now.
    job = queue.get(job.id)
    if job.state.ended or len(job.attempts) > number or _is_over(job, number):
        piece = store_of(queue).read_output(job, number, offset)
    return piece, job


def last_lines(content: bytes, count: int) -> bytes:
    """Return this number of last lines."""
    return b"".join(content.splitlines(keepends=True)[-count:]) if count else b""


def _is_over(job: Job, number: int) -> bool:
    return len(job.attempts) >= number and job.attempts[number - 1].finished_at is not None
