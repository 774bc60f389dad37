"""`bgjobs batch`: queue many jobs, one JSON object on each line, in chunks that are durable one after the other."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Annotated, BinaryIO, Protocol

import typer

from bgjobs import system
from bgjobs.cli import options, output
from bgjobs.cli.batch_lines import Chunk, chunks
from bgjobs.errors import BgjobsError, NotPrintedError, RefusedError, SpoolError, UsageError
from bgjobs.job import Job
from bgjobs.queue import Queue
from bgjobs.requests import Request

STDIN = "-"


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One job on each line, as JSON; - for standard input.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line, and queue nothing.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Queue many jobs and print their ids, in order. Once an id is printed, its job survives power loss and runs.

    Each line is an object with class and method and, as for submit, args, kwargs, priority, delay, at, retries,
    retry_delay, timeout and tags. Lines are checked and queued a thousand at a time, or as many as have come when no
    further one comes for a moment: with one that is wrong, none of these is queued. What was queued before stays.
    """
    progress = _Progress(dry_run=dry_run)
    try:
        with progress.reported():
            count = _all(file, Queue.open(config=config, spool=spool), progress, dry_run=dry_run, as_json=as_json)
    except _Interruption:
        where = progress.where_to_go_on()
        output.error(BgjobsError("interrupted", hint=where, code="interrupted"), as_json=as_json)
        return output.INTERRUPTED
    if dry_run:
        output.result({"would_queue": count}, f"{output.plural(count, 'job')} would be queued", as_json=as_json)
    return 0


def _all(file: str, queue: Queue, progress: _Progress, *, dry_run: bool, as_json: bool) -> int:
    """Queue the jobs of all lines, or only check them; return how many there are."""
    count = 0
    with ExitStack() as stack:
        stream = _opened(file, stack)
        bar = _bar(stream, stack)
        for chunk in chunks(stream):
            with progress.taking(chunk):
                jobs = _taken(queue, chunk, dry_run=dry_run)
                count += len(jobs)
                if not dry_run:
                    with bar.aside():
                        output.queued([job.id for job in jobs], as_json=as_json)
            bar.show(chunk.end, f"{count} jobs {'checked' if dry_run else 'queued'}")
    return count


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
        return [queue.prepare(request) for request in walk] if dry_run else queue.submit_many(walk)
    except (RefusedError, UsageError) as error:
        raise chunk.located(error, walk.number) from None


class _Progress:
    """How far a batch has come: from which line to go on after an interruption or an error."""

    def __init__(self, *, dry_run: bool) -> None:
        self._next = 1
        self._done = "checked" if dry_run else "queued"
        self._is_taking = False
        self._is_asked = False

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Add from which line to go on to what fails in the block. Signals raise _Interruption there."""
        try:
            with system.stop_requests(self._interrupt):
                yield
        except NotPrintedError as error:
            raise NotPrintedError(error.message, hint=self.where_to_go_on()) from None
        except SpoolError as error:
            raise SpoolError(error.message, hint=f"{error.hint}; {self.where_to_go_on()}", code=error.code) from None
        except OSError as error:
            what = f"cannot read on: {error.strerror or type(error).__name__}"
            raise BgjobsError(what, hint=self.where_to_go_on(), code="system-error") from None

    @contextmanager
    def taking(self, chunk: Chunk) -> Iterator[None]:
        """Take a chunk: an interruption waits until that is done and its ids are printed; a second one does not."""
        self._is_taking = True
        try:
            yield
        except NotPrintedError:
            self._next = chunk.last + 1
            raise
        finally:
            self._is_taking = False
        self._next = chunk.last + 1
        if self._is_asked:
            raise _Interruption

    def where_to_go_on(self) -> str:
        """Return from which line on, and what became of those before."""
        before = f"all jobs before are {self._done}" if self._next > 1 else f"nothing is {self._done}"
        return f"go on from line {self._next}, {before}"

    def _interrupt(self) -> None:
        if self._is_taking and not self._is_asked:
            self._is_asked = True
        else:
            raise _Interruption


class _Interruption(BaseException):
    """The command is asked to end: Ctrl-C, or SIGTERM."""


class _Walk:
    """Goes through the requests of a chunk, and knows which line the current one comes from."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self.number = chunk.first

    def __iter__(self) -> Iterator[Request]:
        for number, request in self._chunk.requests:
            self.number = number
            yield request


class _Bar(Protocol):
    """Shows how much of the input is done."""

    def show(self, done: int, about: str) -> None: ...

    def aside(self) -> AbstractContextManager[None]: ...


class _NoBar:
    """There is no terminal."""

    def show(self, done: int, about: str) -> None:
        """Show nothing."""

    def aside(self) -> AbstractContextManager[None]:
        """Remove nothing."""
        return nullcontext()


def _bar(stream: BinaryIO, stack: ExitStack) -> _Bar:
    if not output.is_terminal(sys.stderr):
        return _NoBar()
    from bgjobs.cli import terminal  # noqa: PLC0415 - rich is slow to import

    state = os.fstat(stream.fileno())
    return stack.enter_context(terminal.Bar(sys.stderr, state.st_size if stat.S_ISREG(state.st_mode) else None))
