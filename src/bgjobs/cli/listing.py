"""`bgjobs list`: the jobs that meet some conditions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from bgjobs import clock
from bgjobs.cli import details, moments, opening, options, output
from bgjobs.cli.choosing import conditional
from bgjobs.cli.filters import Conditions
from bgjobs.errors import UsageError
from bgjobs.job import Job, show_priority
from bgjobs.queue import Queue

HEAD = ("id", "state", "prio", "job", "att", "submitted", "error")
ELASTIC = {HEAD.index("job"), HEAD.index("error")}
FIRST_LOOK = 64
ENOUGH_OF_ID = 10  # unique as good as ever, and accepted by every command

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


@conditional
def list_jobs(
    *,
    conditions: Conditions,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many; 0 for all.")] = 50,
    sort: Annotated[str, typer.Option("--sort", metavar="ORDER", help=f"One of {', '.join(ORDERS)}.")] = "newest",
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """List jobs, newest first. Elsewhere than on a terminal: one line each, with tabs between the columns."""
    if sort not in ORDERS:
        raise UsageError(f"bad --sort {sort[:40]!r}", hint=f"use one of {', '.join(ORDERS)}", code="bad-sort")
    now = clock.now()
    where = conditions.filter(now)
    queue = opening.existing(config, spool)
    found = _in_order(queue.jobs(where), sort)
    shown = islice(found, limit) if limit else found
    if as_json:
        for job, later in _with_retries(queue, shown):
            output.json(details.to_json(job, queue.hidden(job), later))
        return
    compact = output.is_terminal(sys.stdout)
    rows = (_row(job, later, now, compact=compact) for job, later in _with_retries(queue, shown))
    output.table(HEAD, rows, elastic=ELASTIC)


def _with_retries(queue: Queue, jobs: Iterator[Job]) -> Iterator[tuple[Job, str | None]]:
    """Go through the jobs, each with the id of the latest one that retries it."""
    size = FIRST_LOOK
    while chunk := list(islice(jobs, size)):
        known = queue.retried(job.id for job in chunk if job.state.ended)
        yield from ((job, known.get(job.id)) for job in chunk)
        size *= 2  # for many it costs little more to look whether their retries are there


def _in_order(jobs: Iterable[Job], order: str) -> Iterator[Job]:
    if order == "newest":
        return iter(jobs)  # as they come: no need to read them all for the first few
    key, is_descending = ORDERS[order]
    return iter(sorted(jobs, key=key, reverse=is_descending))


def _row(job: Job, later: str | None, now: datetime, *, compact: bool) -> output.Line:
    error = details.why(job.error) if job.error else ""
    if later is not None:
        mark = f"retried as {later[-ENOUGH_OF_ID:] if compact else later}"
        error = f"{mark}: {error}" if error else mark
    progress = details.progress(job.progress) if job.progress and not job.state.ended else ""
    return [
        (job.id[-ENOUGH_OF_ID:] if compact else job.id, ""),
        (job.state.value, job.state.value),
        (show_priority(job.priority), ""),
        (job.name, "bold"),
        (f"{job.charged}/{job.retries + 1}", ""),
        (moments.compact(job.submitted_at, now) if compact else moments.shown(job.submitted_at, now), "dim"),
        (error or progress, "red" if error else ""),
    ]
