"""Read and write line 1 of a job file. It is read strictly: anybody who can write to the spool may have made it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from bgjobs.config.settings import MOST_RETRIES, NAME
from bgjobs.errors import UsageError
from bgjobs.ids import ID
from bgjobs.job import HIGHEST_PRIORITY, LATEST_MS, MOST_ARGUMENTS, MOST_DEPTH, MOST_TAGS, TAG, is_deeper

FORMAT = 1
MOST_LINE_1 = 1024 * 1024
LONGEST_USER = 256
SHORTEST_S = 0.000_001  # shorter ones would become zero, which is no timeout


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
    from_user: str | None = None  # set by the import alone: who the system says had handed it in
    sig: str | None = None  # the last member: it is made for the bytes before it


PLAIN = Line1(
    format=FORMAT,
    id="0" * 26,
    class_name="A",
    method="a",
    priority=0,
    not_before=0,
    retries=0,
    submitted_at=0,
    submitted_by="",
)
UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

_encoder = msgspec.json.Encoder()
_line1 = msgspec.json.Decoder(Line1)


def decode_line_1(line: bytes) -> Line1:
    """Return the job that the line holds. Raises CorruptError or NewerFormatError."""
    spec = _decoded(line)
    # What our own writer makes is canonical, so it holds no key twice; only lines of others are read a second time.
    if _encoder.encode(spec) != line:
        refuse_duplicates(line)
    return spec


def _decoded(line: bytes) -> Line1:
    """Return the job that the line holds, by the last of the values where a key is given twice."""
    if len(line) > MOST_LINE_1:
        raise CorruptError(f"line 1 is longer than {MOST_LINE_1} bytes")
    check_depth(line)
    try:
        spec = _line1.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _refuse_newer(line)
        raise CorruptError(f"line 1 is not a job: {why_not(line, Line1)}") from None
    if spec.format != FORMAT:
        _refuse_newer(line)
        raise CorruptError(f"format {spec.format} is unknown")
    _check_values(spec)
    # A shorter line cannot hold too much of them, and is what nearly all are.
    if len(line) > MOST_ARGUMENTS and len(_encoder.encode([spec.args, spec.kwargs])) > MOST_ARGUMENTS:
        raise CorruptError(f"its arguments take more than {MOST_ARGUMENTS} bytes")
    return spec


def checked(meant: Line1) -> bytes:
    """Return the line of a new job, without its end, after it was read back as strictly as a worker reads it.

    Raises UsageError, which names the member that would not come back as it was meant.
    """
    try:
        line = _encoder.encode(meant)
        # A key that stands there twice comes back once, so not as it was meant.
        if _decoded(line) == meant:
            return line
    except (CorruptError, NewerFormatError, *UNWRITABLE):
        pass  # which member it is, is found out below
    for name, shown, value in _members(meant):
        try:
            alone = replace(PLAIN, **{name: value})
            if _decoded(_encoder.encode(alone)) == alone:
                continue
        except (CorruptError, NewerFormatError, *UNWRITABLE):
            pass
        raise UsageError(f"bad {shown} of a job", hint="it would not be read as it was meant", code=f"bad-{shown}")
    raise UsageError(f"a job of more than {MOST_LINE_1} bytes", hint="pass paths or ids instead of large values")


def _members(meant: Line1) -> list[tuple[str, str, Any]]:
    """Return each member: the attribute, its name in the file, its value."""
    names = zip(Line1.__struct_fields__, Line1.__struct_encode_fields__, strict=True)
    return [(name, shown, getattr(meant, name)) for name, shown in names if name != "format"]


def check_depth(line: bytes, most: int = MOST_DEPTH) -> None:
    """Refuse deep nesting before a recursive parser meets it."""
    if is_deeper(line, most):
        raise CorruptError(f"nested deeper than {most}")


def refuse_duplicates(line: bytes) -> None:
    """Refuse a key given twice. msgspec takes the last one, another reader may take the first."""
    from bgjobs import json_faults  # noqa: PLC0415 - rarely needed

    try:
        json_faults.read(line)
    except json_faults.FaultError as error:
        raise CorruptError(str(error)) from None


def why_not(line: bytes, wanted: type[Struct]) -> str:
    """Return, in our words, why a line that could not be read as this struct is none."""
    from bgjobs import json_faults  # noqa: PLC0415 - rarely needed

    return json_faults.of(line, wanted)


def _check_values(spec: Line1) -> None:
    # One expression, no table of checks: it runs for each job that is submitted, and for each that is claimed.
    wrong = (
        ("" if ID.fullmatch(spec.id) else "id")
        or ("" if _is_name(spec.class_name) else "class")
        or ("" if _is_name(spec.method) else "method")
        or ("" if 0 <= spec.priority <= HIGHEST_PRIORITY else "priority")
        or ("" if 0 <= spec.not_before <= LATEST_MS else "not_before")
        or ("" if 0 <= spec.submitted_at <= LATEST_MS else "submitted_at")
        or ("" if 0 <= spec.retries <= MOST_RETRIES else "retries")
        or ("" if spec.retry_delay is None or 0 <= spec.retry_delay <= LATEST_MS / 1000 else "retry_delay")
        or ("" if spec.timeout is None or SHORTEST_S <= spec.timeout <= LATEST_MS / 1000 else "timeout")
        or ("" if not spec.tags or _are_tags(spec.tags) else "tags")
        or ("" if spec.retry_of is None or ID.fullmatch(spec.retry_of) else "retry_of")
        or ("" if spec.from_user is None or _is_user(spec.from_user) else "from_user")
    )
    if wrong:
        raise CorruptError(f"{wrong!r} has a value that is not allowed")


@lru_cache(maxsize=1024)  # a project has few names, and each of its jobs has two of them
def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def _are_tags(tags: list[str]) -> bool:
    return len(tags) <= MOST_TAGS and all(TAG.fullmatch(tag) for tag in tags)


def _is_user(text: str) -> bool:
    return text.isprintable() and 0 < len(text) <= LONGEST_USER


def _refuse_newer(line: bytes) -> None:
    class OnlyFormat(Struct):
        format: int

    try:
        newer = msgspec.json.decode(line, type=OnlyFormat).format > FORMAT
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if newer:
        raise NewerFormatError
