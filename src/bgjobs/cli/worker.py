"""`bgjobs worker`: run jobs until stopped."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from bgjobs.cli import complete, moments, options
from bgjobs.errors import UsageError
from bgjobs.job import parse_priority
from bgjobs.queue import Queue
from bgjobs.worker.options import WorkerOptions


def worker(
    *,
    concurrency: Annotated[
        int | None,
        typer.Option("-c", "--concurrency", metavar="N", min=1, help="So many jobs at a time; else one per core."),
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when nothing is queued, scheduled, waiting or running.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due.")] = False,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", metavar="N", min=1, help="End after so many jobs.")
    ] = None,
    max_time: Annotated[str | None, typer.Option("--max-time", metavar="DURATION", help="End after so long.")] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="When stopped, wait so long for running jobs.")
    ] = "30s",
    recycle: Annotated[
        int, typer.Option("--recycle", metavar="N", min=1, help="A fresh runner process after so many jobs.")
    ] = 1000,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CLASS", help="Only this class; repeatable.", autocompletion=complete.class_names
        ),
    ] = None,
    min_priority: Annotated[
        str, typer.Option("--min-priority", metavar="PRIORITY", help="Only this priority and higher ones.")
    ] = "0",
    reload: Annotated[
        bool, typer.Option("--reload", help="Take over changed code before the next job (for development).")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing about what the worker does.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
) -> int:
    """Run jobs until stopped. Ctrl-C or SIGTERM waits for those that run, a second one puts them back at once."""
    from bgjobs.worker import loop  # noqa: PLC0415 - `bgjobs -h` loads this file too, and runs nothing

    queue = Queue.open(config=config, spool=spool)
    return loop.run(
        queue,
        WorkerOptions(
            concurrency=concurrency or _cores(),
            drain=drain,
            once=once,
            max_jobs=max_jobs,
            max_time=None if max_time is None else moments.parse_length(max_time, "--max-time"),
            grace=moments.parse_length(grace, "--grace"),
            recycle=recycle,
            only=_known(queue, only or []),
            min_priority=parse_priority(min_priority),
            reload=reload,
            quiet=quiet,
        ),
    )


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _known(queue: Queue, names: list[str]) -> frozenset[str]:
    classes = {target.class_name for target in queue.allowlist}
    for name in names:
        if name not in classes:
            raise UsageError(
                f"bad --only {name[:80]!r}: not in {queue.allowlist.path}", hint="see `bgjobs jobs`", code="bad-class"
            )
    return frozenset(names)
