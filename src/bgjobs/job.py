"""What a job is: its states, its attempts, how an attempt can end, and how all of it is shown as JSON.

`Job.to_json` is what is printed, once `calls/masking.py` has masked the secrets. What lies in the file of a job is
another JSON, made in `spool/record.py`: `line_1` when it is submitted, `ending` when an attempt is over. Where a new
field goes is in docs/internals/architecture.md, "Where to look".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from bgjobs.patterns import Pattern

LEVELS = {"low": 2, "normal": 5, "medium": 5, "high": 8}
LEVEL_NAMES = {2: "low", 5: "normal", 8: "high"}
HIGHEST_PRIORITY = 9
LATEST_MS = 9_999_999_999_999  # in the year 2286: the last moment with 13 digits
MOST_ARGUMENTS = 256 * 1024
MOST_DEPTH = 32
MOST_RESULT_DEPTH = 100
MOST_TAGS = 32
TAG = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class State(StrEnum):
    """Where a job stands; for the spool, the directory that its file lies in."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CORRUPT = "corrupt"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to a job in this state."""
        return self in ENDED


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED, State.CORRUPT})


class JobError(Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed or a job was refused: only text, never a live exception."""

    type: str
    message: str = ""
    traceback: str = ""


class Progress(Struct, frozen=True):
    """How far a running method says it is: `done` of `total`, in a unit of its own."""

    done: float
    total: float | None = None
    message: str = ""


# The endings of an attempt. Each holds only what that ending knows.


class Succeeded(Struct, frozen=True, tag=True):
    """The method returned. `result` is the returned value as JSON; `note` says what was lost of it.

    `holds_secret` tells that a secret argument is in the result, which is then not shown.
    """

    result: msgspec.Raw = msgspec.Raw(b"null")
    note: str = ""
    holds_secret: bool = False


class Raised(Struct, frozen=True, tag=True):
    """The method raised. `lineage` names the exception's classes, most special first."""

    error: JobError
    lineage: tuple[str, ...] = ()
    asked: bool = False  # raise Retry(…)
    retry_in: timedelta | None = None  # raise Retry(delay=…)
    final: bool = False  # raise Fail(…)
    beside: tuple[str, ...] = ()  # the classes of what was raised in one group with a Retry


class Refused(Struct, frozen=True, tag=True):
    """The call cannot be made at all: another attempt would end the same way."""

    error: JobError


class TimedOut(Struct, frozen=True, tag=True):
    """The attempt ran longer than its timeout."""

    timeout: timedelta
    exit: int | None = None


class Crashed(Struct, frozen=True, tag=True):
    """The process that ran the attempt died; with `worker_lost`, together with its worker."""

    error: JobError
    exit: int | None = None
    worker_lost: bool = False


class Cancelled(Struct, frozen=True, tag=True):
    """A person stopped it."""

    by: str = ""


class Interrupted(Struct, frozen=True, tag=True):
    """The worker had to stop: the attempt is not charged."""


Outcome = Succeeded | Raised | Refused | TimedOut | Crashed | Cancelled | Interrupted


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One try at running a job. `outcome` is empty while it runs; `exit` is the exit status of a dead process."""

    number: int
    started_at: datetime
    worker: str = ""
    finished_at: datetime | None = None
    outcome: str = ""
    error: JobError | None = None
    exit: int | None = None


class Job(Struct, frozen=True, kw_only=True):
    """One call to make, its policy, and what became of it so far.

    `priority` is 0–9, a higher number runs first. `charged` counts attempts that used up a retry, the running one
    included; `crashes` those lost together with their worker. `text` says that the arguments are text from a command
    line, which becomes what the method's annotations say. Arguments may be secret and stay out of `repr`. `note` says
    what was lost of the result. `from_user` is set if another user handed the job in: who that was, as the system says.
    `submitted_by` is what the submitter says.
    """

    id: str
    class_name: str
    method: str
    priority: int
    not_before: datetime
    submitted_at: datetime
    retries: int
    state: State = State.QUEUED
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    text: bool = False
    submitted_by: str = ""
    from_user: str | None = None
    retry_delay: timedelta | None = None
    timeout: timedelta | None = None
    tags: tuple[str, ...] = ()
    retry_of: str | None = None
    attempts: tuple[Attempt, ...] = ()
    charged: int = 0
    crashes: int = 0
    finished_at: datetime | None = None
    worker: str = ""
    result_json: msgspec.Raw | None = None
    note: str = ""
    error: JobError | None = None
    progress: Progress | None = None

    def __repr__(self) -> str:
        """Name the job without its arguments, which may be secret."""
        return f"<Job {self.id} {self.name} {self.state}>"

    @property
    def name(self) -> str:
        """Class and method as one word."""
        return f"{self.class_name}.{self.method}"

    @property
    def submitter(self) -> str:
        """Who submitted it, for people to read: what the system says comes before what the submitter says."""
        if self.from_user is None or self.submitted_by.startswith(f"{self.from_user}@"):
            return self.submitted_by
        return f"{self.from_user} (as {self.submitted_by})"

    @property
    def started_at(self) -> datetime | None:
        """When the latest attempt began, or None if there was none."""
        return self.attempts[-1].started_at if self.attempts else None

    @property
    def attempt(self) -> int:
        """How many attempts were charged."""
        return self.charged

    @property
    def result(self) -> Any:  # noqa: ANN401 - whatever JSON the method returned
        """What the method returned, or None."""
        return None if self.result_json is None else msgspec.json.decode(self.result_json)

    def to_json(self) -> dict[str, Any]:
        """Return the job as the command line shows it, with nothing masked: RFC 3339 UTC times, lengths in seconds."""
        note = {"note": self.note} if self.note else {}
        return {
            "id": self.id,
            "class": self.class_name,
            "method": self.method,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "priority": self.priority,
            "state": self.state.value,
            "attempt": self.charged,
            "retries": self.retries,
            "crashes": self.crashes,
            "retry_of": self.retry_of,
            "not_before": rfc3339(self.not_before),
            "submitted_at": rfc3339(self.submitted_at),
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "submitted_by": self.submitted_by,
            "from_user": self.from_user,
            "worker": self.worker or None,
            "tags": list(self.tags),
            "result": self.result,
            **note,
            "error": _error_json(self.error),
            "progress": msgspec.to_builtins(self.progress),
            "attempts": [_attempt_json(attempt) for attempt in self.attempts],
        }


def _error_json(error: JobError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.finished_at),
        "outcome": attempt.outcome or None,
        "error": _error_json(attempt.error),
        "worker": attempt.worker,
        "exit": attempt.exit,
    }


def is_deeper(text: bytes, most: int) -> bool:
    """Tell whether JSON text is nested deeper than this, before a recursive parser meets it."""
    if text.count(b"[") + text.count(b"{") <= most:
        return False  # brackets within strings count too: an upper bound that costs little
    depth = 0
    for piece in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        first = piece[0][:1]
        if first in b"[{":
            depth += 1
            if depth > most:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def rfc3339(moment: datetime | None) -> str | None:
    """Return the moment in UTC with milliseconds, as `2026-11-23T03:19:00.123Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Return the moment as whole milliseconds since 1970 in UTC."""
    return (moment - EPOCH) // MILLISECOND


def moment(ms: int) -> datetime:
    """Return the moment that lies so many milliseconds after 1970 in UTC."""
    return EPOCH + MILLISECOND * ms


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def show_priority(priority: int) -> str:
    """Return the level's name, or the number where it has none."""
    return LEVEL_NAMES.get(priority, str(priority))
