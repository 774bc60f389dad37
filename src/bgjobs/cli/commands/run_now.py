"""`bgjobs run-now`: drop the delay of scheduled jobs, so that they may start at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgjobs.cli import changes, options
from bgjobs.cli.changes import Change
from bgjobs.cli.output import Answer
from bgjobs.errors import AlreadyEndedError, AlreadyRunningError, BgjobsError
from bgjobs.job import ENDED, Job, State
from bgjobs.queue import Queue

SCHEDULED = frozenset({State.SCHEDULED})


@options.conditional
def command(
    ids: options.ScheduledIds = None,
    *,
    every: options.All = False,
    conditions: Mapping[str, Any],
    dry_run: options.DryRun = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Let delayed jobs start as soon as a worker has time for them. Their priority stays as it is."""
    change = Change(
        among=frozenset(State) - ENDED,
        default=SCHEDULED,
        act=_run_now,
        rehearse=_rehearse,
        missed=(AlreadyEndedError, AlreadyRunningError),
    )
    find = changes.choose(ids, conditions, change, every=every)
    queue = Queue.open(config=config, spool=spool)
    return changes.carry_out(change, queue, find(queue), every=every, dry_run=dry_run, as_json=as_json)


def _run_now(queue: Queue, job_id: str) -> Answer:
    result = queue.run_now(job_id)
    if result in {"running", "too late"}:
        raise _began(queue.get(job_id))
    return Answer({"id": job_id, "result": result}, f"{job_id} {result}")


def _rehearse(queue: Queue, job_id: str) -> Answer | None:
    job = queue.get(job_id)
    if job.state is State.RUNNING or job.state.ended:
        raise _began(job)
    return Answer({"id": job.id}, job.id) if job.state in SCHEDULED else None


def _began(job: Job) -> BgjobsError:
    if job.state.ended:
        return AlreadyEndedError(f"job {job.id} has already ended: it is {job.state}", hint="`bgjobs retry` repeats it")
    return AlreadyRunningError(f"job {job.id} has already begun", hint="nothing to do")
