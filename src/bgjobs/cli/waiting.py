"""`bgjobs wait`: until jobs have ended. Also what `submit --wait` does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from bgjobs.calls import masking
from bgjobs.cli import complete, moments, opening, options, output
from bgjobs.errors import BgjobsError, JobFailed, JobWasCancelled
from bgjobs.job import Job
from bgjobs.queue import Queue

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.2


class TimedOutError(BgjobsError):
    """The jobs had not ended when the patience had."""

    code = "timed-out"
    exit_status = 124


def wait(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="Jobs: ids, or the ends of them.", autocompletion=complete.active_ids),
    ],
    *,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Give up after so long: exit 124.")
    ] = None,
    first: Annotated[bool, typer.Option("--any", help="Until one of them ended; prints its id.")] = False,
    result: Annotated[bool, typer.Option("--result", help="Print what the method returned, as JSON.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Wait until all these jobs have ended. Exit 0 when all are done, 5 when one failed, 6 when one was cancelled."""
    queue = opening.existing(config, spool)
    patience = None if timeout is None else moments.parse_length(timeout, "--timeout").total_seconds()
    chosen = list(dict.fromkeys(queue.get(job_id).id for job_id in ids))
    ended = until_ended(queue, chosen, first=first, patience=patience)
    for job in ended:
        if result and job.result_json is not None:
            output.json(job.result_json)
            _tell_note(job)
        elif as_json and not result:
            output.json(masking.as_json(job, queue.hidden(job)))
        elif first and not result:
            output.data(job.id)
    return verdict(queue, ended, as_json=as_json)


def for_submitted(queue: Queue, job_id: str, *, follow: bool, as_json: bool) -> int:
    """Wait for a job that was just submitted; return the exit status that it stands for."""
    try:
        if follow:
            from bgjobs.cli import printed  # noqa: PLC0415 - most submissions do not follow

            job = printed.follow(queue, job_id, output.writer(sys.stderr))
        else:
            [job] = until_ended(queue, [job_id])
    except KeyboardInterrupt:
        output.note(f"job {job_id} goes on: `bgjobs wait` waits for it, `bgjobs cancel` stops it")
        raise
    if as_json:
        output.json(masking.as_json(job, queue.hidden(job)))
    else:
        _tell_note(job)
    return verdict(queue, [job], as_json=as_json)


def _tell_note(job: Job) -> None:
    """Say what was lost of a result: it would look like a plain one."""
    if job.note:
        output.note(f"job {job.id}: {job.note}")


def until_ended(queue: Queue, ids: Sequence[str], *, first: bool = False, patience: float | None = None) -> list[Job]:
    """Wait until all jobs, or the first of them, have ended; return those. Raises TimedOutError."""
    with ExitStack() as stack:
        show: Callable[[Sequence[Job]], None] = _nothing
        if output.is_terminal(sys.stderr):
            from bgjobs.cli import drawing  # noqa: PLC0415 - rich is slow to import

            show = stack.enter_context(drawing.Bars(sys.stderr)).show
        return _until_ended(queue, ids, first=first, patience=patience, show=show)


def verdict(queue: Queue, ended: Sequence[Job], *, as_json: bool) -> int:
    """Say which jobs failed or were cancelled; return 0, 5 or 6."""
    worst = 0
    for job in ended:
        try:
            queue.wait(job.id, timeout=0)
        except (JobFailed, JobWasCancelled) as error:
            output.error(error, as_json=as_json)
            worst = JobFailed.exit_status if isinstance(error, JobFailed) else worst or error.exit_status
    return worst


def _until_ended(
    queue: Queue,
    ids: Sequence[str],
    *,
    first: bool,
    patience: float | None,
    show: Callable[[Sequence[Job]], None],
) -> list[Job]:
    deadline = None if patience is None else time.monotonic() + patience
    jobs = {job_id: queue.get(job_id) for job_id in ids}
    pause = FIRST_PAUSE_S
    while True:
        show(list(jobs.values()))
        ended = [job for job in jobs.values() if job.state.ended]
        if len(ended) == len(jobs) or (first and ended):
            return ended
        left = LONGEST_PAUSE_S if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise _timed_out([job for job in jobs.values() if not job.state.ended])
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
        jobs |= {job_id: queue.get(job_id) for job_id, job in jobs.items() if not job.state.ended}


def _timed_out(left: Sequence[Job]) -> TimedOutError:
    others = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    return TimedOutError(
        f"timed out: job {left[0].id} is {left[0].state}{others}", hint="wait again, or see `bgjobs status`"
    )


def _nothing(_: Sequence[Job]) -> None:
    """Show nothing: there is no terminal."""
