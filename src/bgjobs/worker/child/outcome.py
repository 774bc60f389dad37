"""Describe how an attempt ended: what the method returned, as JSON, or raised, as text."""

from __future__ import annotations

import enum
import errno
import math
import operator
import os
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Collection, Generator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from bgjobs.job import MOST_RESULT_DEPTH, JobError, Raised, Succeeded, is_deeper
from bgjobs.job_context import Fail, Retry
from bgjobs.worker.protocol import LONGEST_WAIT, MOST_RESULT, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType
    from typing import TypeGuard

    from bgjobs.worker.child.attempt_secrets import AttemptSecrets
    from bgjobs.worker.protocol import Reported


# The frames of these modules are left out of tracebacks; a runner is started as __main__.
OURS = frozenset({"__main__", "bgjobs.worker.child.main", "bgjobs.calls.resolve"})
MOST_MEMBERS: Final = 10_000
MOST_NAMES: Final = 1000
LONGEST_NAME: Final = 300
MOST_MESSAGE: Final = 4096
MOST_LEADING: Final = 3072  # of a message, where that of its group follows
MOST_NOTE: Final = 200
MOST_STEPS: Final = 20  # from an error to its first cause

# The attributes themselves: a subclass could answer anything.
_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__
_traceback_of = BaseException.__dict__["__traceback__"].__get__
_mro_of = type.__dict__["__mro__"].__get__
_name_of = type.__dict__["__name__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__
_module_of = type.__dict__["__module__"].__get__


def members(error: BaseException) -> Iterator[BaseException]:
    """Go through the exception itself and all members, those of groups within the group included."""
    waiting, left = [error], MOST_MEMBERS
    while waiting and left:
        part = waiting.pop()
        left -= 1
        yield part
        if issubclass(type(part), BaseExceptionGroup):
            waiting.extend(reversed(_members_of(part)))


def succeeded(returned: object, secrets: AttemptSecrets) -> Succeeded:
    """Return the outcome for a returned value. A value that JSON cannot hold is dropped with a note: the job is done.

    Raises NotRunError for a value that has not run yet, such as a generator.
    """
    try:
        data, note = encoded(returned)
    except NotJSONError as error:
        return Succeeded(note=f"result dropped: {utf8(secrets.mask(str(error)))}"[:MOST_NOTE])
    return Succeeded(msgspec.Raw(data), note)


def raised(error: BaseException, secrets: AttemptSecrets) -> Raised:
    """Return the outcome for an exception of user code. Only text goes back to the worker.

    A group of exceptions counts as all of its members: one Fail fails the job, else one Retry asks for another attempt,
    after the longest of the delays.
    """
    parts = list(members(error))
    retries = [part for part in parts if issubclass(type(part), Retry)]
    fails = [part for part in parts if issubclass(type(part), Fail)]
    plain = [part for part in parts if not issubclass(type(part), BaseExceptionGroup)]
    leading = next(iter(fails or retries or plain), error)
    described = _described(error, leading, secrets)
    if fails:
        return Raised(described, _lineage(parts), final=True)
    if retries:
        beside = _lineage([part for part in plain if part not in retries])
        return Raised(described, _lineage(parts), asked=True, retry_in=_longest_delay(retries), beside=beside)
    return Raised(described, _lineage(parts))


def of_changed_code(outcome: Raised, path: str) -> Raised:
    """Add a remark that this file has changed since the code that raised the exception was loaded.

    Python reads the lines of a traceback from the file as it is now.
    """
    remark = f"{path} has changed since this process loaded it: what ran is the code from before"
    error = outcome.error
    message = f"{error.message} ({remark})" if error.message else remark
    trace = f"{error.traceback.rstrip()}\n\n{remark}\n" if error.traceback else ""
    return replace(outcome, error=replace(error, message=message, traceback=trace))


def with_limit(outcome: Reported, error: BaseException, limits: Limits) -> Reported:
    """Add to the message of the outcome which limit of the attempt the error comes from, if it does."""
    if limits == Limits():
        return outcome
    hit = next((found for part in members(error) if (found := _limit_of(part, limits))), "")
    if not hit or not isinstance(outcome, Raised):
        return outcome
    message = f"{outcome.error.message} ({hit})" if outcome.error.message else hit
    return replace(outcome, error=replace(outcome.error, message=message))


def _limit_of(error: BaseException, limits: Limits) -> str:
    # By the type alone: attributes of an error that a job has made itself are user code.
    if limits.memory and issubclass(type(error), MemoryError):
        return f"max_memory is {limits.memory} bytes"
    if type(error) is not OSError:
        return ""
    if limits.files and error.errno == errno.EMFILE:
        return f"max_files is {limits.files}"
    if limits.file_size and error.errno == errno.EFBIG:
        return f"max_file_size is {limits.file_size} bytes"
    return ""


def _longest_delay(retries: Sequence[BaseException]) -> timedelta | None:
    """Return the longest of the delays, so that none ends too early; None if no delay is given."""
    # A subclass may not have called our constructor, and an attribute can be set to anything.
    delays = [delay for part in retries if isinstance(delay := getattr(part, "delay", None), timedelta)]
    if not delays:
        return None
    longest = max(delays)
    plain = timedelta(longest.days, longest.seconds, longest.microseconds)
    return max(timedelta(0), min(plain, LONGEST_WAIT))


def was_importing(error: BaseException) -> bool:
    """Tell whether the error, or one of its causes, was raised while the code of a module ran: it is half imported."""
    for part in members(error):
        step: BaseException | None = part
        for _ in range(MOST_STEPS):
            if step is None:
                break
            if _passes_through_a_module(_traceback_of(step)):
                return True
            step = step.__cause__ or step.__context__
    return False


def _passes_through_a_module(trace: TracebackType | None) -> bool:
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__spec__") and not _is_ours(frame):
            return True
        trace = trace.tb_next
    return False


def _is_ours(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in OURS


def _lineage(errors: Sequence[BaseException]) -> tuple[str, ...]:
    """Return the names of the exceptions' classes and their bases, the most specific ones first."""
    names = dict.fromkeys(name for kind in dict.fromkeys(map(type, errors)) for name in lineage(kind))
    return tuple(names)[:MOST_NAMES]


def lineage(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the names of a class and its bases, most specific first; with the module, but for builtins."""
    return tuple(_full_name(cls) for cls in _mro_of(kind) if cls is not object)


def _full_name(cls: type) -> str:
    module = _module_of(cls)
    if module == "builtins":
        return utf8(_name_of(cls))[:LONGEST_NAME]
    home = f"{module}." if isinstance(module, str) else ""
    return utf8(f"{home}{_qualname_of(cls)}")[:LONGEST_NAME]


def _described(error: BaseException, leading: BaseException, secrets: AttemptSecrets) -> JobError:
    """Describe the leading exception, and the group that it is in."""
    message = _message(leading, secrets)
    if leading is not error:
        group = f"in {_full_name(type(error))}: {_message(error, secrets)}"
        message = f"{message[:MOST_LEADING]} ({secrets.mask(group)})"
    return JobError(
        type=secrets.mask(_full_name(type(leading))),
        message=message[:MOST_MESSAGE],
        traceback=_traceback(error, secrets),
    )


def _message(error: BaseException, secrets: AttemptSecrets) -> str:
    try:
        if isinstance(error, SystemExit):
            return utf8(secrets.mask(f"the method called sys.exit({error.code!r})"))[:MOST_MESSAGE]
        return utf8(secrets.mask(str(error)))[:MOST_MESSAGE]
    except BaseException:  # noqa: BLE001 - __str__ is user code too
        return "(its message cannot be shown)"


def _traceback(error: BaseException, secrets: AttemptSecrets) -> str:
    """Format the traceback without our own frames."""
    try:
        trace = error.__traceback__
        while trace is not None and _is_ours(trace.tb_frame):
            trace = trace.tb_next
        return utf8(secrets.mask("".join(traceback.format_exception(type(error), error, trace)))[-65_536:])
    except BaseException:  # noqa: BLE001 - formatting calls user code (__str__, __repr__)
        return ""


def utf8(text: str) -> str:
    """Return the text with escapes for what UTF-8 cannot hold, such as bytes of the name of an old file."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


MOST_BITS: Final = 14_000  # a whole number of more than 4300 digits is refused by Python itself
MOST_PARTS: Final = MOST_RESULT // 2  # each takes two bytes at least
DATA: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset})
LAZY: Final = frozenset({map, filter, zip, enumerate})
FUTURES: Final = frozenset({"concurrent.futures._base", "asyncio.futures", "_asyncio"})  # not imported to look
SHORT: Final = 10_000  # letters
LOST_NUMBER: Final = "NaN, an infinity or a number out of range became null"


class NotJSONError(Exception):
    """The value cannot be written as JSON; the text says why."""


class NotRunError(Exception):
    """Something in the value has not run yet; the text names its type."""


def encoded(returned: object) -> tuple[bytes, str]:
    """Return a value as JSON, and a note of what was lost, which is empty as a rule.

    A subclass of a type that JSON knows is written as its base would be. Raises NotJSONError for a value that JSON
    cannot hold, and NotRunError for one with something in it that has not run yet.
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
            return _encoded_part_by_part(returned)  # two keys that became one, as 1 and "1": the error says so
    except (MemoryError, NotJSONError):
        raise
    except Exception:  # noqa: BLE001 - encoding looks at attributes, and so may run user code
        return _encoded_part_by_part(returned)
    # A number that JSON does not have is written as null, without an error.
    return data, _note_of(returned) if b"null" in data else ""


def _is_plain(value: object) -> bool:
    """Tell whether this is a plain value of which nothing can be lost, as most are."""
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
    """Decode the result as a reader will; refuse what no reader could take, such as a `msgspec.Raw` that is no JSON."""
    if len(data) > MOST_RESULT:
        raise NotJSONError(f"{len(data)} bytes, more than {MOST_RESULT}")
    if is_deeper(data, MOST_RESULT_DEPTH):  # the worker and all readers parse it, perhaps with less stack
        raise NotJSONError(f"nested deeper than {MOST_RESULT_DEPTH}")
    if b"\n" in data:
        raise ValueError  # msgspec writes no line break, and one would end the message
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
    """Return the name of the type of an object that runs later, such as a generator; "" for a value."""
    kind = type(value)
    if kind in DATA:
        return ""
    if _is_future(kind):
        has_run = value.done() and not value.cancelled()  # type: ignore[attr-defined]  # as every future
        return "" if has_run else str(kind.__name__)
    later = isinstance(value, Generator | AsyncGenerator | Awaitable) or kind in LAZY or kind.__module__ == "itertools"
    return str(kind.__name__) if later or _is_generator_inside(value) else ""


def _is_future(kind: type) -> bool:
    """Tell whether this is a future, of a thread, a process or asyncio: it may never run after the method returned."""
    return any(step.__name__ == "Future" and step.__module__ in FUTURES for step in kind.__mro__)


def _is_generator_inside(value: object) -> bool:
    """Tell whether a function under `contextlib.contextmanager` returned it: its body runs only inside a `with`."""
    is_manager = any(step.__name__ == "_GeneratorContextManagerBase" for step in type(value).__mro__)
    return is_manager and isinstance(getattr(value, "gen", None), Generator | AsyncGenerator)


def _is_array(value: object) -> TypeGuard[Collection[object]]:
    if isinstance(value, bytes | bytearray | memoryview) or isinstance(getattr(value, "data", None), str):
        return False  # the second: a UserString
    return isinstance(value, AbstractSet | ValuesView | deque | Sequence)


class _Parts:
    """Converts a value to plain types, and counts the numbers that JSON cannot hold."""

    def __init__(self) -> None:
        self._numbers = 0

    def note(self) -> str:
        """Say what was lost, in one line; "" if nothing was."""
        times = f"{self._numbers} {'times' if self._numbers > 1 else 'time'}"
        return f"{LOST_NUMBER} ({times})" if self._numbers else ""

    def of(self, value: object, depth: int = 0) -> object:
        """Return the value in plain types. Raises NotJSONError or NotRunError."""
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
        """Convert what is no plain value and no collection: a date, a dataclass, a number of a library, a path."""
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
    """Return what `tolist` of numpy, pandas and others gives: for a single number, that number."""
    make = getattr(type(value), "tolist", None)
    size = getattr(value, "size", 0)
    if make is None or (isinstance(size, int) and size > MOST_PARTS):
        raise TypeError
    made = make(value)
    if type(made) is type(value):
        raise TypeError
    return made
