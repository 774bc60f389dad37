"""The messages between a worker and its runners: one JSON object per line, over private pipes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from bgjobs.job import LATEST_MS, Progress, Raised, Refused, Succeeded
from bgjobs.store import Begin

if TYPE_CHECKING:
    from collections.abc import Iterator


LONGEST = 16 * 1024 * 1024
MOST_RESULT = 1024 * 1024
LONGEST_WAIT = timedelta(days=3650)
LOST_CONTACT = 70  # the exit status of a runner that cannot reach its worker


# The outcomes that a runner reports; the worker decides on the others.
Reported: TypeAlias = Succeeded | Raised | Refused


class Setup(Struct, frozen=True, tag=True):
    """The first message to a runner. Without `lock` and `output` it runs in the foreground and captures nothing.

    With `reload` it compares the code that it has loaded with what is on the disk before each job. With `from_source`
    it uses no bytecode of job modules. `most_growth` is by how many bytes its memory may grow; 0 is the default rule.
    """

    import_paths: tuple[str, ...]
    cwd: str
    lock: str | None = None
    output: str | None = None
    reload: bool = False
    from_source: bool = False
    most_growth: int = 0


class Limits(Struct, frozen=True):
    """What the process of one attempt may use: bytes, seconds of processor time, descriptors; 0 is without a limit."""

    memory: int = 0
    cpu: float = 0
    files: int = 0
    file_size: int = 0


class Run(Struct, frozen=True, tag=True):
    """Run this job: `begin` first, if there is one, then the callable at module, owner, method.

    With `user` the process first becomes that user, for good. With `look_only` the callable is found but not called.
    `attempt` is the count of charged attempts, this one included; `number` that of all starts.
    """

    id: str
    attempt: int
    retries: int
    class_name: str
    method: str
    module: str
    owner: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    text: bool = False
    secret: frozenset[str] = frozenset()
    begin: Begin | None = None
    max_output: int = 0
    limits: Limits = Limits()
    user: str = ""
    look_only: bool = False
    number: int = 1
    crashes: int = 0


class Stop(Struct, frozen=True, tag=True):
    """Ask the running method of this job to stop, by raising in its main thread. A job not yet begun is returned."""

    id: str
    timed_out: bool
    reason: str


class Recall(Struct, frozen=True, tag=True):
    """Return this job if it is not begun yet."""

    id: str


class Leave(Struct, frozen=True, tag=True):
    """End as Python does: wait for threads, and run what is to run at exit. Nothing more comes. Who idles gets it."""


class Ready(Struct, frozen=True, tag=True):
    """The runner has its lock and waits for jobs.

    `adopts` tells that it sees whatever its jobs leave running, however that was started. `version` is that of the
    bgjobs it runs, which may have been replaced under a running worker.
    """

    pid: int
    birth: str
    adopts: bool = False
    version: str = ""


class Progressed(Struct, frozen=True, tag=True):
    """The running method reported its progress."""

    id: str
    progress: Progress


class Ended(Struct, frozen=True, tag=True):
    """The attempt ended by itself, after `took` seconds.

    `stopped` tells that a Stop had reached it; `clean` that the runner can go on. One that cannot returns what it has
    not begun. `recorded_ms` is when the runner wrote down the success, if it did. `stale` names a file of its code that
    has changed since it was loaded, if the runner has seen one. `output_left` tells that it cannot keep what the
    attempt printed: the worker has to.

    `left` says what the attempt has left that cannot be undone. With `leaving` something of it still runs, or is to run
    at exit: the process ends now as Python does, and only when it is gone the attempt is over.
    """

    id: str
    began_ms: Annotated[int, Meta(ge=0, le=LATEST_MS)]
    took: Annotated[float, Meta(ge=0)]
    outcome: Reported
    stopped: bool = False
    clean: bool = True
    recorded_ms: Annotated[int, Meta(ge=0, le=LATEST_MS)] | None = None
    stale: str = ""
    output_left: bool = False
    left: str = ""
    leaving: bool = False


class NotStarted(Struct, frozen=True, tag=True):
    """The job was not begun. `gone` tells that its file is no longer there; `trouble` that it could not be begun.

    `stale` names a file that has changed since this process loaded it: another process should run the job. With `begun`
    the record says that the job began, but its method was not called.
    """

    id: str
    reason: str = ""
    gone: bool = False
    trouble: bool = False
    clean: bool = True
    stale: str = ""
    begun: bool = False


ToRunner = Setup | Run | Stop | Recall | Leave
FromRunner = Ready | Progressed | Ended | NotStarted
to_runner: msgspec.json.Decoder[ToRunner] = msgspec.json.Decoder(ToRunner)
from_runner: msgspec.json.Decoder[FromRunner] = msgspec.json.Decoder(FromRunner)
_encoder = msgspec.json.Encoder()


def encoded(message: ToRunner | FromRunner) -> bytes:
    """Return the message as one line."""
    return _encoder.encode(message) + b"\n"


def decoded(line: bytes) -> FromRunner:
    """Return a message of a runner. Raises DecodeError, RecursionError or ValueError for anything else.

    The code of the job runs in that process, and may have written it.
    """
    message = from_runner.decode(line)
    if isinstance(message, Ended):
        _check(message.outcome)
    return message


def _check(outcome: Reported) -> None:
    match outcome:
        case Succeeded(result):
            if len(result) > MOST_RESULT:
                raise ValueError("a result that is too long")
        case Raised(retry_in=timedelta() as wait) if not timedelta(0) <= wait <= LONGEST_WAIT:
            raise ValueError("a wait that is none")


class _OfSuccess(Struct, frozen=True, omit_defaults=True):
    """The part of the line about a success that its template does not have."""

    result: msgspec.Raw
    progress: Progress | None = None
    note: str = ""


def start_line(begin: Begin, at_ms: int) -> bytes:
    """Return the line that a runner appends before it calls the method, at this moment in ms since 1970 (UTC)."""
    return f"{begin.head}{at_ms}{begin.tail}".encode()


def success_line(template: tuple[str, str], at_ms: int, outcome: Succeeded, progress: Progress | None) -> bytes:
    """Return the line that a runner appends after the method has returned, at this moment in ms since 1970 (UTC)."""
    head, tail = template
    own = _encoder.encode(_OfSuccess(outcome.result, progress, outcome.note))
    return f"{head}{at_ms}{tail},".encode() + own[1:] + b"\n"


class Lines:
    """Puts messages together again from the pieces in which a pipe gives them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rest: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take a piece; go through the lines that it completes. Raises ValueError for a line without end."""
        head, newline, tail = data.rpartition(b"\n")
        if not newline:
            self._rest.append(data)
            self._held += len(data)
            if self._held > LONGEST:
                raise ValueError("a message without end")
            return
        self._held = len(tail)
        complete = b"".join([*self._rest, head])
        self._rest = [tail] if tail else []
        yield from complete.split(b"\n")
