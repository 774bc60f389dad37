"""The status log and the error log: each event becomes its lines. Trouble with a log never changes a job's state."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from bgjobs import events
from bgjobs.events import (
    Corrupt,
    Decided,
    HandedBack,
    LeftAlone,
    Started,
    SubmissionRefused,
    Submitted,
    Undelayed,
)
from bgjobs.job import (
    Cancelled,
    Crashed,
    Interrupted,
    Outcome,
    Raised,
    Refused,
    Succeeded,
    TimedOut,
    milliseconds,
    moment,
)
from bgjobs.job import show_priority as level
from bgjobs.lifecycle import Again, Back
from bgjobs.log_file import LogFile
from bgjobs.patterns import Pattern
from bgjobs.plain_text import sanitized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from bgjobs.events import Event
    from bgjobs.job import Job, JobError
    from bgjobs.lifecycle import Verdict

STATUS_LOG = "background_jobs.log"
ERROR_LOG = "background_jobs_errors.log"
MOST_RESULT = 200
MOST_MESSAGE = 1000
NOT_SHOWN = "(not shown: a secret argument is in the result)"
NONE = "-"  # stands for a field that a record has not, so that every line has all eight
NO_TARGET = f"Class: {NONE}, Method: {NONE}"
WORD = Pattern(r"(?!-$)[A-Za-z0-9_.-]{1,100}")
FIELD = Pattern(r"(Class|Method|Priority|Status|Job|Attempt|Message):")
ESCAPED = r"\1\\u003a"  # for `FIELD.sub`: a colon as JSON and Python write it, so that a result stays JSON


class Log:
    """Subscribes to events and writes the two logs of one spool: a line a record, in one write with its neighbours."""

    def __init__(self, directory: str, *, beside: str | None = None, begins_with_spool: bool = False) -> None:
        """Remember the directory; it is made when there is something to write.

        It is made again only while the file `beside` exists, that of the spool. If it `begins_with_spool`, a refused
        submission is not logged before that is there: a mistyped spool must not be filled by what nobody let in.
        """
        self._awaited = beside if begins_with_spool else None
        self._files = {name: LogFile(os.path.join(directory, name), beside=beside) for name in (STATUS_LOG, ERROR_LOG)}
        self._held: dict[str, list[str]] | None = None
        self.dropped = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what the block logs in one write to each log."""
        if self._held is not None:
            yield
            return
        self._held = {STATUS_LOG: [], ERROR_LOG: []}
        try:
            yield
        finally:
            held, self._held = self._held, None
            for name, lines in held.items():
                if lines:
                    self._write(name, lines)

    def __call__(self, event: Event, /) -> None:
        """Write the lines of an event."""
        match event:
            case Started(job, at):
                self._status(job, "RUNNING", at, f"started on {job.worker}")
            case Decided(job, verdict, outcome, at):
                self._decided(job, verdict, outcome, at)
            case Submitted(job, at):
                when = f", not before {_stamp(job.not_before)}" if job.not_before > at else ""
                self._status(job, "QUEUED", at, f"submitted by {job.submitter}{when}", number=False)
            case HandedBack(job, at, reason):
                self._status(job, "QUEUED", at, f"handed back: {reason}")
            case Undelayed(job, at, by):
                self._status(job, "QUEUED", at, f"not delayed any more{f', by {by}' if by else ''}", number=False)
            case events.Cancelled(job, at, by):
                self._status(job, "CANCELLED", at, f"cancelled by {by}", number=False)
            case SubmissionRefused():
                self._refused_submission(event)
            case Corrupt(name, reason, at):
                self._add_to_both(_line(at, NO_TARGET, "REFUSED", f"moved to corrupt/: {name}: {reason}"))
            case LeftAlone(name, reason, at):
                self._add(ERROR_LOG, _line(at, NO_TARGET, "REFUSED", f"left alone: {name}: {reason}"))

    def _decided(self, job: Job, verdict: Verdict, outcome: Outcome, at: datetime) -> None:
        match outcome:
            case Succeeded(result, note, holds_secret):
                shown = NOT_SHOWN if holds_secret else bytes(result).decode("utf-8", "replace")
                text = f"{shown} ({note})" if note and shown != "null" else note or shown
                self._status(job, "SUCCESS", at, text, cut=MOST_RESULT)
            case Cancelled(by):
                self._status(job, "CANCELLED", at, f"cancelled by {by}" if by else "cancelled")
            case Interrupted():
                self._status(job, "QUEUED", at, "handed back: the worker stops")
            case Refused(error):
                self._refused(job, error, at)
            case Raised() | TimedOut() | Crashed():
                self._failed(job, verdict, _ERROR_STATUS[type(outcome)], at)

    def _refused_submission(self, event: SubmissionRefused) -> None:
        if self._awaited is None or os.path.exists(self._awaited):
            target = _target(event.class_name, event.method)
            self._add_to_both(_line(event.at, target, "REFUSED", f"{event.code}: {event.reason}"))

    def _add_to_both(self, line: str) -> None:
        self._add(STATUS_LOG, line)
        self._add(ERROR_LOG, line)

    def _refused(self, job: Job, error: JobError, now: datetime) -> None:
        message = f"{error.type}: {error.message}"
        self._status(job, "REFUSED", now, message)
        self._error(job, "REFUSED", now, message)

    def _failed(self, before: Job, verdict: Verdict, status: str, now: datetime) -> None:
        error = None if isinstance(verdict, Back) else verdict.error
        why = f"{error.type}: {error.message}" if error else status.lower()
        self._error(before, status, now, why)
        if isinstance(verdict, Again):
            wait = max(0.0, (verdict.not_before - now).total_seconds())
            self._status(before, "RETRY", now, f"again in {wait:.1f} s: {why}" if wait else f"again at once: {why}")
        else:
            self._status(before, "FAILED", now, why)

    def _status(
        self, job: Job, status: str, now: datetime, message: str, *, number: bool = True, cut: int = MOST_MESSAGE
    ) -> None:
        self._add(STATUS_LOG, _job_line(job, status, now, message, number=number, cut=cut))

    def _error(self, job: Job, status: str, now: datetime, message: str) -> None:
        self._add(ERROR_LOG, _job_line(job, status, now, message))

    def _add(self, name: str, line: str) -> None:
        if self._held is None:
            self._write(name, [line])
        else:
            self._held[name].append(line)

    def _write(self, name: str, lines: list[str]) -> None:
        file = self._files[name]
        try:
            file.append("".join(lines).encode())
        except OSError as error:
            if not self.dropped:
                _complain(f"bgjobs: cannot write {sanitized(file.path)}: {error.strerror}: jobs go on without it\n")
            self.dropped += len(lines)


_ERROR_STATUS = {Raised: "FAILED", TimedOut: "TIMEOUT", Crashed: "CRASHED"}


def _complain(text: str) -> None:
    """Say it on stderr, if there is somebody to hear it."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
    except (OSError, ValueError):
        pass


def _job_line(job: Job, status: str, now: datetime, message: str, *, number: bool = True, cut: int = 1000) -> str:
    attempt = f"{job.charged}/{job.retries + 1}" if number else NONE
    about = _about(job.class_name, job.method, job.priority)
    return f"[{_stamp(now)}] {about}, Status: {status}, Job: {job.id}, Attempt: {attempt}, {_message(message[:cut])}\n"


def _line(now: datetime, target: str, status: str, message: str) -> str:
    """Return a line about no job."""
    none = f"Priority: {NONE}, Status: {status}, Job: {NONE}, Attempt: {NONE}"
    return f"[{_stamp(now)}] {target}, {none}, {_message(message)}\n"


def _message(message: str) -> str:
    """Return the last field. Nothing in it looks like another one: the colon behind the name of a field is escaped."""
    text = sanitized(message[:MOST_MESSAGE])
    return f"Message: {FIELD.sub(ESCAPED, text) if ':' in text else text}"


@lru_cache(maxsize=256)
def _about(class_name: str, method: str, priority: int) -> str:
    return f"{_target(class_name, method)}, Priority: {level(priority).upper()}"


def _target(class_name: str, method: str) -> str:
    return f"Class: {_word(class_name)}, Method: {_word(method)}"


def _word(name: str) -> str:
    """Return a name as one word; what is none, as somebody submitted it, in quotes and without what ends a field."""
    return name if WORD.fullmatch(name) else ascii(name[:100]).replace(",", "\\x2c").replace(":", "\\x3a")


def _stamp(at: datetime) -> str:
    ms = milliseconds(at)
    return f"{_second(ms // 1000)}.{ms % 1000:03d}+00:00"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return moment(seconds * 1000).strftime("%Y-%m-%d %H:%M:%S")
