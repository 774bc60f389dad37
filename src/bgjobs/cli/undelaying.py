"""`bgjobs run-now`: jobs that wait for their moment may start at once."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from bgjobs.cli import complete, opening, options, output
from bgjobs.cli.choosing import choose, conditional
from bgjobs.cli.each import each
from bgjobs.cli.filters import Conditions
from bgjobs.cli.output import Answer
from bgjobs.errors import AlreadyEndedError, BgjobsError
from bgjobs.job import ENDED, Job, State
from bgjobs.queue import Queue

DELAYED = frozenset({State.SCHEDULED})


@conditional
def run_now(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Jobs: ids, or the ends of them.", autocompletion=complete.scheduled_ids),
    ] = None,
    *,
    every: options.All = False,
    conditions: Conditions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the ids of these jobs.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Let delayed jobs start as soon as a worker has time for them. Their priority stays as it is."""
    find = choose(ids, conditions, every=every, among=frozenset(State) - ENDED, default=DELAYED)
    queue = opening.existing(config, spool)
    return each(
        queue,
        find(queue),
        partial(_rehearse if dry_run else _run_now, queue, quietly=every),
        unprinted=None if dry_run else output.unprinted_answers,
        as_json=as_json,
    )


def _run_now(queue: Queue, job_id: str, *, quietly: bool) -> Answer | None:
    result = queue.run_now(job_id)
    if result in {"running", "too late"}:
        if quietly:
            return None  # it began while we came to it
        raise _began(queue.get(job_id))
    return Answer({"id": job_id, "result": result}, f"{job_id} {result}")


def _rehearse(queue: Queue, job_id: str, *, quietly: bool) -> Answer | None:
    job = queue.get(job_id)
    if job.state is State.RUNNING or job.state.ended:
        if quietly:
            return None
        raise _began(job)
    return Answer({"id": job.id}, job.id) if job.state in DELAYED else None


def _began(job: Job) -> BgjobsError:
    if job.state.ended:
        return AlreadyEndedError(f"job {job.id} has already ended: it is {job.state}", hint="`bgjobs retry` repeats it")
    return BgjobsError(f"job {job.id} has already begun", hint="nothing to do", code="already-running")
