"""Fuzz the lines of a batch, and what a person writes for a moment, a length, a priority or an argument."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bgjobs import durations
from bgjobs.calls import text_values
from bgjobs.cli import batch_lines
from bgjobs.config.allowlist import Target as Approved
from bgjobs.config.settings import parse_priority
from bgjobs.errors import BadArgumentsError, UsageError
from bgjobs.lifecycle import Policy
from bgjobs.requests import Request, duration, moment_of, new_job, past_of, plain_arguments
from tests.fuzz import checks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APPROVED = Approved(class_name="Mail", method="send", module="mail", owner="Mail", policy=Policy())
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONGEST = timedelta(days=36_525)
WORDS = (
    *('{"class":"Mail","method":"send"', '"args":[', '"kwargs":{"a":', '"priority":', '"delay":', '"at":"'),
    *('"retries":', '"retry_delay":', '"timeout":', '"tags":["', "2026-12-01T09:00", "2026-W49-1", "+23:59:59.999999"),
    *("PT5M", "P1DT2H", "5m", "90s", "0.5h", "high", "NaN", "1e999", "1e-9", "true", "null", "[[[[", "{{", "\\ud800"),
    *("9999-12-31T23:59:59", "0001-01-01", "1e4300", "18446744073709551616", "01234567-89ab-cdef-0123-456789abcdef"),
    *("Infinity", "\u0663", "\uff15", "\0", "\r\n", "\n", "T", "Z", "W", "-", "+", "_", ".", "e", ",", '"', "}", "]"),
)


class Target:
    """Reads bytes as the file of a batch, as its lines, and as a single value."""

    def __init__(self, work: Path) -> None:
        pass

    def __call__(self, data: bytes) -> None:
        """Read the bytes in each way."""
        _walk(data)
        for line in data.split(b"\n"):
            _parse(line)
        _read(os.fsdecode(data[:100]))

    def close(self) -> None:
        """Nothing is left behind."""


def _walk(data: bytes) -> None:
    count = end = 0
    try:
        for chunk in batch_lines.chunks(io.BytesIO(data)):
            assert chunk.end > end
            end = chunk.end
            count += len(chunk.requests)
    except UsageError as error:
        checks.message(str(error))
        checks.place(error.message)
        return
    assert count == sum(bool(line.strip()) for line in data.split(b"\n"))


def _parse(line: bytes) -> None:
    try:
        request = batch_lines.parse(line)
        args, kwargs = plain_arguments("send", request.args, request.kwargs)
        job = new_job(APPROVED, request, args, kwargs, text=False)
    except (UsageError, BadArgumentsError) as error:
        checks.message(str(error))
        return
    checks.job(job)
    again = checks.stored(job)
    assert (again.args, again.kwargs) == (job.args, job.kwargs)
    assert isinstance(request, Request)
    assert len(job.tags) <= 32


def _read(text: str) -> None:
    """Read what a person wrote in every way that there is."""
    _length(durations.parse, text)
    _length(durations.parse_iso, text)
    for parse in (lambda: duration("at", text), lambda: moment_of("at", text)):
        try:
            parse()
            checks.plain(text)
        except UsageError as error:
            checks.message(str(error))
    try:
        found = past_of("since", text, NOW)
        assert found.tzinfo is not None
    except UsageError as error:
        checks.message(str(error))
    try:
        assert 0 <= parse_priority(text) <= 9
        assert text.isascii()
    except UsageError as error:
        checks.message(str(error))
    for name, (parser, _) in text_values.PARSERS.items():
        try:
            parser(text)
        except ValueError:
            continue
        if name not in {"any", "str", "path"}:
            checks.plain(text)


def _length(parse: Callable[[str], timedelta], text: str) -> None:
    try:
        length = parse(text)
    except ValueError as error:
        checks.message(str(error))
        return
    checks.plain(text)
    assert timedelta(0) <= length <= LONGEST, length
    assert durations.parse(durations.show(length)) == length
