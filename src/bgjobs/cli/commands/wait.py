"""`bgjobs wait`: wait until jobs have ended."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs.cli import completion, options, output, waiting
from bgjobs.queue import Queue
from bgjobs.requests import duration


def command(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="Jobs: ids, or the ends of them.", autocompletion=completion.active_ids),
    ],
    *,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Give up after this long: exit 124.")
    ] = None,
    first: Annotated[bool, typer.Option("--any", help="Wait until one of them has ended; prints its id.")] = False,
    result: Annotated[bool, typer.Option("--result", help="Print what the method returned, as JSON.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Wait until all these jobs have ended. Exit 0 when all are done, 5 when one failed, 6 when one was cancelled."""
    queue = Queue.open(config=config, spool=spool)
    seconds = None if timeout is None else duration("--timeout", timeout).total_seconds()
    chosen = list(dict.fromkeys(queue.get(job_id).id for job_id in ids))
    ended = waiting.until_ended(queue, chosen, first=first, timeout=seconds)
    for job in ended:
        if result and job.result_json is not None:
            output.json(job.result_json)
            waiting.note_loss(job)
        elif as_json and not result:
            output.json(queue.to_json(job))
        elif first and not result:
            output.data(job.id)
    return waiting.verdict(queue, ended, as_json=as_json)
