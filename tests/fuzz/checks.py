"""What must hold of whatever a parser lets through. Written anew: the code's own grammar is what is in question."""

from __future__ import annotations

import json
import re
import string
from datetime import UTC, datetime, timedelta

import msgspec

from bgjobs import event_log
from bgjobs.job import Job, State
from bgjobs.plain_text import sanitized
from bgjobs.spool import record

LETTERS = frozenset(string.ascii_letters)
DIGITS = frozenset(string.digits)
OF_IDS = frozenset("0123456789abcdefghjkmnpqrstvwxyz")
MOST_DEPTH = 32
MOST_LINE_1 = 1024 * 1024
LATEST = datetime(2286, 11, 20, 17, 46, 39, 999000, UTC)
LONGEST = timedelta(milliseconds=9_999_999_999_999)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
LONGEST_MESSAGE = 2000


def is_name(text: str) -> bool:
    """Tell whether a text is the name of a class or a method."""
    return 0 < len(text) <= 64 and text[0] in LETTERS and LETTERS | DIGITS | {"_"} >= set(text)


def is_id(text: str) -> bool:
    """Tell whether a text is the id of a job."""
    return len(text) == 26 and text[0] == "0" and text[1] in "0123456789abcdef" and set(text) <= OF_IDS


def is_tag(text: str) -> bool:
    """Tell whether a text is a tag."""
    return 0 < len(text) <= 64 and text[0] in LETTERS | DIGITS and LETTERS | DIGITS | set("_.:-") >= set(text)


def is_module(text: str) -> bool:
    """Tell whether a text is the dotted name of a module."""
    parts = text.split(".")
    return all(part and part[0] not in DIGITS and LETTERS | DIGITS | {"_"} >= set(part) for part in parts)


def depth(value: object) -> int:
    """Return how deep the lists and objects of a value are nested."""
    match value:
        case list() | tuple():
            return 1 + max(map(depth, value), default=0)
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case _:
            return 0


def message(text: str) -> None:
    """Check what an error says: once it is shown, it is one line that any terminal and any log can take."""
    shown = sanitized(text)
    assert shown.isprintable(), shown
    assert len(shown.splitlines()) == 1, shown
    shown.encode()
    assert len(text) <= LONGEST_MESSAGE, text


def plain(text: str) -> None:
    """Check a text that was read as a number, a length or a moment: but for space around it, it is plain ASCII."""
    assert text.strip().isascii(), text
    assert text.strip().isprintable(), text


def place(text: str) -> None:
    """Check that an error begins with the line that it is about."""
    assert re.match(r"line [1-9][0-9]*: .", text), text


def job(found: Job) -> None:
    """Check a job that was read from somewhere."""
    assert is_id(found.id), found.id
    assert is_name(found.class_name), found.class_name
    assert is_name(found.method), found.method
    assert 0 <= found.priority <= 9, found.priority
    assert 0 <= found.retries <= 1_000_000, found.retries
    assert all(is_tag(tag) for tag in found.tags), found.tags
    assert found.retry_of is None or is_id(found.retry_of), found.retry_of
    assert datetime(1970, 1, 1, tzinfo=UTC) <= found.not_before <= LATEST, found.not_before
    assert datetime(1970, 1, 1, tzinfo=UTC) <= found.submitted_at <= LATEST, found.submitted_at
    assert found.retry_delay is None or timedelta(0) <= found.retry_delay <= LONGEST, found.retry_delay
    assert found.timeout is None or timedelta(0) < found.timeout <= LONGEST, found.timeout
    assert depth([list(found.args), found.kwargs]) <= MOST_DEPTH
    shown(found)


def shown(found: Job) -> None:
    """Check what is made of a job: JSON for programs, and one line for the log."""
    json.loads(msgspec.json.encode(found.to_json()))
    error = found.error.message if found.error else "x"
    line = event_log._job_line(found, "FAILED", NOW, error)
    assert line.endswith("\n"), line
    assert line[:-1].isprintable(), line
    line.encode()


def stored(found: Job) -> Job:
    """Return the job that is read from the file that is written for this one, and check that it is the same."""
    line = record.line_1(found)
    assert len(line) <= MOST_LINE_1, len(line)
    again = record.decode(line, job_id=found.id, state=State.QUEUED, priority=None, not_before_ms=None)
    assert record.line_1(again) == line
    return again
