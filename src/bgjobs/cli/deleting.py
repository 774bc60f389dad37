"""`bgjobs delete` and `bgjobs prune`: ended jobs go, with all that they printed."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs.cli import moments, opening, options, output
from bgjobs.cli.choosing import choose, conditional
from bgjobs.cli.each import each
from bgjobs.cli.filters import Conditions
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
    act = _rehearse if dry_run else _delete
    return each(find(queue), lambda job_id: act(queue, job_id, quietly=every, as_json=as_json), as_json=as_json)


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


def _delete(queue: Queue, job_id: str, *, quietly: bool, as_json: bool) -> None:
    full = queue.full_id(job_id)
    try:
        queue.delete(full)
    except NoSuchJobError:
        if quietly:
            return  # somebody else deleted it while we came to it
        raise
    if as_json:
        output.json({"id": full, "result": "deleted"})
    else:
        output.data(f"{full} deleted")


def _rehearse(queue: Queue, job_id: str, *, quietly: bool, as_json: bool) -> None:
    try:
        job = queue.get(job_id)
    except NoSuchJobError:
        if quietly:
            return
        raise
    if not job.state.ended:
        raise NotEndedError(f"job {job.id} is {job.state}", hint="cancel it first")
    if as_json:
        output.json({"id": job.id})
    else:
        output.data(job.id)
