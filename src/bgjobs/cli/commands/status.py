"""`bgjobs status`: show the whole queue, or all about one job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated

import typer

from bgjobs import clock
from bgjobs.cli import job_lines, options, output, times
from bgjobs.cli.spans import Line
from bgjobs.job import Job, State
from bgjobs.queue import Queue, full_id
from bgjobs.store import WorkerView
from bgjobs.views import jobs, overview
from bgjobs.views.overview import Overview

WATCH_EVERY_S = 1.0
GONE = "gone, its jobs are recovered by the next worker"
UNRESPONSIVE = "unresponsive: its process was stopped; continue it (kill -CONT) or kill it"


def command(
    job_id: options.JobId = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every second; with an ID until the job has ended.")
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the whole queue, or all about one job.

    How many jobs are in which state, the workers, what runs now, and the latest failures.
    """
    queue = Queue.open(config=config, spool=spool)
    view = _View(queue, job_id)
    if not watch:
        view.look()
        _print(view, as_json=as_json)
    elif output.is_terminal(sys.stdout) and not as_json:
        _draw(view)
    else:
        _repeat(view, lambda: _print(view, as_json=as_json, apart=True))


class _View:
    """What is shown: the queue, or one job of it."""

    def __init__(self, queue: Queue, job_id: str | None) -> None:
        self._queue = queue
        self._job_id = None if job_id is None else full_id(queue, job_id)
        self.value: object = None
        self.lines: list[Line] = []
        self.is_final = False

    def look(self) -> None:
        """Ask the queue again."""
        now = clock.now()
        if self._job_id is None:
            seen = overview.look(self._queue, now)
            self.value = overview.to_json(seen, self._queue)
            self.lines = list(_lines(seen))
            return
        found = jobs.one(self._queue, self._job_id)
        record = jobs.record(self._queue, found)
        self.value, self.lines = record, list(job_lines.of_job(found, record, now))
        self.is_final = found.job.state.ended


def _print(view: _View, *, as_json: bool, apart: bool = False) -> None:
    output.result(view.value, view.lines, as_json=as_json)
    if apart and not as_json:
        output.data("")
        sys.stdout.flush()


def _draw(view: _View) -> None:
    from bgjobs.cli import terminal  # noqa: PLC0415 - rich is slow to import

    with terminal.live() as live:
        _repeat(view, lambda: live.update(terminal.text(view.lines), refresh=True))


def _repeat(view: _View, show: Callable[[], None]) -> None:
    while True:
        view.look()
        show()
        if view.is_final:
            return
        time.sleep(WATCH_EVERY_S)


# The whole queue, as lines to read


def _lines(seen: Overview) -> Iterator[Line]:
    """Go through the lines to read."""
    yield [("spool      ", "dim"), (seen.spool, "")]
    yield [("jobs       ", "dim"), *_counted(seen.counts)]
    if seen.oldest_queued is not None:
        yield [("oldest     ", "dim"), (f"queued, could start {times.shown(seen.oldest_queued, seen.at)}", "")]
    yield [("workers    ", "dim"), ("" if seen.workers else "none, start one with `bgjobs worker`", "")]
    yield from (_worker(worker, seen.at) for worker in seen.workers)
    yield [("running    ", "dim"), ("" if seen.running else "none", "")]
    yield from (_running(job, seen.at) for job in seen.running)
    if seen.failures:
        yield [("failures   ", "dim"), ("the latest, see `bgjobs status ID`", "dim")]
        yield from (_failure(job, seen.at) for job in seen.failures)


def _counted(counts: dict[State, int]) -> Iterator[tuple[str, str]]:
    for place, (state, number) in enumerate(counts.items()):
        yield (f"{', ' if place else ''}{state.value} {number}", state.value if number else "dim")


def _worker(worker: WorkerView, now: datetime) -> Line:
    if not worker.alive:
        return [(f"  {worker.info.name}  ", "bold"), (GONE, "yellow")]
    if not worker.responsive:
        return [(f"  {worker.info.name}  ", "bold"), (UNRESPONSIVE, "yellow")]
    text = f"{worker.info.concurrency} at a time, since {times.shown(worker.info.started_at, now)}"
    dropped = f", {worker.dropped} log lines could not be written" if worker.dropped else ""
    stale = ", stale: code was changed since it loaded it; restart it" if worker.stale else ""
    return [(f"  {worker.info.name}  ", "bold"), ("alive", "green"), (f", {text}", ""), (dropped + stale, "yellow")]


def _running(job: Job, now: datetime) -> Line:
    if job.started_at is None or not job.worker:
        return [(f"  {job.id}  ", ""), (job.name, "bold"), ("  claimed, about to begin", "")]
    since = times.shown(job.started_at, now)
    progress = f", {job_lines.progress(job.progress)}" if job.progress else ""
    text = f"attempt {job.charged}/{job.retries + 1} since {since} on {job.worker}{progress}"
    return [(f"  {job.id}  ", ""), (job.name, "bold"), (f"  {text}", "")]


def _failure(job: Job, now: datetime) -> Line:
    reason = job_lines.why(job.error) if job.error else ""
    return [
        (f"  {job.id}  ", ""),
        (job.name, "bold"),
        (f"  {times.shown(job.finished_at, now)}  ", ""),
        (reason, "red"),
    ]
