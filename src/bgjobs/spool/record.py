"""The job file: JSON Lines. Line 1 is the job and never changes; each later line is an event.

A torn or zero-filled line, which a power cut can leave, counts as not written.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from bgjobs.ids import ID
from bgjobs.job import (
    HIGHEST_PRIORITY,
    Attempt,
    Job,
    JobError,
    Progress,
    State,
    milliseconds,
    moment,
)
from bgjobs.settings import MOST_RETRIES, NAME

FORMAT = 1
MOST_LINE_1 = 1024 * 1024
MOST_BYTES = 8 * 1024 * 1024
MOST_ARGUMENTS = 256 * 1024
MOST_RESULT = 1024 * 1024
MOST_TRACEBACK = 64 * 1024
MOST_MESSAGE = 4 * 1024
MOST_DEPTH = 32
LATEST_MS = 9_999_999_999_999
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", re.ASCII)


class CorruptError(Exception):
    """The file is not a valid job file. The text is the reason."""


class NewerFormatError(Exception):
    """The file was written by a newer bgjobs: leave it alone."""


class Line1(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The job as it was submitted. Lengths in seconds, moments in ms since 1970 (UTC)."""

    format: int
    id: str
    class_name: str = field(name="class")
    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    text: bool = False
    priority: int
    not_before: int
    retries: int
    retry_delay: float | None = None
    timeout: float | None = None
    tags: list[str] = []
    retry_of: str | None = None
    submitted_at: int
    submitted_by: str


class Event(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="event"):
    """Something that happened to the job at a moment, in ms since 1970 (UTC)."""

    at: int
    wid: str = ""


class Start(Event, tag="start", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt begins: `number`, by which worker, in which runner process."""

    number: int
    worker: str
    slot: int
    pid: int
    birth: str
    boot: str


class Ending(Event, frozen=True, omit_defaults=True, kw_only=True):
    """How an attempt ended."""

    outcome: str = ""
    error: JobError | None = None
    exit: int | None = None
    progress: Progress | None = None


class Try(Ending, tag="try", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt ended and another one follows."""

    not_before: int


class Lost(Ending, tag="lost", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt was lost with its worker and another one follows."""

    not_before: int


class Back(Event, tag="back", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt was interrupted by a stopping worker and put back, uncharged."""


class End(Ending, tag="end", frozen=True, omit_defaults=True, kw_only=True):
    """The job has ended. `lost` marks an attempt that was lost with its worker, the last one allowed."""

    state: State
    result: Raw | None = None
    lost: bool = False


AnyEvent = Start | Try | Lost | Back | End
_encoder = msgspec.json.Encoder()
_line1 = msgspec.json.Decoder(Line1)
_event = msgspec.json.Decoder(AnyEvent)


def line_1(job: Job) -> bytes:
    """Return the first line of a new job's file, with its line end."""
    return encoded(
        Line1(
            format=FORMAT,
            id=job.id,
            class_name=job.class_name,
            method=job.method,
            args=list(job.args),
            kwargs=job.kwargs,
            text=job.text,
            priority=job.priority,
            not_before=milliseconds(job.not_before),
            retries=job.retries,
            retry_delay=_seconds(job.retry_delay),
            timeout=_seconds(job.timeout),
            tags=list(job.tags),
            retry_of=job.retry_of,
            submitted_at=milliseconds(job.submitted_at),
            submitted_by=job.submitted_by,
        )
    )


def encoded(line: Line1 | AnyEvent) -> bytes:
    """Return one line with its line end."""
    return _encoder.encode(line) + b"\n"


def cut_error(error: JobError | None) -> JobError | None:
    """Return the error with its texts cut to what a record may hold: the start of a message, the end of a traceback."""
    if error is None:
        return None
    return JobError(
        type=error.type[:200], message=error.message[:MOST_MESSAGE], traceback=error.traceback[-MOST_TRACEBACK:]
    )


def decode(data: bytes, *, job_id: str, state: State, priority: int | None, not_before_ms: int | None) -> Job:
    """Return the job that a file holds. Raises CorruptError or NewerFormatError.

    Its path says id and state and, until it has ended, its priority and the moment before which it may not start;
    after that (None) line 1 says these.
    """
    first, *rest = data.split(b"\n")
    spec = _decode_line_1(first)
    if spec.id != job_id:
        raise CorruptError("the id inside differs from the file's name")
    job = Job(
        id=spec.id,
        class_name=spec.class_name,
        method=spec.method,
        priority=spec.priority if priority is None else priority,
        not_before=moment(spec.not_before if not_before_ms is None else not_before_ms),
        submitted_at=moment(spec.submitted_at),
        retries=spec.retries,
        state=state,
        args=tuple(spec.args),
        kwargs=spec.kwargs,
        text=spec.text,
        submitted_by=spec.submitted_by,
        retry_delay=_length(spec.retry_delay),
        timeout=_length(spec.timeout),
        tags=tuple(spec.tags),
        retry_of=spec.retry_of,
    )
    recorded = events_of(rest)
    return _told(job, recorded) if recorded else job


def events_of(lines: list[bytes]) -> list[AnyEvent]:
    """Return the events in these lines, without what a power cut tore."""
    found = []
    for line in lines:
        if line:
            try:
                found.append(_event.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
    return found


def events(data: bytes) -> list[AnyEvent]:
    """Return the events in a job file's content."""
    return events_of(data.split(b"\n")[1:])


def _decode_line_1(line: bytes) -> Line1:
    if len(line) > MOST_LINE_1:
        raise CorruptError(f"line 1 is longer than {MOST_LINE_1} bytes")
    _check_depth(line)
    try:
        spec = _line1.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_newer(line)
        raise CorruptError(f"line 1 is not a job: {str(error)[:200]}") from None
    if spec.format != FORMAT:
        _refuse_newer(line)
        raise CorruptError(f"format {spec.format} is unknown")
    _check_values(spec)
    _check_duplicates(line, spec)
    return spec


def _check_depth(line: bytes) -> None:
    """Refuse deep nesting before a recursive parser meets it. Brackets in texts count too: a cheap upper bound."""
    if line.count(b"[") + line.count(b"{") <= MOST_DEPTH:
        return
    depth = 0
    for piece in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', line):
        first = piece[0][:1]
        if first in b"[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise CorruptError(f"nested deeper than {MOST_DEPTH}")
        elif first in b"]}":
            depth -= 1


def _check_duplicates(line: bytes, spec: Line1) -> None:
    """Refuse a key given twice. msgspec takes the last one, another reader may take the first."""
    # What our own writer makes is canonical, so it holds no key twice; only a stranger's line is read a second time.
    if _encoder.encode(spec) == line:
        return
    import json  # noqa: PLC0415 - rarely needed

    try:
        json.loads(line, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CorruptError(str(error)[:200]) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _check_values(spec: Line1) -> None:
    checks = {
        "id": ID.fullmatch(spec.id),
        "class": NAME.fullmatch(spec.class_name),
        "method": NAME.fullmatch(spec.method),
        "priority": 0 <= spec.priority <= HIGHEST_PRIORITY,
        "not_before": 0 <= spec.not_before <= LATEST_MS,
        "submitted_at": 0 <= spec.submitted_at <= LATEST_MS,
        "retries": 0 <= spec.retries <= MOST_RETRIES,
        "retry_delay": spec.retry_delay is None or 0 <= spec.retry_delay <= LATEST_MS / 1000,
        "timeout": spec.timeout is None or 0 < spec.timeout <= LATEST_MS / 1000,
        "tags": all(TAG.fullmatch(tag) for tag in spec.tags),
        "retry_of": spec.retry_of is None or ID.fullmatch(spec.retry_of),
    }
    for name, good in checks.items():
        if not good:
            raise CorruptError(f"{name!r} has a value that is not allowed")


def _refuse_newer(line: bytes) -> None:
    class OnlyFormat(Struct):
        format: int

    try:
        newer = msgspec.json.decode(line, type=OnlyFormat).format > FORMAT
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if newer:
        raise NewerFormatError


def _told(job: Job, recorded: list[AnyEvent]) -> Job:
    """Return the job with the history that its events tell."""
    attempts: list[Attempt] = []
    charged = crashes = 0
    last: Ending | None = None
    end: End | None = None
    for event in recorded:
        match event:
            case Start():
                attempts.append(Attempt(number=event.number, started_at=moment(event.at), worker=event.worker))
                charged += 1
            case Back():
                charged -= _close(attempts, event.at, "interrupted")
            case Try() | Lost() | End():
                closed = _close(attempts, event.at, event.outcome, event.error, event.exit)
                if isinstance(event, Lost) or (isinstance(event, End) and event.lost):
                    charged, crashes = charged - closed, crashes + 1
                last = event
                end = event if isinstance(event, End) else end
    return msgspec.structs.replace(
        job,
        attempts=tuple(attempts),
        charged=charged,
        crashes=crashes,
        error=last.error if last else None,
        worker=attempts[-1].worker if attempts and (end or not attempts[-1].outcome) else "",
        finished_at=moment(end.at) if end else None,
        result_json=end.result if end else None,
        progress=last.progress if last else None,
    )


def _close(
    attempts: list[Attempt], at: int, outcome: str, error: JobError | None = None, exit_status: int | None = None
) -> int:
    """End the running attempt, if one runs; return how many that was."""
    if not attempts or attempts[-1].outcome or not outcome:
        return 0
    attempts[-1] = msgspec.structs.replace(
        attempts[-1], finished_at=moment(at), outcome=outcome, error=error, exit=exit_status
    )
    return 1


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _length(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
