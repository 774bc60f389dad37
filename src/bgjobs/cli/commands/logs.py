"""`bgjobs logs`: show what an attempt printed, or the status log and the error log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from bgjobs.cli import options, output
from bgjobs.errors import UsageError
from bgjobs.queue import Queue
from bgjobs.views import attempts, logs

PAUSE_S = 0.2
LINES = 50


def command(
    job_id: options.JobId = None,
    *,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", help="Number of the attempt (default: the latest).")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Show the error log.")] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as it grows; with an ID until the job has ended.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "-n", "--lines", metavar="N", min=0, help=f"Number of last lines (default: {LINES} of a log, all of a job)."
        ),
    ] = None,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Print what a job printed, or the log of all jobs. Without an ID: one line for each change of a state."""
    queue = Queue.open(config=config, spool=spool)
    if job_id is None:
        if attempt is not None:
            raise UsageError("--attempt without a job", hint="name the job: bgjobs logs ID --attempt N", code="usage")
        log = logs.of(queue, errors=errors)
        _of_queue(log, LINES if count is None else count, follow=follow, as_json=as_json)
    elif errors:
        raise UsageError("--errors with a job", hint="see `bgjobs status ID` for the errors of a job", code="usage")
    else:
        _of_job(queue, job_id, attempt, count, follow=follow, as_json=as_json)


def _of_queue(log: logs.Log, count: int, *, follow: bool, as_json: bool) -> None:
    show = _show_as_json if as_json else _show
    show(log.last(count))
    while follow:
        time.sleep(PAUSE_S)
        show(log.more())


def _of_job(queue: Queue, job_id: str, attempt: int | None, count: int | None, *, follow: bool, as_json: bool) -> None:
    job = queue.get(job_id)
    lines = _JsonLines() if as_json else None
    write = lines or output.writer(sys.stdout)
    trim: Callable[[bytes], bytes] = bytes if count is None else lambda piece: attempts.last_lines(piece, count)
    content = attempts.output(queue, job, attempt)
    if follow:
        attempts.follow(queue, job.id, write, number=attempt or max(1, len(job.attempts)), trim=trim)
    else:
        write(trim(content))
    if lines is not None:
        lines.end()


def _show(lines: Iterable[bytes]) -> None:
    write = output.writer(sys.stdout)
    for line in lines:
        write(line)


def _show_as_json(lines: Iterable[bytes]) -> None:
    for line in lines:
        output.json(logs.fields(line))


class _JsonLines:
    """Prints each line of what a job printed as an object."""

    def __init__(self) -> None:
        self._rest = b""

    def __call__(self, content: bytes) -> None:
        """Take a piece; print the lines that it completes."""
        *complete, self._rest = (self._rest + content).split(b"\n")
        for line in complete:
            output.json({"line": line.decode("utf-8", "backslashreplace")})

    def end(self) -> None:
        """Print a last line without an end."""
        if self._rest:
            self(b"\n")
