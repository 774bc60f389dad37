"""`bgjobs cancel`: stop jobs, before they begin or while they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgjobs.cli import changes, options
from bgjobs.cli.changes import Change
from bgjobs.cli.output import Answer
from bgjobs.errors import AlreadyEndedError
from bgjobs.job import ENDED, State
from bgjobs.queue import Queue

ACTIVE = frozenset(State) - ENDED
RESULTS = {"cancelled": "cancelled", "requested": "stopping"}


@options.conditional
def command(
    ids: options.ActiveIds = None,
    *,
    every: options.All = False,
    conditions: Mapping[str, Any],
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Cancel jobs. One that runs is asked to stop, and then killed with its whole process tree."""
    change = Change(among=ACTIVE, default=ACTIVE, act=_cancel, missed=(AlreadyEndedError,))
    find = changes.choose(ids, conditions, change, every=every)
    queue = Queue.open(config=config, spool=spool)
    return changes.carry_out(change, queue, find(queue), every=every, dry_run=False, as_json=as_json)


def _cancel(queue: Queue, job_id: str) -> Answer:
    result = queue.cancel(job_id)
    if result == "too late":
        raise AlreadyEndedError(
            f"job {job_id} has already ended: it is {queue.get(job_id).state}", hint="nothing to cancel"
        )
    return Answer({"id": job_id, "result": RESULTS[result]}, f"{job_id} {RESULTS[result]}")
