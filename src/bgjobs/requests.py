"""Turn a request into a job: values become numbers and moments, or are refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct

from bgjobs import clock, durations, ids, system
from bgjobs.config import settings
from bgjobs.errors import BadArgumentsError, UsageError
from bgjobs.ids import ID, new_id
from bgjobs.job import (
    LATEST_MS,
    MILLISECOND,
    MOST_ARGUMENTS,
    MOST_DEPTH,
    MOST_TAGS,
    TAG,
    Job,
    State,
    milliseconds,
    moment,
)
from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from bgjobs.config.allowlist import Target
    from bgjobs.store import Filter

    Length: TypeAlias = str | float | timedelta  # seconds, a text such as "90s", or a timedelta
    When: TypeAlias = str | datetime
    Number: TypeAlias = int | str
    Words: TypeAlias = str | Collection[str]
    Arguments: TypeAlias = Sequence[Any]
    Keywords: TypeAlias = Mapping[str, Any]
else:
    # What a line of a batch may hold, for msgspec to check: JSON has no timedelta, no datetime and no tuple.
    Length, When, Number, Words = float | str, str, int, list[str]
    Arguments, Keywords = list[Any] | None, dict[str, Any]
Priority: TypeAlias = int | str

LISTED = frozenset(State) - {State.CORRUPT}
LEAST_INT, MOST_INT = -(2**63), 2**64 - 1
FIRST_LEVEL = 2  # of an argument, in the list or object of all
DEEPEST = MOST_DEPTH - 2  # all lie in the object of a job, and one level is for what it travels in
LONGEST_SHOWN = 40
ALMOST_A_MILLISECOND = timedelta(microseconds=999)
DIGITS = Pattern(r"[0-9]{1,7}")
MOMENTS = 'write it as "2026-12-01 09:00" (local) or 2026-12-01T09:00Z'


class Call(Struct, frozen=True, kw_only=True):
    """One call to make, and the options of its job, as they are given in Python or in a line of a batch.

    None stands for what the allowlist says. Lengths are seconds, a text such as "90s", or a timedelta.
    """

    class_name: str = msgspec.field(name="class")
    method: str
    args: Arguments = ()
    kwargs: Keywords | None = None
    priority: Priority | None = None
    delay: Length | None = None
    at: When | None = None
    retries: Number | None = None
    retry_delay: Length | None = None
    timeout: Length | None = None
    tags: Words | None = ()


class Request(Call, frozen=True, kw_only=True):
    """A call to make, as a program asks for it. Nothing is checked before the request is used.

    `text` says that the arguments are text which becomes what the method's annotations say.
    """

    text: bool = False
    retry_of: str | None = None


def by(user: str | None = None) -> str:
    """Return `user@host` for this user, or the user of another name, on this machine."""
    return f"{user or system.user()}@{system.host()}"


def new_job(target: Target, request: Request, args: Sequence[Any], kwargs: dict[str, Any], *, text: bool) -> Job:
    """Return the job that a request for an approved pair asks for. Raises UsageError for a value that cannot be.

    Its arguments are given once more, as `plain_arguments` returns them.
    """
    policy = target.policy
    job_id = new_id(lane=ids.lane_of(target.class_name, target.method))
    now = moment(ids.id_ms(job_id))
    return Job(
        id=job_id,
        class_name=target.class_name,
        method=target.method,
        args=tuple(args),
        kwargs=kwargs,
        text=text,
        priority=policy.priority if request.priority is None else priority_of(request.priority),
        not_before=_not_before(request, policy.delay, now),
        submitted_at=now,
        submitted_by=by(),
        retries=policy.retries if request.retries is None else _retries(request.retries),
        retry_delay=None if request.retry_delay is None else duration("retry delay", request.retry_delay),
        timeout=None if request.timeout is None else duration("timeout", request.timeout, least=MILLISECOND),
        tags=_tags(request.tags),
        retry_of=None if request.retry_of is None else _id(request.retry_of),
    )


# ------------------------------------------------------------------------- the values that go with a call, one by one


def shown(value: object) -> str:
    """Return a value as an error may show it: short, on one line, and only the type of what is no plain value."""
    if value is None or isinstance(value, bool | float):
        return repr(value)[:LONGEST_SHOWN]
    if isinstance(value, str):
        return ascii(str.__str__(value)[:LONGEST_SHOWN])
    if isinstance(value, int):
        return str(int(value)) if value.bit_length() <= 128 else "of many digits"  # noqa: PLR2004 - a person can read 40 digits
    return f"of type {type(value).__name__}"


def text_of(what: str, value: object) -> str:
    """Return a plain text, or raise UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"bad {what} {shown(value)}", hint="pass a text", code=_code(what))
    return str.__str__(value)


def flag(what: str, value: object) -> bool:
    """Return True or False, or raise UsageError for what only counts as one of them."""
    if not isinstance(value, bool):
        raise UsageError(f"bad {what} {shown(value)}", hint="pass True or False", code=_code(what))
    return value


def priority_of(value: object) -> int:
    """Return the priority 0-9 that a number or a text stands for. Raises UsageError."""
    return settings.parse_priority(str.__str__(value) if isinstance(value, str) else shown(value))


def duration(what: str, value: object, least: timedelta = timedelta(0)) -> timedelta:
    """Return the duration that a caller gave as seconds, as a text such as "90s", or as it is. Raises UsageError.

    `what` names it in the error: `bad delay '5x': must be a duration such as …`.
    """
    try:
        given = durations.of(value)
    except durations.UnfitError as error:
        raise UsageError(f"bad {what} {shown(value)}: {error}", code=_code(what)) from None
    if given < least:
        raise UsageError(f"bad {what} {given.total_seconds():g} s", hint="it is too short", code=_code(what))
    return given


def moment_of(what: str, value: object) -> datetime:
    """Return the moment that a datetime or an ISO 8601 text stands for, local without a zone. Raises UsageError."""
    try:
        if isinstance(value, datetime):
            return clock.in_utc(value)
        if isinstance(value, str):
            from bgjobs.calls import text_values  # noqa: PLC0415 - few requests name a moment in words

            return clock.in_utc(text_values.datetime_of(value.strip()))
    except (ValueError, TypeError, OverflowError, OSError):
        pass  # no moment that this system knows; a TypeError: a zone without an offset, or the NaT of pandas
    hint = MOMENTS if isinstance(value, str) else f"{MOMENTS}, or pass a datetime"
    raise UsageError(f"bad {what} {shown(value)}", hint=hint, code=_code(what))


def past_of(what: str, value: object, now: datetime) -> datetime:
    """Return a moment as `moment_of` does; a length (`90s`, `7d`, seconds) counts back from now. Raises UsageError."""
    if isinstance(value, datetime):
        return moment_of(what, value)
    if isinstance(value, str):
        try:
            return now - durations.parse(value)
        except ValueError:
            return moment_of(what, value)
    return now - duration(what, value)


def states_of(chosen: object, among: Collection[State]) -> frozenset[State]:
    """Return the states that are named: one, or several in a list or with commas. Raises UsageError."""
    known = {state.value: state for state in State if state in among}
    found = set()
    for part in _several("state", chosen):
        words = part.split(",") if isinstance(part, str) else [part]
        for word in words:
            state = known.get(word.strip().lower()) if isinstance(word, str) else None
            if state is None:
                raise UsageError(f"bad state {shown(word)}", hint=f"use one of {', '.join(known)}", code="bad-state")
            found.add(state)
    return frozenset(found)


def filter_of(
    now: datetime,
    *,
    among: frozenset[State] = LISTED,
    default: frozenset[State] = LISTED,
    state: object = None,
    since: object = None,
    until: object = None,
    **conditions: object,
) -> Filter:
    """Return the filter for conditions as a person or a program writes them; None is no condition. Raises UsageError.

    States are those from `among`; where none is named, those in `default`.
    """
    from bgjobs.store import Filter  # noqa: PLC0415 - who only submits does without it

    return Filter(
        states=default if state is None else states_of(state, among),
        since=None if since is None else past_of("since", since, now),
        until=None if until is None else past_of("until", until, now),
        **{name: _CONDITIONS[name](value) for name, value in conditions.items() if value is not None},
    )


def tag_of(value: object) -> str:
    """Return a label to find jobs by, or raise UsageError."""
    if not isinstance(value, str) or not TAG.fullmatch(value):
        hint = "use letters, digits and _ . : - (at most 64)"
        raise UsageError(f"bad tag {shown(value)}", hint=hint, code="bad-tag")
    return str.__str__(value)


# By field of a `Filter`: how its value is read.
_CONDITIONS: dict[str, Callable[[object], Any]] = {
    "class_name": partial(text_of, "class_name"),
    "method": partial(text_of, "method"),
    "priority": priority_of,
    "tag": tag_of,
    "error": partial(text_of, "error"),
}


def _not_before(request: Request, delay: timedelta, now: datetime) -> datetime:
    if request.at is None and request.delay is None and not delay:
        return now
    if request.at is not None:
        if request.delay is not None:
            raise UsageError("both a delay and a moment", hint="give one of them", code="bad-delay")
        at = moment_of("at", request.at)
    else:
        at = now + (delay if request.delay is None else duration("delay", request.delay))
    if milliseconds(at) > LATEST_MS:
        raise UsageError("the moment lies too far ahead", hint="choose one before the year 2286", code="bad-delay")
    # Whole milliseconds, as the file's name has it, and none before it; a moment that has passed means at once.
    return max(moment(milliseconds(at + ALMOST_A_MILLISECOND)), now)


def _code(what: str) -> str:
    return f"bad-{what.strip('-').replace(' ', '-')}"


def _retries(value: object) -> int:
    number = int(value) if isinstance(value, str) and DIGITS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= settings.MOST_RETRIES:
        hint = f"use 0 to {settings.MOST_RETRIES}"
        raise UsageError(f"bad retries {shown(value)}", hint=hint, code="bad-retries")
    return int(number)


def _tags(tags: object) -> tuple[str, ...]:
    if tags is None or (type(tags) is tuple and not tags):  # not by `==`: an array answers that for each of its parts
        return ()
    found = tuple(tag_of(part) for part in _several("tags", tags))
    if len(found) > MOST_TAGS:
        raise UsageError(f"{len(found)} tags", hint=f"use at most {MOST_TAGS}", code="bad-tag")
    return found


def _several(what: str, chosen: object) -> Collection[object]:
    """Return what was given as one text, or as several in a list, tuple or set. Raises UsageError."""
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, Sequence | AbstractSet) and not isinstance(chosen, bytes | bytearray | memoryview):
        return chosen
    raise UsageError(f"bad {what} {shown(chosen)}", hint="pass a text, or several in a list", code=_code(what))


def _id(value: object) -> str:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise UsageError(f"bad retry_of {shown(value)}", hint="pass the id of a job", code="bad-id")
    return str.__str__(value)


# --------------------------------------------------------------------------------------------------- the arguments


class _UnfitError(ValueError):
    """Why a value cannot be stored, in words that complete "ARGUMENT …"."""

    def __init__(self, depth: int, what: str) -> None:
        super().__init__(f"{'is' if depth == FIRST_LEVEL else 'holds'} {what}")


def plain_arguments(name: str, args: object, kwargs: object) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call of `name` as they will come back from JSON.

    A tuple becomes a list, and what is a text or a number by inheritance the plain one. Raises UsageError where they
    are not in a list and a dict, BadArgumentsError for what JSON cannot hold and for what is too large or too deep.
    """
    by_place, by_name = _in_list(args), _in_dict(kwargs)
    found: list[Any] = []
    named: dict[str, Any] = {}
    key: object = None
    try:
        for value in by_place:
            found.append(_plain(value, FIRST_LEVEL))  # noqa: PERF401 - its length is the place of the one that is refused
        for key, value in by_name.items():
            named[_key(key, FIRST_LEVEL)] = _plain(value, FIRST_LEVEL)
    except _UnfitError as error:
        place = f"args[{len(found)}]" if len(found) < len(by_place) else shown(key)
        hint = "pass texts, numbers, lists and objects"
        raise BadArgumentsError(f"an argument of {name} {error} ({place})", hint=hint) from None
    size = len(msgspec.json.encode([found, named]))
    if size > MOST_ARGUMENTS:
        raise BadArgumentsError(
            f"the arguments of {name} take {size} bytes, more than {MOST_ARGUMENTS}",
            hint="pass a path or an id instead",
        )
    return found, named


def _in_list(args: object) -> Sequence[object]:
    if isinstance(args, list | tuple):
        return args
    if isinstance(args, Sequence) and not isinstance(args, str | bytes | bytearray | memoryview):
        return list(args)
    hint = "pass a list or a tuple"
    if isinstance(args, str):
        hint = 'write ["Tony"], not "Tony"'
    elif isinstance(args, Mapping):
        hint = "pass it as kwargs: without that its names would be lost"
    raise UsageError(f"bad args of type {type(args).__name__}", hint=hint, code="bad-args")


def _in_dict(kwargs: object) -> Mapping[Any, object]:
    if kwargs is None:
        return {}
    if isinstance(kwargs, Mapping):
        return kwargs
    hint = 'pass a dict such as {"name": "Tony"}'
    raise UsageError(f"bad kwargs of type {type(kwargs).__name__}", hint=hint, code="bad-kwargs")


def _plain(value: object, depth: int) -> object:
    """Return a value as it comes back from JSON. Raises _UnfitError."""
    if isinstance(value, str):
        return _plain_text(value, depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _plain_number(value, depth)
    if not isinstance(value, list | tuple | dict):
        raise _UnfitError(depth, f"a {type(value).__name__}, which JSON has not")
    if depth > DEEPEST:
        raise _UnfitError(0, f"lists or objects more than {MOST_DEPTH} levels deep")
    if isinstance(value, list | tuple):
        return [_plain(part, depth + 1) for part in value]
    found = {_key(key, depth + 1): _plain(part, depth + 1) for key, part in value.items()}
    if len(found) < len(value):
        raise _UnfitError(0, "a key twice")
    return found


def _plain_number(value: float, depth: int) -> float:
    if isinstance(value, int):
        if not LEAST_INT <= value <= MOST_INT:
            raise _UnfitError(depth, "a number beyond 64 bits")
        return value if type(value) is int else int.__int__(value)
    if not math.isfinite(value):
        raise _UnfitError(depth, "not a finite number" if depth == FIRST_LEVEL else "a number that is not finite")
    return value if type(value) is float else float.__float__(value)


def _key(key: object, depth: int) -> str:
    if not isinstance(key, str):
        raise _UnfitError(0, "a key that is not text")
    return _plain_text(key, depth)


def _plain_text(value: str, depth: int) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _UnfitError(depth, "a text with half of a surrogate pair") from None
    return value if type(value) is str else str.__str__(value)
