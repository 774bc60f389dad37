"""`bgjobs delete`: delete ended jobs, with all that they printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgjobs.cli import changes, options
from bgjobs.cli.changes import Change
from bgjobs.cli.output import Answer
from bgjobs.errors import NoSuchJobError, NotEndedError
from bgjobs.queue import ENDED_AS_JOBS, Queue

DELETED = frozenset(ENDED_AS_JOBS)


@options.conditional
def command(
    ids: options.EndedIds = None,
    *,
    every: options.All = False,
    conditions: Mapping[str, Any],
    dry_run: options.DryRun = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Delete ended jobs, with all that they printed. With --all: the done, failed and cancelled ones."""
    change = Change(among=DELETED, default=DELETED, act=_delete, rehearse=_rehearse, missed=(NoSuchJobError,))
    find = changes.choose(ids, conditions, change, every=every)
    queue = Queue.open(config=config, spool=spool)
    return changes.carry_out(change, queue, find(queue), every=every, dry_run=dry_run, as_json=as_json)


def _delete(queue: Queue, job_id: str) -> Answer:
    queue.delete(job_id)
    return Answer({"id": job_id, "result": "deleted"}, f"{job_id} deleted")


def _rehearse(queue: Queue, job_id: str) -> Answer:
    job = queue.get(job_id)
    if not job.state.ended:
        raise NotEndedError(f"job {job.id} is {job.state}", hint="cancel it first")
    return Answer({"id": job.id}, job.id)
