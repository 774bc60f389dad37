"""Turn what somebody asks for into a job: values become numbers and moments, or are refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from bgjobs import clock, durations, ids, system, values
from bgjobs.errors import BadArgumentsError, UsageError
from bgjobs.ids import new_id
from bgjobs.job import (
    LATEST_MS,
    MILLISECOND,
    MOST_ARGUMENTS,
    MOST_DEPTH,
    MOST_TAGS,
    TAG,
    Job,
    milliseconds,
    moment,
    parse_priority,
)

if TYPE_CHECKING:
    from bgjobs.allowlist import Target

LEAST_INT, MOST_INT = -(2**63), 2**64 - 1


class Request(Struct, frozen=True, kw_only=True):
    """One call to make, as someone asks for it. None stands for what the allowlist says.

    Lengths are seconds, a text such as "90s", or a timedelta. `text` says that the arguments are text which becomes
    what the method's annotations say.
    """

    class_name: str
    method: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    priority: str | int | None = None
    delay: str | float | timedelta | None = None
    at: datetime | None = None
    retries: int | None = None
    retry_delay: str | float | timedelta | None = None
    timeout: str | float | timedelta | None = None
    tags: Sequence[str] = ()
    text: bool = False
    retry_of: str | None = None


def by(user: str | None = None) -> str:
    """Return who acts, as `user@host`: we ourselves, if nobody is named."""
    return f"{user or system.user()}@{system.host()}"


def new_job(target: Target, request: Request, *, text: bool) -> Job:
    """Return the job that a request for an approved pair asks for. Raises UsageError for a value that cannot be."""
    policy = target.policy
    job_id = new_id()
    now = moment(ids.id_ms(job_id))
    return Job(
        id=job_id,
        class_name=target.class_name,
        method=target.method,
        args=tuple(request.args),
        kwargs=dict(request.kwargs),
        text=text,
        priority=policy.priority if request.priority is None else parse_priority(request.priority),
        not_before=_not_before(request, policy.delay, now),
        submitted_at=now,
        submitted_by=by(),
        retries=policy.retries if request.retries is None else _retries(request.retries),
        retry_delay=None if request.retry_delay is None else length("retry delay", request.retry_delay),
        timeout=None if request.timeout is None else length("timeout", request.timeout, least=MILLISECOND),
        tags=_tags(request.tags),
        retry_of=request.retry_of,
    )


def _not_before(request: Request, delay: timedelta, now: datetime) -> datetime:
    if request.at is None and request.delay is None and not delay:
        return now
    if request.at is not None:
        if request.delay is not None:
            raise UsageError("both a delay and a moment", hint="give one of them", code="bad-delay")
        at = clock.in_utc(request.at)
    else:
        at = now + (delay if request.delay is None else length("delay", request.delay))
    if milliseconds(at) > LATEST_MS:
        raise UsageError("the moment lies too far ahead", hint="choose one before the year 2286", code="bad-delay")
    # Whole milliseconds, as the file's name has it; a moment that has passed means at once.
    return max(moment(milliseconds(at)), now)


def length(what: str, value: str | float | timedelta, least: timedelta = timedelta(0)) -> timedelta:
    """Return the length that a caller gave as seconds, as a text such as "90s", or as it is. Raises UsageError."""
    try:
        given = value if isinstance(value, timedelta) else durations.parse(value)
    except ValueError as error:
        raise UsageError(f"bad {what}: {error}", code=_code(what)) from None
    if given < least:
        raise UsageError(f"bad {what}: {given.total_seconds():g} s is too short", code=_code(what))
    return given


def _code(what: str) -> str:
    return f"bad-{what.replace(' ', '-')}"


def _retries(value: int) -> int:
    if type(value) is not int or not 0 <= value <= values.MOST_RETRIES:
        raise UsageError(f"bad retries {str(value)[:40]!r}", hint=f"use 0 to {values.MOST_RETRIES}", code="bad-retries")
    return value


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    for tag in tags:
        if not TAG.fullmatch(str(tag)):
            raise UsageError(
                f"bad tag {tag[:40]!a}", hint="use letters, digits and _ . : - (at most 64)", code="bad-tag"
            )
    if len(tags) > MOST_TAGS:
        raise UsageError(f"{len(tags)} tags", hint=f"use at most {MOST_TAGS}", code="bad-tag")
    return tuple(tags)


def check_size(target: Target, request: Request) -> None:
    """Refuse what JSON cannot hold, or what is too large or too deep to be an argument."""
    check_arguments(f"{target.class_name}.{target.method}", request.args, request.kwargs)


def check_arguments(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse what JSON cannot hold, or what is too large or too deep to be an argument of `name`."""
    if isinstance(args, str | bytes) or not isinstance(kwargs, Mapping):
        raise BadArgumentsError(f"the arguments of {name} are not in a list", hint='write ["Tony"], not "Tony"')
    try:
        size = len(msgspec.json.encode([list(args), dict(kwargs)], enc_hook=_no_json))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BadArgumentsError(
            f"the arguments of {name} are not JSON: {str(error)[:200]}", hint="pass texts, numbers, lists and objects"
        ) from None
    if size > MOST_ARGUMENTS:
        raise BadArgumentsError(
            f"the arguments of {name} take {size} bytes, more than {MOST_ARGUMENTS}",
            hint="pass a path or an id instead",
        )
    _check_plain([list(args), dict(kwargs)], name, MOST_DEPTH - 2)


def _check_plain(value: object, name: str, depth: int) -> None:
    """Refuse values that would come back from JSON as something else."""
    if depth < 0:
        raise BadArgumentsError(f"the arguments of {name} are nested deeper than {MOST_DEPTH}", hint="flatten them")
    match value:
        case list() | tuple():
            for part in value:
                _check_plain(part, name, depth - 1)
        case dict():
            for key, part in value.items():
                if not isinstance(key, str):
                    raise BadArgumentsError(f"an argument of {name} has a key that is not text", hint="use text keys")
                _check_plain(part, name, depth - 1)
        case _:
            reason = _not_json(value)
            if reason:
                raise BadArgumentsError(f"an argument of {name} is {reason}", hint="pass it as text")


def _not_json(value: object) -> str:
    """Return why a single value cannot be stored, or nothing."""
    match value:
        case None | bool() | str():
            return ""
        case int():
            return "" if LEAST_INT <= value <= MOST_INT else "a number beyond 64 bits"
        case float():
            return "" if math.isfinite(value) else "not a finite number"
        case _:
            return f"a {type(value).__name__}, which JSON has not"


def _no_json(value: object) -> object:
    raise TypeError(f"a {type(value).__name__} cannot be an argument")
