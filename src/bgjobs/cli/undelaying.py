"""`bgjobs run-now`: jobs that wait for their moment may start at once."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs import clock
from bgjobs.cli import complete, options, output
from bgjobs.cli.each import each
from bgjobs.cli.filters import Conditions
from bgjobs.errors import AlreadyEndedError, BgjobsError
from bgjobs.job import ENDED, Job, State
from bgjobs.queue import Queue

DELAYED = frozenset({State.SCHEDULED})


def run_now(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Jobs: ids, or the ends of them.", autocompletion=complete.scheduled_ids),
    ] = None,
    *,
    every: options.All = False,
    states: options.States = None,
    class_name: options.OfClass = None,
    method: options.OfMethod = None,
    priority: options.OfPriority = None,
    tag: options.OfTag = None,
    since: options.Since = None,
    until: options.Until = None,
    error: options.Mentioning = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the ids of these jobs.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Let delayed jobs start as soon as a worker has time for them. Their priority stays as it is."""
    conditions = Conditions(
        states=states,
        class_name=class_name,
        method=method,
        priority=priority,
        tag=tag,
        since=since,
        until=until,
        error=error,
    )
    conditions.check_choice(ids, every=every)
    where = conditions.filter(clock.now(), among=frozenset(State) - ENDED, default=DELAYED)
    queue = Queue.open(config=config, spool=spool)
    chosen = [job.id for job in queue.jobs(where)] if every else ids or []
    act = _rehearse if dry_run else _run_now
    return each(chosen, lambda job_id: act(queue, job_id, quietly=every, as_json=as_json), as_json=as_json)


def _run_now(queue: Queue, job_id: str, *, quietly: bool, as_json: bool) -> None:
    full = queue.full_id(job_id)
    result = queue.run_now(full)
    if result in {"running", "too late"}:
        if not quietly:  # with --all: it began while we came to it
            raise _began(queue.get(full))
    elif as_json:
        output.json({"id": full, "result": result})
    else:
        output.data(f"{full} {result}")


def _rehearse(queue: Queue, job_id: str, *, quietly: bool, as_json: bool) -> None:
    job = queue.get(job_id)
    if job.state is State.RUNNING or job.state.ended:
        if not quietly:
            raise _began(job)
    elif job.state in DELAYED:
        if as_json:
            output.json({"id": job.id})
        else:
            output.data(job.id)


def _began(job: Job) -> BgjobsError:
    if job.state.ended:
        return AlreadyEndedError(f"job {job.id} has already ended: it is {job.state}", hint="`bgjobs retry` repeats it")
    return BgjobsError(f"job {job.id} has already begun", hint="nothing to do", code="already-running")
