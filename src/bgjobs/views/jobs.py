"""Jobs as people ask for them: one in full, many in some order, why one has not begun, and a wait for their end."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from bgjobs.errors import BgjobsError, TimedOutError
from bgjobs.job import Job, State
from bgjobs.queue import full_id, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bgjobs.queue import Queue
    from bgjobs.store import Filter, WorkerInfo, WorkerView

FIRST_CHUNK = 64  # jobs whose retries are looked up together
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.2
# By name: what to sort by, and whether the largest comes first. Jobs come newest first from the queue.
ORDERS: dict[str, tuple[Callable[[Job], Any], bool]] = {
    "newest": (lambda job: job.id, True),
    "oldest": (lambda job: job.id, False),
    "priority": (lambda job: (-job.priority, job.not_before, job.id), False),
    "due": (lambda job: (job.not_before, job.id), False),
    "finished": (lambda job: (job.finished_at or job.submitted_at, job.id), True),
    "class": (lambda job: (job.name, job.id), False),
    "state": (lambda job: (job.state.value, job.id), False),
}


class JobView(Struct, frozen=True):
    """A job, the id of the latest job that retries it, if one does, and why it has not begun, if it has not."""

    job: Job
    retried_by: str | None = None
    waits_for: Wait | None = None


class Wait(Struct, frozen=True):
    """What a job that has not begun waits for.

    Its moment (`delay`), the moment of its next attempt (`backoff`), any worker (`no-worker`), one that takes its class
    and priority (`not-taken`), one whose process was stopped (`stopped-workers`), or one that is free (`turn`).
    """

    reason: Literal["delay", "backoff", "no-worker", "not-taken", "stopped-workers", "turn"]
    until: datetime | None = None


def one(queue: Queue, job_id: str) -> JobView:
    """Return a job in full. Raises NoSuchJobError, or UsageError for what is no id."""
    job = queue.get(job_id)
    if job.state.ended:
        return JobView(job, retried_by=queue.retried([job.id]).get(job.id))
    return JobView(job, waits_for=wait_of(job, queue.workers() if job.state is State.QUEUED else ()))


def record(queue: Queue, view: JobView) -> dict[str, Any]:
    """Return a job as JSON, secret arguments masked, with the job that retries it."""
    shown = queue.to_json(view.job)
    return shown if view.retried_by is None else shown | {"retried_by": view.retried_by}


def many(queue: Queue, where: Filter, order: str = "newest", limit: int = 0) -> Iterator[JobView]:
    """Go through the jobs that meet the conditions in one of the `ORDERS`: at most `limit`, or all with 0."""
    if order == "newest":  # they come as they are: no need to read them all for the first few
        jobs = store_of(queue).jobs(where, limit=limit)
    else:
        key, is_descending = ORDERS[order]
        jobs = islice(sorted(queue.jobs(where), key=key, reverse=is_descending), limit or None)
    size = FIRST_CHUNK
    while chunk := list(islice(jobs, size)):
        retried = queue.retried(job.id for job in chunk if job.state.ended)
        yield from (JobView(job, retried.get(job.id)) for job in chunk)
        size *= 2  # for many it costs little more to look whether their retries are there


def ids(queue: Queue, named: Iterable[str]) -> list[str | BgjobsError]:
    """Return the full id of each job once, in the order in which they are named, or why there is none."""
    found: dict[str, str | BgjobsError] = {}
    for name in dict.fromkeys(named):
        try:
            job_id = full_id(queue, name)
        except BgjobsError as error:
            found[name] = error
        else:
            found[job_id] = job_id
    return list(found.values())


def wait_of(job: Job, workers: Iterable[WorkerView]) -> Wait | None:
    """Return what a job waits for before it can begin, or None for one that has begun or ended."""
    if job.state is State.SCHEDULED:
        return Wait("backoff" if job.charged else "delay", job.not_before)
    if job.state is not State.QUEUED:
        return None
    alive = [worker for worker in workers if worker.alive and worker.info.concurrency]
    if not alive:
        return Wait("no-worker")
    taking = [worker for worker in alive if _takes(worker.info, job)]
    if not taking:
        return Wait("not-taken")
    return Wait("turn" if any(worker.responsive for worker in taking) else "stopped-workers")


def _takes(worker: WorkerInfo, job: Job) -> bool:
    return (not worker.only or job.class_name in worker.only) and job.priority >= worker.min_priority


def until_ended(
    queue: Queue,
    chosen: Sequence[str],
    *,
    first: bool = False,
    timeout: float | None = None,
    show: Callable[[Sequence[Job]], None] = lambda _: None,
) -> list[Job]:
    """Wait until all jobs, or the first of them, have ended; return those. `show` gets all of them after each look.

    `timeout` is in seconds. Raises TimedOutError.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    jobs = {job_id: queue.get(job_id) for job_id in chosen}
    pause = FIRST_PAUSE_S
    while True:
        show(list(jobs.values()))
        left = [job for job in jobs.values() if not job.state.ended]
        if not left or (first and len(left) < len(jobs)):
            return [job for job in jobs.values() if job.state.ended]
        rest = LONGEST_PAUSE_S if deadline is None else deadline - time.monotonic()
        if rest <= 0:
            others = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            what = f"timed out: job {left[0].id} is {left[0].state}{others}"
            raise TimedOutError(what, hint="wait again, or see `bgjobs status`")
        time.sleep(min(pause, rest))
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
        jobs |= {job.id: queue.get(job.id) for job in left}
