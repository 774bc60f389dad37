"""Explain why a text is not JSON, or not of the expected type. Called only after reading it has failed.

The messages of libraries change with their releases, so they are neither shown to users nor kept in `.reason` files.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNKNOWN = "not what is expected"
LONGEST_NAME = 80
MOST_NAMES = 40
MOST_DIGITS = 4300  # the default limit of Python for converting text to a number
_ONE_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LAST_COMMA = re.compile(r",[ \t\r\n]*(?=[\]}])")
_BEGINNINGS = frozenset(word[:end] for word in ("true", "false", "null", "-") for end in range(1, len(word) + 1))


class FaultError(ValueError):
    """The text is not valid; the message says why."""


class RepeatedError(FaultError):
    """A key is given twice."""


def of(data: bytes | str, wanted: Any) -> str:  # noqa: ANN401 - any type that JSON can become
    """Explain why the text is not JSON of this type. No value is quoted: it may be secret."""
    try:
        value = _read(data, _EXACT)
    except FaultError as error:
        return str(error)
    return misfit(value, wanted) or UNKNOWN


def read(data: bytes | str) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return the value of a JSON text. Raises FaultError, also for texts that other readers may read differently."""
    return _read(data, _LENIENT)


def repeated(text: str) -> str | None:
    """Name a key that one object of a JSON text has twice, or return None: readers differ in which value they take."""
    try:
        _LENIENT.decode(text)
    except RepeatedError as error:
        return str(error)
    except (ValueError, RecursionError):
        return None  # other faults are reported by its reader
    return None


def _read(data: bytes | str, decoder: json.JSONDecoder) -> Any:  # noqa: ANN401 - whatever JSON it is
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        raise FaultError(f"not UTF-8 at byte {error.start + 1}") from None
    if text.startswith("\ufeff"):
        raise FaultError("not JSON: it begins with a byte order mark")
    if not text.strip():
        raise FaultError("not JSON: it is empty")
    begin = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = decoder.raw_decode(text, begin)
        # A string that cannot be encoded holds half of a surrogate pair, as in "\ud800".
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise FaultError(_syntax(text, error.pos)) from None
    except UnicodeEncodeError:
        raise FaultError("not JSON: a text holds half of a surrogate pair") from None
    except RecursionError:
        raise FaultError("nested too deeply") from None
    except FaultError:
        raise
    except ValueError:
        raise FaultError("not JSON") from None
    rest = text[end:]
    if rest.strip(" \t\r\n"):
        where = end + len(rest) - len(rest.lstrip(" \t\r\n")) + 1
        raise FaultError(f"not JSON: something follows its end, at character {where}")
    return value


def misfit(value: object, wanted: Any) -> str | None:  # noqa: ANN401 - any type that JSON can become
    """Return where a value from JSON does not fit the type, and what must be there; None if no place is found."""
    try:
        kind = inspect.type_info(wanted)
    except (TypeError, NameError, ValueError):  # of no type that JSON can become, or of names that are not there
        return None
    return _misfit(value, kind, "")


def _syntax(text: str, position: int) -> str:
    comma = _LAST_COMMA.match(text, position)
    if comma is not None:
        position = comma.end()  # Python 3.13 names the comma itself, earlier ones what follows it
    rest = text[position:]
    if not rest or rest in _BEGINNINGS or (rest[0] == '"' and not _ONE_TEXT.match(rest)):
        return "not JSON: truncated, it ends in the middle"
    return f"not JSON at character {position + 1}"


def _no_constant(name: str) -> object:
    raise FaultError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise FaultError("a number is out of range")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise FaultError("a number is out of range")
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for place, name in enumerate(names) if name in names[:place])
        raise RepeatedError(f"a key is given twice: {name[:LONGEST_NAME]!a}")
    return found


_LENIENT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_integer)
_EXACT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite)

# ------------------------------------------------------------------------------------------------ values and types

_PLAIN: dict[type, tuple[Callable[[object], bool], str]] = {
    inspect.NoneType: (lambda value: value is None, "null"),
    inspect.BoolType: (lambda value: isinstance(value, bool), "true or false"),
    inspect.IntType: (lambda value: type(value) is int, "a whole number"),
    inspect.FloatType: (lambda value: type(value) in {int, float}, "a number"),
    inspect.DecimalType: (lambda value: type(value) in {int, float, str}, "a number"),
    inspect.StrType: (lambda value: isinstance(value, str), "text"),
}
_IN_TEXTS = {
    inspect.DateTimeType: "a moment such as 2026-12-01T09:00Z",
    inspect.DateType: "a date such as 2026-12-01",
    inspect.TimeType: "a time such as 09:00",
    inspect.TimeDeltaType: "a length of time such as PT5M",
    inspect.UUIDType: "a UUID",
}
_LISTS = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
_RECORDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


def _misfit(value: object, kind: inspect.Type, place: str) -> str | None:
    match kind:
        case inspect.Metadata(type=inner):
            return _misfit(value, inner, place)
        case inspect.UnionType(types=kinds):
            faults = [_misfit(value, part, place) for part in kinds]
            return None if None in faults else _must_be(place, " or ".join(dict.fromkeys(map(_name, kinds))))
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return _record(value, kind, place)
        case inspect.DictType(value_type=part):
            if not isinstance(value, dict):
                return _must_be(place, _name(kind))
            return _first(_misfit(inside, part, f"a value in {place or 'it'}") for inside in value.values())
        case inspect.TupleType(item_types=parts):
            if not isinstance(value, list) or len(value) != len(parts):
                return _must_be(place, f"a list of {len(parts)}")
            return _first(
                _misfit(inside, part, f"{place}[{number}]")
                for number, (inside, part) in enumerate(zip(value, parts, strict=True))
            )
        case (
            inspect.ListType(item_type=part)
            | inspect.SetType(item_type=part)
            | inspect.FrozenSetType(item_type=part)
            | inspect.VarTupleType(item_type=part)
        ):
            if not isinstance(value, list):
                return _must_be(place, _name(kind))
            return _first(_misfit(inside, part, f"{place}[{number}]") for number, inside in enumerate(value))
        case _:
            return None if _fits(value, kind) else _must_be(place, _name(kind))


def _fits(value: object, kind: inspect.Type) -> bool:
    if type(kind) in _IN_TEXTS:
        return isinstance(value, str)
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    plain = _PLAIN.get(type(kind))
    if plain is None:
        return True
    if not plain[0](value):
        return False
    least, most = getattr(kind, "ge", None), getattr(kind, "le", None)
    return (least is None or value >= least) and (most is None or value <= most)


def _record(value: object, kind: Any, place: str) -> str | None:  # noqa: ANN401 - one of three types with the same fields
    if not isinstance(value, dict):
        return _must_be(place, "an object")
    fields = {field.encode_name: field for field in kind.fields}
    for name, field in fields.items():
        if name in value:
            fault = _misfit(value[name], field.type, f"{place}.{name}".lstrip("."))
            if fault:
                return fault
        elif field.required:
            return f"{name!r} is missing{f' in {place}' if place else ''}"
    if getattr(kind, "forbid_unknown_fields", False):
        for name in value:
            if name not in fields:
                known = f"known are {', '.join(list(fields)[:MOST_NAMES])}"
                return f"{name[:LONGEST_NAME]!r} is unknown{f' in {place}' if place else ''}, {known}"
    return None


def _first(faults: Iterable[str | None]) -> str | None:
    return next(filter(None, faults), None)


def _must_be(place: str, what: str) -> str:
    return f"{f'{place!r}' if place.isidentifier() else place or 'it'} must be {what}"


def _name(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.EnumType):
        return f"one of {', '.join(str(member.value) for member in kind.cls)}"
    if isinstance(kind, _LISTS):
        part = _name(kind.item_type)
        return "a list of texts" if part == "text" else "a list"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)}"
    if isinstance(kind, (inspect.DictType, *_RECORDS)):
        return "an object"
    if type(kind) in _IN_TEXTS:
        return _IN_TEXTS[type(kind)]
    if type(kind) not in _PLAIN:
        return "another value"
    least, most = getattr(kind, "ge", None), getattr(kind, "le", None)
    bounds = "" if least is None else f" from {least} on" if most is None else f" from {least} to {most}"
    return _PLAIN[type(kind)][1] + bounds
