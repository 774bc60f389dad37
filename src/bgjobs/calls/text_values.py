"""Convert the text of an argument to a value of a kind; describe what to write where it does not fit."""

from __future__ import annotations

import enum
import math
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bgjobs import clock, durations
from bgjobs.calls.kinds import ANY, NULL, TEXT, AnyOf, Choices, Container, Plain, Record
from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path
    from uuid import UUID

    from bgjobs.calls.kinds import Kind

MOST_DIGITS: Final = 4300
LONGEST_LIST: Final = 300
LAST: Final = (TEXT, ANY)  # these accept any text, so they are tried last
WORDS: Final = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_INT = Pattern(r"[+-]?[0-9]+")
_DECIMAL = Pattern(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_DATE = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}(?:-?[0-9])?)"
_TIME = r"(?:[01][0-9]|2[0-3])(?::?[0-9]{2}){0,2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2}){0,2})?"
_ISO_DATE = Pattern(_DATE)
_ISO_TIME = Pattern(f"T?{_TIME}")
_ISO_DATETIME = Pattern(f"{_DATE}(?:[T ]{_TIME})?")
_UUID = Pattern(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


class MisfitError(ValueError):
    """A text does not fit; the message does not quote it, since it may be secret."""


class _RepeatedKeyError(MisfitError):
    """The text is an object with a repeated key, which readers take differently: no other kind may accept it."""


def value_of(kind: Kind, text: str) -> object:
    """Convert a text to a value of this kind. Raises ValueError; only the message of a MisfitError may be shown."""
    match kind:
        case Plain(name=name):
            return PARSERS[name][0](text)
        case Container(make=make, annotation=annotation):
            return _collection(make, annotation, text)
        case Record(annotation=annotation):
            _refuse_repeated_keys(text)
            return _decoded(annotation, text)
        case Choices(values=values):
            return _chosen(values, text)
        case AnyOf(kinds=kinds):
            return _first_fitting(kinds, text)


def expected(kind: Kind) -> str:
    """Describe what to write for this kind."""
    match kind:
        case Plain(name=name):
            return PARSERS[name][1]
        case Container(make=make) if make is not dict:
            return "a JSON array such as [1, 2]"
        case Container() | Record():
            return 'a JSON object such as {"a": 1}'
        case Choices(values=values):
            text = f"one of {', '.join(_written(value) for value in values)}"
            return text if len(text) <= LONGEST_LIST else "one of its values"
        case AnyOf(kinds=kinds):
            return " or ".join(dict.fromkeys(expected(part) for part in kinds))


# ------------------------------------------------------------------------------------------------- plain values


def _int(text: str) -> int:
    if not _INT.fullmatch(text) or len(text.lstrip("+-")) > MOST_DIGITS:
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    if not math.isfinite(number):
        raise ValueError
    return number


def _decimal(text: str) -> Decimal:
    from decimal import Decimal  # noqa: PLC0415 - only this annotation needs it

    if not _DECIMAL.fullmatch(text) or len(text) > MOST_DIGITS:
        raise ValueError
    return Decimal(text)


def _bool(text: str) -> bool:
    try:
        return WORDS[text.lower()]
    except KeyError:
        raise ValueError from None


def _date(text: str) -> date:
    if not _ISO_DATE.fullmatch(text):  # `fromisoformat` reads more than that, and not the same in each version
        raise ValueError
    return date.fromisoformat(text)


def _time(text: str) -> time:
    if not _ISO_TIME.fullmatch(text):
        raise ValueError
    return time.fromisoformat(text)


def datetime_of(text: str) -> datetime:
    """Return the moment that an ISO 8601 text stands for, local without a zone, as `clock.in_utc` reads it.

    Raises ValueError.
    """
    if not _ISO_DATETIME.fullmatch(text):
        raise ValueError
    moment = datetime.fromisoformat(text)
    try:
        there = moment if moment.tzinfo else clock.in_utc(moment)
    except (OverflowError, OSError):  # the first and last days of the calendar, or of the system's
        raise ValueError from None
    try:
        return moment if moment.tzinfo else there.astimezone()
    except OverflowError:
        raise ValueError from None
    except OSError:
        return there  # Windows shows no moment before 1970 in local time


def _timedelta(text: str) -> timedelta:
    return durations.parse_iso(text) if text.startswith("P") else durations.parse(text)


def _path(text: str) -> Path:
    from pathlib import Path  # noqa: PLC0415 - only this annotation needs it

    return Path(text)


def _uuid(text: str) -> UUID:
    from uuid import UUID  # noqa: PLC0415 - only this annotation needs it

    if not _UUID.fullmatch(text):
        raise ValueError
    return UUID(text)


def _null(text: str) -> None:
    if text != "null":
        raise ValueError


# By name: the function that converts a text or raises ValueError, and a description of what to write. Submit and runner
# use this one table, so that both refuse the same texts.
PARSERS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {
    "any": (str, "any text"),
    "str": (str, "any text"),
    "null": (_null, "null"),
    "int": (_int, "a whole number such as 42"),
    "float": (_float, "a number such as 1.5"),
    "decimal": (_decimal, "a number such as 19.90"),
    "bool": (_bool, "true or false"),
    "date": (_date, "a date such as 2026-12-01"),
    "datetime": (datetime_of, "a moment such as 2026-12-01T09:00 or 2026-12-01T09:00Z"),
    "time": (_time, "a time such as 09:00"),
    "timedelta": (_timedelta, "a length of time such as 90s, 5m, 1h30m, 1d, 1w or PT5M"),
    "path": (_path, "a path"),
    "uuid": (_uuid, "a UUID such as 01234567-89ab-cdef-0123-456789abcdef"),
}


# ------------------------------------------------------------------------------------------ one of several things


def _first_fitting(kinds: Sequence[Kind], text: str) -> object:
    for kind in sorted(kinds, key=lambda kind: (kind != NULL, kind in LAST)):
        try:
            return value_of(kind, text)
        except _RepeatedKeyError:
            raise
        except ValueError:
            continue
    raise ValueError


def _chosen(values: Sequence[object], text: str) -> object:
    """Return the value that a text stands for; members of an enum are given by name or else by value."""
    members = [value for value in values if isinstance(value, enum.Enum)]
    fitting = [
        *(value for value in values if not isinstance(value, enum.Enum) and _means(value, text)),
        *(member for member in members if member.name == text),
        *(member for member in members if str(member.value) == text),
    ]
    if not fitting:
        raise ValueError
    return fitting[0]


def _means(value: object, text: str) -> bool:
    if isinstance(value, str):
        return text == value
    name = "null" if value is None else "bool" if isinstance(value, bool) else "int"
    try:
        return PARSERS[name][0](text) == value
    except ValueError:
        return False


def _written(value: object) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    return "null" if value is None else str(value)


# ----------------------------------------------------------------------------------------------------------- JSON


def _collection(make: type, annotation: Any, text: str) -> object:  # noqa: ANN401 - an annotation may be any object
    _refuse_repeated_keys(text)
    if annotation is not None:
        try:
            return _decoded(annotation, text)
        except (TypeError, NameError):
            pass  # the elements are of no type that JSON can become: they stay as JSON has them
    return _from_plain_json(make, text)


def _decoded(annotation: Any, text: str) -> object:  # noqa: ANN401 - an annotation may be any object
    try:
        return msgspec.json.decode(text, type=annotation, dec_hook=_from_json_text)
    except msgspec.MsgspecError:
        from bgjobs import json_faults  # noqa: PLC0415 - only a mistake gets here

        # Never the message of msgspec or of the class itself: it may quote the value, and it changes with releases.
        reason = json_faults.of(text, annotation)
        raise MisfitError("not what the annotation says" if reason == json_faults.UNKNOWN else reason) from None


def _refuse_repeated_keys(text: str) -> None:
    if "{" not in text:
        return
    from bgjobs import json_faults  # noqa: PLC0415 - few arguments are objects

    fault = json_faults.repeated(text)
    if fault is not None:
        raise _RepeatedKeyError(fault)


def _from_json_text(wanted: type, value: object) -> object:
    from pathlib import PurePath  # noqa: PLC0415 - only the runner gets here

    if issubclass(wanted, PurePath) and isinstance(value, str):
        return wanted(value)
    raise ValueError(f"JSON cannot become {wanted.__name__}")


def _from_plain_json(make: type, text: str) -> object:
    import json  # noqa: PLC0415 - only these annotations need it

    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise MisfitError("not valid JSON") from None
    if not isinstance(value, dict if make is dict else list):
        raise MisfitError("not the right kind of JSON")
    try:
        return make(value)
    except TypeError:
        raise MisfitError("lists and objects cannot be in a set") from None


def _no_number(text: str) -> None:
    raise ValueError(text)
