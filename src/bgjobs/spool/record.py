"""Read and write job files: JSON Lines. Line 1 is the job and never changes; each later line is an event.

A torn or zero-filled line, which a power cut can leave, counts as not written.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, assert_never

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bgjobs import files, lifecycle
from bgjobs.job import (
    LATEST_MS,
    MOST_RESULT_DEPTH,
    Attempt,
    Job,
    JobError,
    Progress,
    State,
    milliseconds,
    moment,
)
from bgjobs.spool.line1 import FORMAT, CorruptError, Line1, check_depth, checked, decode_line_1

if TYPE_CHECKING:
    from bgjobs.lifecycle import Verdict

MOST_BYTES = 8 * 1024 * 1024
BRIEF_BYTES = 4 * 1024 * 1024  # from here on without tracebacks
FULL_BYTES = 6 * 1024 * 1024  # from here on no further attempt: what is left is for the end of the last one
MOST_RESULT = 1024 * 1024
MOST_TRACEBACK = 64 * 1024
MOST_MESSAGE = 4 * 1024
MOST_NOTE = 1000


Moment = Annotated[int, Meta(ge=0, le=LATEST_MS)]
Number = Annotated[int, Meta(ge=1, le=MOST_BYTES)]  # a file cannot hold more
Slot = Annotated[int, Meta(ge=0, le=65_535)]


class Event(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="event"):
    """Something that happened to the job at a moment, in ms since 1970 (UTC)."""

    at: Moment
    wid: str = ""


class Start(Event, tag="start", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt begins: `number`, by which worker, in which runner process."""

    number: Number
    worker: str
    slot: Slot
    pid: files.Pid
    birth: str
    boot: str


class Outcome(Event, frozen=True, omit_defaults=True, kw_only=True):
    """How an attempt ended."""

    outcome: str = ""
    error: JobError | None = None
    exit: int | None = None
    progress: Progress | None = None


class Try(Outcome, tag="try", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt ended and another one follows."""

    not_before: Moment


class Lost(Outcome, tag="lost", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt was lost with its worker and another one follows."""

    not_before: Moment


class Back(Event, tag="back", frozen=True, omit_defaults=True, kw_only=True):
    """An attempt was interrupted by a stopping worker and put back, uncharged."""


class End(Outcome, tag="end", frozen=True, omit_defaults=True, kw_only=True):
    """The job has ended. `lost` marks an attempt that was lost with its worker, the last one allowed.

    `note` says what was lost of the result.
    """

    state: State
    result: Raw | UnsetType = UNSET  # not `| None`: msgspec would take nothing but null for it
    note: str = ""
    lost: bool = False


AnyEvent = Start | Try | Lost | Back | End
Ending = Try | Lost | Back | End
_encoder = msgspec.json.Encoder()
_event = msgspec.json.Decoder(AnyEvent)


def line_1(job: Job) -> bytes:
    """Return the first line of a new job's file, with its line end.

    It has been read back: raises UsageError, which names the value, for a job that nobody could claim.
    """
    line = checked(
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
            from_user=job.from_user,
        )
    )
    return line + b"\n"


def encoded(line: Line1 | AnyEvent) -> bytes:
    """Return one line with its line end."""
    return _encoder.encode(line) + b"\n"


def success_template(wid: str) -> tuple[str, str]:
    """Return the line that says that a method has returned, up to its moment and from there on to what is its own."""
    end = End(at=0, wid=wid, state=State.DONE, outcome="succeeded")
    head, _, tail = encoded(end).decode().partition('"at":0')
    return f'{head}"at":', tail.rstrip()[:-1]


def ending(verdict: Verdict, *, at: int, wid: str, progress: Progress | None = None) -> Ending:
    """Return the event that says what was decided at this moment, in ms since 1970 (UTC), by this worker."""
    match verdict:
        case lifecycle.Back():
            return Back(at=at, wid=wid)
        case lifecycle.Again(not_before, outcome, error, exit_status, lost):
            kind = Lost if lost else Try
            ms = milliseconds(not_before)
            return kind(at=at, wid=wid, outcome=outcome, error=cut_error(error), exit=exit_status, not_before=ms)
        case lifecycle.Ended(state, outcome, error, exit_status, result, note, lost):
            return End(
                at=at,
                wid=wid,
                state=state,
                outcome=outcome,
                error=cut_error(error),
                exit=exit_status,
                progress=progress,
                result=UNSET if result is None else result,
                note=note,
                lost=lost,
            )
    assert_never(verdict)


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
    spec = decode_line_1(first)
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
        from_user=spec.from_user,
        retry_delay=_length(spec.retry_delay),
        timeout=_length(spec.timeout),
        tags=tuple(spec.tags),
        retry_of=spec.retry_of,
    )
    recorded = events_of(rest)
    return _with_events(job, recorded) if recorded else job


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


def _with_events(job: Job, recorded: list[AnyEvent]) -> Job:
    """Return the job with the history that follows from its events."""
    attempts: list[Attempt] = []
    charged = crashes = 0
    last: Outcome | None = None
    end: End | None = None
    for event in recorded:
        match event:
            case Start():
                attempts.append(Attempt(number=event.number, started_at=moment(event.at), worker=event.worker))
                charged += 1
            case Back():
                charged -= _close(attempts, event.at, "interrupted")
            case Try() | Lost() | End():
                # A cancelled attempt has no error of its own: the job has.
                error = None if event.outcome == "cancelled" else event.error
                closed = _close(attempts, event.at, event.outcome, error, event.exit)
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
        result_json=_checked(end.result) if end else None,
        note=end.note[:MOST_NOTE] if end else "",
        progress=last.progress if last else None,
    )


def _checked(result: Raw | UnsetType) -> Raw | None:
    """Return a result if it is a JSON value: a raw one is not looked at when its line is."""
    if result is UNSET:
        return None
    try:
        check_depth(bytes(result), MOST_RESULT_DEPTH)  # whoever reads it may have less stack left than we have
        msgspec.json.decode(result)
    except (CorruptError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return result


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
