"""`bgjobs batch`: queue many jobs, one JSON object on each line, in chunks that are durable one after the other."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Annotated, BinaryIO, Protocol

import typer

from bgjobs.cli import options, output
from bgjobs.cli.chunks import Chunk, chunks
from bgjobs.errors import RefusedError, UsageError
from bgjobs.job import Job
from bgjobs.queue import Queue
from bgjobs.requests import Request

STDIN = "-"


def batch(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One job on each line, as JSON; - for standard input.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line, queue nothing.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Queue many jobs and print their ids, in order. Once an id is printed, its job survives power loss and runs.

    Each line is an object with class and method and, as for submit, args, kwargs, priority, delay, at, retries,
    retry_delay, timeout and tags. Lines are checked and queued a thousand at a time: with one that is wrong, none of
    its thousand is queued. What was queued before stays.
    """
    queue, count = Queue.open(config=config, spool=spool), 0
    with ExitStack() as stack:
        stream = _opened(file, stack)
        bar = _bar(stream, stack)
        for chunk in chunks(stream):
            jobs = _taken(queue, chunk, dry_run=dry_run)
            count += len(jobs)
            if not dry_run:
                with bar.aside():
                    _print_ids(jobs, as_json=as_json)
            bar.show(chunk.end, f"{count} jobs {'checked' if dry_run else 'queued'}")
    if dry_run and as_json:
        output.json({"would_queue": count})
    elif dry_run:
        output.data(f"{count} {'job' if count == 1 else 'jobs'} would be queued")


def _opened(file: str, stack: ExitStack) -> BinaryIO:
    if file == STDIN:
        if sys.stdin is None:
            raise UsageError("standard input is closed", hint="name a file", code="bad-file")
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(file, "rb"))
    except OSError as error:
        hint = "name a file, or - for standard input"
        raise UsageError(f"cannot read {file}: {error.strerror}", hint=hint, code="bad-file") from None


def _taken(queue: Queue, chunk: Chunk, *, dry_run: bool) -> Sequence[Job]:
    """Queue all jobs of a chunk, or only check them. Raises an error that names the line."""
    walk = _Walk(chunk)
    try:
        return queue.prepare_many(walk) if dry_run else queue.submit_many(walk)
    except (RefusedError, UsageError) as error:
        raise chunk.located(error, walk.number) from None


class _Walk:
    """Goes through the requests of a chunk, and knows which line the current one comes from."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self.number = chunk.first

    def __iter__(self) -> Iterator[Request]:
        for number, request in self._chunk.requests:
            self.number = number
            yield request


def _print_ids(jobs: Sequence[Job], *, as_json: bool) -> None:
    for job in jobs:
        if as_json:
            output.json({"id": job.id})
        else:
            output.data(job.id)
    sys.stdout.flush()  # the promise holds from here on, whatever becomes of the rest


class _Bar(Protocol):
    """Shows how much of the input is done."""

    def show(self, done: int, about: str) -> None: ...

    def aside(self) -> AbstractContextManager[None]: ...


class _NoBar:
    """There is no terminal."""

    def show(self, done: int, about: str) -> None:
        """Show nothing."""

    def aside(self) -> AbstractContextManager[None]:
        """Nothing is in the way."""
        return nullcontext()


def _bar(stream: BinaryIO, stack: ExitStack) -> _Bar:
    if not output.is_terminal(sys.stderr):
        return _NoBar()
    from bgjobs.cli import drawing  # noqa: PLC0415 - rich is slow to import

    state = os.fstat(stream.fileno())
    return stack.enter_context(drawing.Bar(sys.stderr, state.st_size if stat.S_ISREG(state.st_mode) else None))
