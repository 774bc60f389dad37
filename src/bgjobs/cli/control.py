"""`bgjobs cancel` and `bgjobs retry`: stop jobs, and submit ended ones again."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Annotated

import typer

from bgjobs.cli import opening, options, output
from bgjobs.cli.choosing import choose, conditional
from bgjobs.cli.each import each
from bgjobs.cli.filters import Conditions
from bgjobs.cli.output import Answer
from bgjobs.errors import AlreadyEndedError, UsageError
from bgjobs.job import ENDED, State
from bgjobs.queue import Queue

ACTIVE = frozenset(State) - ENDED
RETRIED = ENDED - {State.CORRUPT}
SHOWN = {"cancelled": "cancelled", "requested": "stopping"}


@conditional
def cancel(
    ids: options.ActiveIds = None,
    *,
    every: options.All = False,
    conditions: Conditions,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Cancel jobs. One that runs is asked to stop, and then killed with its whole process tree."""
    find = choose(ids, conditions, every=every, among=ACTIVE, default=ACTIVE)
    queue = opening.existing(config, spool)
    return each(
        queue,
        find(queue),
        partial(_cancel, queue, quietly=every),
        unprinted=output.unprinted_answers,
        as_json=as_json,
    )


@conditional
def retry(
    ids: options.EndedIds = None,
    *,
    every: options.All = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --all: also those that a later job retries already.")
    ] = False,
    conditions: Conditions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the ids of the jobs that it would be.")
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Submit ended jobs again, as new jobs. Prints the new ids.

    With --all: the failed ones, or those in --state, but not those that a later job retries already.
    """
    find = choose(ids, conditions, every=every, among=RETRIED, default=frozenset({State.FAILED}))
    if again and not every:
        raise UsageError("--again without --all", hint="jobs that are named are retried in any case", code="usage")
    queue = opening.existing(config, spool)
    with queue.backend.retrying() if every and not dry_run else nullcontext():
        chosen = list(find(queue))
        known = queue.retried(chosen) if every and not again else {}
        left = [job_id for job_id in chosen if job_id not in known]
        if dry_run:
            return each(queue, left, partial(_rehearse, queue), unprinted=None, as_json=as_json)
        return each(
            queue,
            left,
            partial(_retry, queue),
            unprinted=output.unprinted_ids,
            unseen=output.unseen(),
            as_json=as_json,
        )


def _cancel(queue: Queue, job_id: str, *, quietly: bool) -> Answer | None:
    result = queue.cancel(job_id)
    if result == "too late":
        if quietly:
            return None  # it ended while we came to it
        raise AlreadyEndedError(
            f"job {job_id} has already ended: it is {queue.get(job_id).state}", hint="nothing to cancel"
        )
    return Answer({"id": job_id, "result": SHOWN[result]}, f"{job_id} {SHOWN[result]}")


def _retry(queue: Queue, job_id: str) -> Answer:
    job = queue.retry(job_id)
    return Answer({"id": job.id, "retry_of": job.retry_of}, job.id)


def _rehearse(queue: Queue, job_id: str) -> Answer:
    job = queue.to_retry(job_id)
    queue.allowlist.target(job.class_name, job.method)
    return Answer({"retry_of": job.id}, job.id)
