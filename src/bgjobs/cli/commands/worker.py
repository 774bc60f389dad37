"""`bgjobs worker`: run jobs until stopped, start a worker in the background, or stop workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bgjobs import system
from bgjobs.cli import completion, options
from bgjobs.config.settings import parse_priority
from bgjobs.errors import UsageError
from bgjobs.queue import Queue
from bgjobs.requests import duration
from bgjobs.worker.options import RECYCLE, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORKER]...",
            help="With --stop: only these workers, by name, pid or id.",
            show_default=False,
            autocompletion=completion.worker_names,
        ),
    ] = None,
    *,
    concurrency: options.Concurrency = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when nothing is queued, scheduled, waiting or running.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End when no job may start now.")] = False,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", metavar="N", min=1, help="End after this number of jobs.")
    ] = None,
    max_time: Annotated[str | None, typer.Option("--max-time", metavar="DURATION", help="End after this time.")] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="DURATION",
            help=f"When stopped, time to wait for running jobs (default: {options.GRACE}).",
        ),
    ] = None,
    recycle: Annotated[
        int,
        typer.Option(
            "--recycle", metavar="N", min=1, help=f"Number of jobs for one runner process (default: {RECYCLE})."
        ),
    ] = RECYCLE,
    only: options.Only = None,
    min_priority: Annotated[
        str, typer.Option("--min-priority", metavar="PRIORITY", help="Run jobs of this priority and higher ones only.")
    ] = "0",
    reload: Annotated[
        bool, typer.Option("--reload", help="Load changed code before the next job (for development).")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing about what the worker does.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Write it to the log of workers, not to standard error.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the worker in the background, print its name, and return.")
    ] = False,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop", help="Stop the workers of this project on this machine, and wait until they have ended."
        ),
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Run jobs until stopped. Ctrl-C or SIGTERM waits for running jobs, a second one puts them back at once."""
    running: dict[str, Any] = {
        "--concurrency": concurrency,
        "--drain": drain,
        "--once": once,
        "--max-jobs": max_jobs,
        "--max-time": max_time,
        "--grace": grace,
        "--recycle": recycle,
        "--only": only,
        "--min-priority": min_priority,
        "--reload": reload,
        "--quiet": quiet,
        "--log": log,
    }
    _check(running, names or [], detach=detach, stop=stop)
    queue = Queue.open(config=config, spool=spool)
    if stop:
        return _stop(queue, names or [], grace=grace, max_time=max_time, as_json=as_json)
    given = WorkerOptions(
        concurrency=concurrency or system.cores(),
        drain=drain,
        once=once,
        max_jobs=max_jobs,
        max_time=_length(max_time, "--max-time"),
        grace=duration("--grace", grace or options.GRACE),
        recycle=recycle,
        only=_known(queue, only or []),
        min_priority=parse_priority(min_priority),
        reload=reload,
        quiet=quiet,
    )
    return _detach(queue, running, as_json=as_json) if detach else _run(queue, given, log=log)


def _stop(queue: Queue, names: list[str], *, grace: str | None, max_time: str | None, as_json: bool) -> int:
    from bgjobs.cli import stopping  # noqa: PLC0415 - a worker does without

    until, timeout = _length(grace, "--grace"), _length(max_time, "--max-time")
    return stopping.stop(queue, names, grace=until, timeout=timeout, as_json=as_json)


def _detach(queue: Queue, running: Mapping[str, Any], *, as_json: bool) -> int:
    from bgjobs.cli import detaching  # noqa: PLC0415 - a worker does without

    place = {"--config": queue.settings.config, "--spool": queue.settings.spool}
    return detaching.start(queue, _words({**running, **place}), as_json=as_json)


def _run(queue: Queue, given: WorkerOptions, *, log: bool) -> int:
    # Here, because `bgjobs -h` loads this file too, and runs nothing.
    from bgjobs.cli import detaching  # noqa: PLC0415 - see above
    from bgjobs.worker import announce, loop  # noqa: PLC0415 - see above

    if detaching.is_wanted():
        return loop.run(queue, given, detaching.arrival(queue), then_exit=True)
    if log:
        announce.redirect_errors(queue)
    return loop.run(queue, given, then_exit=True)


def _check(running: Mapping[str, Any], names: list[str], *, detach: bool, stop: bool) -> None:
    """Refuse what makes no sense together. Raises UsageError."""
    hint = "see `bgjobs worker -h`"
    if names and not stop:
        raise UsageError(f"unexpected argument {names[0][:40]!a}", hint="workers are named with --stop", code="usage")
    if stop and detach:
        raise UsageError("either --stop or --detach", hint=hint, code="usage")
    usual = {"--recycle": RECYCLE, "--min-priority": "0"}
    for name, value in running.items():
        if stop and name not in {"--grace", "--max-time", "--quiet"} and value and value != usual.get(name):
            raise UsageError(f"{name} is not for --stop", hint=hint, code="usage")


def _length(text: str | None, option: str) -> timedelta | None:
    return None if text is None else duration(option, text)


def _words(values: Mapping[str, Any]) -> list[str]:
    """Return options as a command line has them."""
    words: list[str] = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None and each is not False:
                words += [name] if each is True else [f"{name}={each}"]
    return words


def _known(queue: Queue, names: list[str]) -> frozenset[str]:
    classes = {target.class_name for target in queue.allowlist}
    for name in names:
        if name not in classes:
            raise UsageError(
                f"bad --only {name[:80]!r}: not in {queue.allowlist.path}", hint="see `bgjobs jobs`", code="bad-class"
            )
    return frozenset(names)
