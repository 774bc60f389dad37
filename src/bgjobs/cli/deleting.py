"""`bgjobs delete` and `bgjobs prune`: ended jobs go, with all that they printed."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from bgjobs.cli import moments, opening, options, output
from bgjobs.cli.choosing import choose, conditional
from bgjobs.cli.each import each
from bgjobs.cli.filters import Conditions
from bgjobs.cli.output import Answer
from bgjobs.errors import NoSuchJobError, NotEndedError
from bgjobs.job import ENDED
from bgjobs.queue import ENDED_AS_JOBS, Queue
from bgjobs.requests import states_of

DELETED = frozenset(ENDED_AS_JOBS)


@conditional
def delete(
    ids: options.EndedIds = None,
    *,
    every: options.All = False,
    conditions: Conditions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the ids of the jobs that would be deleted.")
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Delete ended jobs, with all that they printed. With --all: the done, failed and cancelled ones."""
    find = choose(ids, conditions, every=every, among=DELETED, default=DELETED)
    queue = opening.existing(config, spool)
    return each(
        queue,
        find(queue),
        partial(_rehearse if dry_run else _delete, queue, quietly=every),
        unprinted=None if dry_run else output.unprinted_answers,
        as_json=as_json,
    )


def prune(
    older: Annotated[
        str | None,
        typer.Option("--older", metavar="DURATION", help="Ended longer ago than that; else as the settings say."),
    ] = None,
    *,
    states: options.States = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many would be deleted.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete the jobs that ended long ago. Workers do that too, now and then; with --older it can be sooner.

    What is corrupt is deleted only with --state corrupt.
    """
    chosen = states_of(states, ENDED) if states else DELETED
    age = None if older is None else moments.parse_length(older, "--older")
    queue = opening.existing(config, spool)
    count = queue.prune(older=age, state=[*chosen], dry_run=dry_run)
    if as_json:
        output.json({"would_delete" if dry_run else "deleted": count})
    else:
        output.data(f"{count} {'job' if count == 1 else 'jobs'} {'would be deleted' if dry_run else 'deleted'}")


def _delete(queue: Queue, job_id: str, *, quietly: bool) -> Answer | None:
    try:
        queue.delete(job_id)
    except NoSuchJobError:
        if quietly:
            return None  # somebody else deleted it while we came to it
        raise
    return Answer({"id": job_id, "result": "deleted"}, f"{job_id} deleted")


def _rehearse(queue: Queue, job_id: str, *, quietly: bool) -> Answer | None:
    try:
        job = queue.get(job_id)
    except NoSuchJobError:
        if quietly:
            return None
        raise
    if not job.state.ended:
        raise NotEndedError(f"job {job.id} is {job.state}", hint="cancel it first")
    return Answer({"id": job.id}, job.id)
