"""How an attempt ended, in words and numbers: all that a runner sends back of what user code returned or raised."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bgjobs.current import Fail, Retry
from bgjobs.job import JobError, Raised, Succeeded
from bgjobs.spool.line1 import MOST_RESULT_DEPTH, CorruptError, check_depth
from bgjobs.worker.messages import LONGEST_WAIT, MOST_RESULT

if TYPE_CHECKING:
    from bgjobs.worker.discretion import Discretion
    from bgjobs.worker.messages import Told

OURS = frozenset({"__main__", "bgjobs.worker.child", "bgjobs.resolve"})  # frames: a runner is started as __main__


def succeeded(returned: object, discretion: Discretion) -> Succeeded:
    """Return the outcome for a returned value. One that JSON cannot hold is dropped with a note: the job is done."""
    try:
        data = msgspec.json.encode(returned)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        return Succeeded(note=f"result dropped: not JSON: {discretion.text(str(error))[:100]}")
    if len(data) > MOST_RESULT:
        return Succeeded(note=f"result dropped: {len(data)} bytes, more than {MOST_RESULT}")
    try:
        check_depth(data, MOST_RESULT_DEPTH)  # the worker and all readers parse it, with less stack than we may have
    except CorruptError as error:
        return Succeeded(note=f"result dropped: {error}")
    return Succeeded(msgspec.Raw(data))


def ending(error: BaseException, discretion: Discretion) -> Told:
    """Return the outcome for what user code raised. Only text crosses back to the worker."""
    described = _described(error, discretion)
    match error:
        case Retry(delay=delay):
            return Raised(described, lineage(error), retry_in=_capped(delay), asked=True)
        case Fail():
            return Raised(described, lineage(error), final=True)
        case _:
            return Raised(described, lineage(error))


def of_changed_code(outcome: Raised, path: str) -> Raised:
    """Return the outcome, with a remark that this file has changed since the code that raised it was loaded.

    Python reads the lines of a traceback from the file as it is now.
    """
    remark = f"{path} has changed since this process loaded it: what ran is the code from before"
    error = outcome.error
    message = f"{error.message} ({remark})" if error.message else remark
    trace = f"{error.traceback.rstrip()}\n\n{remark}\n" if error.traceback else ""
    return replace(outcome, error=replace(error, message=message, traceback=trace))


def _capped(delay: timedelta | None) -> timedelta | None:
    return None if delay is None else max(timedelta(0), min(delay, LONGEST_WAIT))


def lineage(error: BaseException) -> tuple[str, ...]:
    """Return the names of the exception's classes, most special first: builtins bare, others with their module."""
    classes = [cls for cls in type.__dict__["__mro__"].__get__(type(error)) if cls is not object]
    return tuple(
        cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}" for cls in classes
    )


def _described(error: BaseException, discretion: Discretion) -> JobError:
    return JobError(
        type=discretion.text(lineage(error)[0]),
        message=_message(error, discretion),
        traceback=_traceback(error, discretion),
    )


def _message(error: BaseException, discretion: Discretion) -> str:
    try:
        if isinstance(error, SystemExit):
            return _utf8(discretion.text(f"the method called sys.exit({error.code!r})")[:4096])
        return _utf8(discretion.text(str(error))[:4096])
    except BaseException:  # noqa: BLE001 - __str__ is user code too
        return "(its message cannot be shown)"


def _traceback(error: BaseException, discretion: Discretion) -> str:
    """Format the traceback without our own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in OURS:
        trace = trace.tb_next
    try:
        return _utf8(discretion.text("".join(traceback.format_exception(type(error), error, trace)))[-65_536:])
    except BaseException:  # noqa: BLE001 - formatting calls user code (__str__, __repr__)
        return ""


def _utf8(text: str) -> str:
    """Return the text with what UTF-8 cannot hold written out: the name of an old file can have such letters."""
    return text.encode("utf-8", "backslashreplace").decode()
