"""`bgjobs retry`: submit ended jobs again, as new jobs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any

import typer

from bgjobs.cli import changes, options, output
from bgjobs.cli.changes import Change
from bgjobs.cli.output import Answer
from bgjobs.errors import UsageError
from bgjobs.job import ENDED, State
from bgjobs.queue import Queue, store_of


@options.conditional
def command(
    ids: options.EndedIds = None,
    *,
    every: options.All = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --all: also those that a later job retries already.")
    ] = False,
    conditions: Mapping[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, submit nothing; print the ids of the jobs to retry.")
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Submit ended jobs again, as new jobs. Prints the new ids.

    With --all: the failed ones, or those in --state, but not those that a later job retries already.
    """
    change = Change(among=ENDED - {State.CORRUPT}, default=frozenset({State.FAILED}), act=_retry)
    find = changes.choose(ids, conditions, change, every=every)
    if again and not every:
        raise UsageError("--again without --all", hint="jobs that are named are retried in any case", code="usage")
    queue = Queue.open(config=config, spool=spool)
    with store_of(queue).retrying() if every and not dry_run else nullcontext():
        chosen = list(find(queue))
        known = queue.retried(chosen) if every and not again else {}
        return changes.each(
            queue,
            [job_id for job_id in chosen if job_id not in known],
            partial(_rehearse if dry_run else _retry, queue),
            unprinted=None if dry_run else output.unprinted_ids,
            unseen="" if dry_run else output.unseen(),
            as_json=as_json,
        )


def _retry(queue: Queue, job_id: str) -> Answer:
    job = queue.retry(job_id)
    return Answer({"id": job.id, "retry_of": job.retry_of}, job.id)


def _rehearse(queue: Queue, job_id: str) -> Answer:
    job = queue.retry(job_id, dry_run=True)
    return Answer({"retry_of": job.retry_of}, str(job.retry_of))
