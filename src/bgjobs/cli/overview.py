"""The state of the whole queue: what `bgjobs status` shows, as values and as lines to read."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bgjobs.calls import masking
from bgjobs.cli import details, moments
from bgjobs.job import Job, State, rfc3339
from bgjobs.store import Filter, WorkerView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.cli.output import Line
    from bgjobs.queue import Queue

FAILURES = 5
LOOKED_THROUGH = 100  # the newest failed jobs: the latest to fail are hardly among the older ones
GONE = "gone, its jobs are recovered by the next worker"
UNRESPONSIVE = "unresponsive: somebody stopped its process; continue it (kill -CONT) or kill it"


class Overview(Struct, frozen=True, kw_only=True):
    """The queue at one moment."""

    at: datetime
    spool: str
    counts: dict[State, int]
    oldest_queued: datetime | None
    workers: list[WorkerView]
    running: list[Job]
    failures: list[Job]


def look(queue: Queue, now: datetime, *, failures: bool = True) -> Overview:
    """Look at the queue."""
    counts = queue.counts()
    running = queue.jobs(Filter(states=frozenset({State.RUNNING}))) if counts[State.RUNNING] else ()
    return Overview(
        at=now,
        spool=queue.settings.spool,
        counts=counts,
        oldest_queued=queue.backend.oldest_queued() if counts[State.QUEUED] else None,
        workers=queue.workers(),
        running=list(running),
        failures=_latest_failures(queue) if failures and counts[State.FAILED] else [],
    )


def to_json(seen: Overview, queue: Queue) -> dict[str, Any]:
    """Return it as JSON."""
    waited = None if seen.oldest_queued is None else max(0.0, (seen.at - seen.oldest_queued).total_seconds())
    return {
        "counts": {state.value: number for state, number in seen.counts.items()},
        "oldest_queued_s": None if waited is None else round(waited, 3),
        "workers": [_worker_json(worker) for worker in seen.workers],
        "running": [masking.as_json(job, queue.hidden(job)) for job in seen.running],
    }


def lines(seen: Overview) -> Iterator[Line]:
    """Go through the lines to read."""
    yield [("spool      ", "dim"), (seen.spool, "")]
    yield [("jobs       ", "dim"), *_counted(seen.counts)]
    if seen.oldest_queued is not None:
        yield [("oldest     ", "dim"), (f"queued, could start {moments.shown(seen.oldest_queued, seen.at)}", "")]
    yield [("workers    ", "dim"), ("" if seen.workers else "none, start one with `bgjobs worker`", "")]
    yield from (_worker(worker, seen.at) for worker in seen.workers)
    yield [("running    ", "dim"), ("" if seen.running else "none", "")]
    yield from (_running(job, seen.at) for job in seen.running)
    if seen.failures:
        yield [("failures   ", "dim"), ("the latest, see `bgjobs status ID`", "dim")]
        yield from (_failure(job, seen.at) for job in seen.failures)


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


def _counted(counts: dict[State, int]) -> Iterator[tuple[str, str]]:
    for place, (state, number) in enumerate(counts.items()):
        yield (f"{', ' if place else ''}{state.value} {number}", state.value if number else "dim")


def _worker(worker: WorkerView, now: datetime) -> Line:
    if not worker.alive:
        return [(f"  {worker.info.name}  ", "bold"), (GONE, "yellow")]
    if not worker.responsive:
        return [(f"  {worker.info.name}  ", "bold"), (UNRESPONSIVE, "yellow")]
    text = f"{worker.info.concurrency} at a time, since {moments.shown(worker.info.started_at, now)}"
    dropped = f", {worker.dropped} log lines could not be written" if worker.dropped else ""
    stale = ", stale: code was changed since it loaded it; restart it" if worker.stale else ""
    return [(f"  {worker.info.name}  ", "bold"), ("alive", "green"), (f", {text}", ""), (dropped + stale, "yellow")]


def _running(job: Job, now: datetime) -> Line:
    if job.started_at is None or not job.worker:
        return [(f"  {job.id}  ", ""), (job.name, "bold"), ("  claimed, about to begin", "")]
    since = moments.shown(job.started_at, now)
    progress = f", {details.progress(job.progress)}" if job.progress else ""
    text = f"attempt {job.charged}/{job.retries + 1} since {since} on {job.worker}{progress}"
    return [(f"  {job.id}  ", ""), (job.name, "bold"), (f"  {text}", "")]


def _failure(job: Job, now: datetime) -> Line:
    reason = details.why(job.error) if job.error else ""
    return [
        (f"  {job.id}  ", ""),
        (job.name, "bold"),
        (f"  {moments.shown(job.finished_at, now)}  ", ""),
        (reason, "red"),
    ]
