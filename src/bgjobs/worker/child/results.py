"""Turn what a method returned into JSON, with a note of what JSON could not hold, and tell what has not run yet."""

from __future__ import annotations

import enum
import math
import operator
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Collection, Generator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bgjobs.job import MOST_RESULT_DEPTH, is_deeper
from bgjobs.worker.protocol import MOST_RESULT

if TYPE_CHECKING:
    from typing import TypeGuard

MOST_BITS: Final = 14_000  # a whole number of more than 4300 digits is refused by Python itself
MOST_PARTS: Final = MOST_RESULT // 2  # each takes two bytes at least
DATA: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset})
LAZY: Final = frozenset({map, filter, zip, enumerate})
FUTURES: Final = frozenset({"concurrent.futures._base", "asyncio.futures", "_asyncio"})  # not imported to look
SHORT: Final = 10_000  # letters
LOST_NUMBER: Final = "NaN, an infinity or a number out of range became null"


class NotJSONError(Exception):
    """The value cannot be JSON; the text says why."""


class NotRunError(Exception):
    """Something in the value has not run yet; the text names its type."""


def encoded(returned: object) -> tuple[bytes, str]:
    """Return a value as JSON, and a note of what changed on the way, which is empty as a rule.

    A subclass of a type that JSON knows becomes what its base would. Raises NotJSONError for a value that JSON cannot
    hold, and NotRunError for one with something in it that has not run yet.
    """
    if returned is None:
        return b"null", ""
    if _is_plain(returned):
        return msgspec.json.encode(returned), ""
    later = not_run(returned)
    if later:
        raise NotRunError(later)
    try:
        data = msgspec.json.encode(returned)
        read = _check(data)
        if b'":' in data and len(msgspec.json.encode(read)) != len(data):
            return _encoded_part_by_part(returned)  # two keys that became one, as 1 and "1": that says so
    except (MemoryError, NotJSONError):
        raise
    except Exception:  # noqa: BLE001 - encoding looks at attributes, and so may run user code
        return _encoded_part_by_part(returned)
    # A number that JSON does not have is written as null without a word.
    return data, _note_of(returned) if b"null" in data else ""


def _is_plain(value: object) -> bool:
    """Tell whether this is a value of which nothing can be lost, as most are."""
    match value:
        case bool():
            return True
        case int():
            return type(value) is int and -(1 << 63) <= value < 1 << 63
        case str():
            return type(value) is str and len(value) <= SHORT and value.isascii()
        case _:
            return False


def _check(data: bytes) -> object:
    """Return what a reader makes of it; refuse what none could take: there may be bytes that somebody called JSON."""
    if len(data) > MOST_RESULT:
        raise NotJSONError(f"{len(data)} bytes, more than {MOST_RESULT}")
    if is_deeper(data, MOST_RESULT_DEPTH):  # the worker and all readers parse it, with less stack than we may have
        raise NotJSONError(f"nested deeper than {MOST_RESULT_DEPTH}")
    if b"\n" in data:
        raise ValueError  # our own writer needs no line break, and one would end the message
    return msgspec.json.decode(data)


def _encoded_part_by_part(returned: object) -> tuple[bytes, str]:
    parts = _Parts()
    try:
        data = msgspec.json.encode(parts.of(returned))
        _check(data)
    except (MemoryError, NotJSONError, NotRunError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise NotJSONError(f"not JSON: {type(error).__name__}") from None
    return data, parts.note()


def _note_of(returned: object) -> str:
    parts = _Parts()
    try:
        parts.of(returned)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as above
        return ""  # it was encoded nevertheless
    return parts.note()


def not_run(value: object) -> str:
    """Return the name of the type of something that was made to run later, or nothing for a value."""
    kind = type(value)
    if kind in DATA:
        return ""
    if _is_future(kind):
        has_run = value.done() and not value.cancelled()  # type: ignore[attr-defined]  # as every future
        return "" if has_run else str(kind.__name__)
    later = isinstance(value, Generator | AsyncGenerator | Awaitable) or kind in LAZY or kind.__module__ == "itertools"
    return str(kind.__name__) if later or _is_generator_inside(value) else ""


def _is_future(kind: type) -> bool:
    """Tell whether it is a future, of a thread, a process or asyncio: it may never run once the method has returned."""
    return any(step.__name__ == "Future" and step.__module__ in FUTURES for step in kind.__mro__)


def _is_generator_inside(value: object) -> bool:
    """Tell whether a function under `contextlib.contextmanager` returned it: what it holds runs inside of a `with`."""
    is_manager = any(step.__name__ == "_GeneratorContextManagerBase" for step in type(value).__mro__)
    return is_manager and isinstance(getattr(value, "gen", None), Generator | AsyncGenerator)


def _is_array(value: object) -> TypeGuard[Collection[object]]:
    if isinstance(value, bytes | bytearray | memoryview) or isinstance(getattr(value, "data", None), str):
        return False  # the second: a UserString
    return isinstance(value, AbstractSet | ValuesView | deque | Sequence)


class _Parts:
    """Makes a value of plain types only, and counts what is lost on the way."""

    def __init__(self) -> None:
        self._numbers = 0

    def note(self) -> str:
        """Return what was lost, as one line."""
        times = f"{self._numbers} {'times' if self._numbers > 1 else 'time'}"
        return f"{LOST_NUMBER} ({times})" if self._numbers else ""

    def of(self, value: object, depth: int = 0) -> object:
        """Return the value as JSON knows it. Raises NotJSONError or NotRunError."""
        if depth > MOST_RESULT_DEPTH:
            raise NotJSONError(f"nested deeper than {MOST_RESULT_DEPTH}")
        match value:
            case enum.Enum():
                return self.of(value.value, depth + 1)
            case str():
                return self._text(str.__str__(value))
            case float():
                return self._number(float.__float__(value))
            case bool() | None:
                return value
            case int():
                return self._whole(int.__int__(value))
            case Mapping():
                return self._object(value, depth + 1)
            case _ if _is_array(value):
                return self._array(value, depth + 1)
            case _:
                return self._rest(value, depth + 1)

    @staticmethod
    def _text(text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotJSONError("not JSON: it holds a text that is no Unicode") from None
        return text

    def _whole(self, number: int) -> int | None:
        if number.bit_length() <= MOST_BITS:
            return number
        self._numbers += 1
        return None

    def _number(self, number: float) -> float | None:
        if math.isfinite(number):
            return number
        self._numbers += 1
        return None

    def _array(self, values: Collection[object], depth: int) -> list[object]:
        if len(values) > MOST_PARTS:
            raise NotJSONError(f"{len(values)} values, more than {MOST_RESULT} bytes")
        return [self.of(part, depth) for part in values]

    def _object(self, value: Mapping[Any, object], depth: int) -> dict[str, object]:
        found = {self._key(name, depth): self.of(part, depth) for name, part in value.items()}
        if len(found) < len(value):
            raise NotJSONError("two keys are the same in JSON")
        return found

    def _key(self, name: object, depth: int) -> str:
        if name is None or isinstance(name, bool):
            return "null" if name is None else str(name).lower()
        plain = self.of(name, depth)
        if not isinstance(plain, str | int | float):
            raise NotJSONError(f"a key is a {type(name).__name__}")
        return str(plain)

    def _rest(self, value: object, depth: int) -> object:
        """Return what is no plain value and no collection: a date, a dataclass, a number of a library, a path."""
        later = not_run(value)
        if later:
            raise NotRunError(later)
        fields = _fields(value)
        if fields is not None:
            return self._object(fields, depth)
        for make in (_by_msgspec, _by_base, _listed, operator.index, float):
            try:
                made = make(value)  # type: ignore[arg-type]  # each raises TypeError for what it does not know
            except (TypeError, msgspec.MsgspecError):
                continue
            return self.of(made, depth)
        raise NotJSONError(f"not JSON: it holds a value of type {type(value).__name__}")


def _fields(value: object) -> dict[str, object] | None:
    """Return the fields of an instance of a dataclass, or of a class made by attrs or msgspec; None if it has none."""
    kind = type(value)
    for found in (getattr(kind, "__dataclass_fields__", None), getattr(kind, "__attrs_attrs__", None)):
        if isinstance(found, Mapping):
            return {name: getattr(value, name) for name in found if hasattr(value, name)}
        if isinstance(found, tuple):
            return {field.name: getattr(value, field.name) for field in found if hasattr(value, field.name)}
    return msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else None


def _by_msgspec(value: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(value))


def _by_base(value: object) -> object:
    """Return a path, or an instance of a subclass of a date, a time or a decimal, as text."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    from datetime import date, time, timedelta  # noqa: PLC0415 - few results get here
    from decimal import Decimal  # noqa: PLC0415 - few results have one

    match value:
        case bytes():
            return _by_msgspec(bytes.__getitem__(value, slice(None)))
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _by_msgspec(timedelta(value.days, value.seconds, value.microseconds))
        case Decimal():
            return Decimal.__str__(value)
        case Sequence() if isinstance(text := getattr(value, "data", None), str):
            return text
        case _:
            raise TypeError


def _listed(value: object) -> object:
    """Return what numpy, pandas and others call a list: of a single number, that number."""
    make = getattr(type(value), "tolist", None)
    size = getattr(value, "size", 0)
    if make is None or (isinstance(size, int) and size > MOST_PARTS):
        raise TypeError
    made = make(value)
    if type(made) is type(value):
        raise TypeError
    return made
