"""`bgjobs prune`: delete the jobs that ended long ago."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs.cli import options, output
from bgjobs.job import ENDED
from bgjobs.queue import ENDED_AS_JOBS, Queue
from bgjobs.requests import duration, states_of


def command(
    older: Annotated[
        str | None,
        typer.Option("--older", metavar="DURATION", help="Minimum time since they ended (default: from the settings)."),
    ] = None,
    *,
    states: options.States = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; print how many it would be.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete the jobs that ended long ago. Workers do that too, now and then; with --older it can be sooner.

    What is corrupt is deleted only with --state corrupt.
    """
    chosen = states_of(states, ENDED) if states else frozenset(ENDED_AS_JOBS)
    age = None if older is None else duration("--older", older)
    count = Queue.open(config=config, spool=spool).prune(older=age, state=[*chosen], dry_run=dry_run)
    done = "would be deleted" if dry_run else "deleted"
    value = {"would_delete" if dry_run else "deleted": count}
    output.result(value, f"{output.plural(count, 'job')} {done}", as_json=as_json)
