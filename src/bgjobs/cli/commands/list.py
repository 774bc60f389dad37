"""`bgjobs list`: list the jobs that meet some conditions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from bgjobs import clock
from bgjobs.cli import job_lines, options, output, times
from bgjobs.cli.spans import Line
from bgjobs.errors import UsageError
from bgjobs.job import show_priority
from bgjobs.queue import Queue
from bgjobs.requests import filter_of
from bgjobs.views import jobs
from bgjobs.views.jobs import ORDERS, JobView

HEAD = ("id", "state", "prio", "job", "att", "submitted", "error")
ELASTIC = {HEAD.index("job"), HEAD.index("error")}
ENOUGH_OF_ID = 10  # unique as good as ever, and accepted by every command


@options.conditional
def command(
    *,
    conditions: Mapping[str, Any],
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Maximum number of jobs; 0 for all.")] = 50,
    sort: Annotated[str, typer.Option("--sort", metavar="ORDER", help=f"One of {', '.join(ORDERS)}.")] = "newest",
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """List jobs, newest first. Elsewhere than on a terminal: one line each, with tabs between the columns."""
    if sort not in ORDERS:
        raise UsageError(f"bad --sort {sort[:40]!r}", hint=f"use one of {', '.join(ORDERS)}", code="bad-sort")
    now = clock.now()
    where = filter_of(now, **conditions)
    queue = Queue.open(config=config, spool=spool)
    found = jobs.many(queue, where, sort, limit)
    if as_json:
        for view in found:
            output.json(jobs.record(queue, view))
        return
    compact = output.is_terminal(sys.stdout)
    output.table(HEAD, (_row(view, now, compact=compact) for view in found), elastic=ELASTIC)


def _row(view: JobView, now: datetime, *, compact: bool) -> Line:
    job, later = view.job, view.retried_by
    error = job_lines.why(job.error) if job.error else ""
    if later is not None:
        mark = f"retried as {later[-ENOUGH_OF_ID:] if compact else later}"
        error = f"{mark}: {error}" if error else mark
    progress = job_lines.progress(job.progress) if job.progress and not job.state.ended else ""
    return [
        (job.id[-ENOUGH_OF_ID:] if compact else job.id, ""),
        (job.state.value, job.state.value),
        (show_priority(job.priority), ""),
        (job.name, "bold"),
        (f"{job.charged}/{job.retries + 1}", ""),
        (times.compact(job.submitted_at, now) if compact else times.shown(job.submitted_at, now), "dim"),
        (error or progress, "red" if error else ""),
    ]
