"""The whole queue at one moment: counts, workers, what runs now, the latest failures, how long the oldest job waits."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bgjobs.job import Job, State, rfc3339
from bgjobs.queue import store_of
from bgjobs.store import Filter, WorkerView

if TYPE_CHECKING:
    from bgjobs.queue import Queue

FAILURES = 5
LOOKED_THROUGH = 100  # the newest failed jobs: the latest to fail are hardly among the older ones


class Overview(Struct, frozen=True, kw_only=True):
    """The queue at one moment."""

    at: datetime
    spool: str
    counts: dict[State, int]
    oldest_queued: datetime | None
    workers: list[WorkerView]
    running: list[Job]
    failures: list[Job]


def look(queue: Queue, now: datetime) -> Overview:
    """Return the queue as it is now."""
    counts = queue.counts()
    running = queue.jobs(Filter(states=frozenset({State.RUNNING}))) if counts[State.RUNNING] else ()
    return Overview(
        at=now,
        spool=queue.settings.spool,
        counts=counts,
        oldest_queued=store_of(queue).oldest_queued() if counts[State.QUEUED] else None,
        workers=queue.workers(),
        running=list(running),
        failures=_latest_failures(queue) if counts[State.FAILED] else [],
    )


def to_json(seen: Overview, queue: Queue) -> dict[str, Any]:
    """Return it as JSON."""
    waited = None if seen.oldest_queued is None else max(0.0, (seen.at - seen.oldest_queued).total_seconds())
    return {
        "counts": {state.value: number for state, number in seen.counts.items()},
        "oldest_queued_s": None if waited is None else round(waited, 3),
        "workers": [_worker_json(worker) for worker in seen.workers],
        "running": [queue.to_json(job) for job in seen.running],
    }


def _latest_failures(queue: Queue) -> list[Job]:
    newest = islice(queue.jobs(Filter(states=frozenset({State.FAILED}))), LOOKED_THROUGH)
    return sorted(newest, key=lambda job: job.finished_at or job.submitted_at, reverse=True)[:FAILURES]


def _worker_json(worker: WorkerView) -> dict[str, Any]:
    return {
        "id": worker.id,
        "name": worker.info.name,
        "host": worker.info.host,
        "pid": worker.info.pid,
        "concurrency": worker.info.concurrency,
        "started_at": rfc3339(worker.info.started_at),
        "version": worker.info.version,
        "alive": worker.alive,
        "responsive": worker.responsive,
        "stale": worker.stale,
        "log_lines_dropped": worker.dropped,
    }
