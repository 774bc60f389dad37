"""How an attempt ended: all that a runner says of what user code returned or raised."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from bgjobs.job import JobError, Raised, Succeeded
from bgjobs.job_context import Fail, Retry
from bgjobs.worker.child import results
from bgjobs.worker.protocol import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

    from bgjobs.worker.child.attempt_secrets import Discretion


MOST_MEMBERS: Final = 10_000
_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__  # not what a subclass may answer


def members(error: BaseException) -> Iterator[BaseException]:
    """Go through the exception itself and all members, those of groups within the group included."""
    waiting, left = [error], MOST_MEMBERS
    while waiting and left:
        part = waiting.pop()
        left -= 1
        yield part
        if issubclass(type(part), BaseExceptionGroup):
            waiting.extend(reversed(_members_of(part)))


OURS = frozenset(
    {"__main__", "bgjobs.worker.child.main", "bgjobs.calls.resolve"}
)  # frames: a runner is started as __main__
MOST_NAMES: Final = 1000
LONGEST_NAME: Final = 300
MOST_MESSAGE: Final = 4096
MOST_LEADING: Final = 3072  # of a message, where that of its group follows
MOST_NOTE: Final = 200
MOST_STEPS: Final = 20  # from an error to what it came from

_mro_of = type.__dict__["__mro__"].__get__
_name_of = type.__dict__["__name__"].__get__
_traceback_of = BaseException.__dict__["__traceback__"].__get__  # not what a subclass may answer
_qualname_of = type.__dict__["__qualname__"].__get__
_module_of = type.__dict__["__module__"].__get__


def succeeded(returned: object, discretion: Discretion) -> Succeeded:
    """Return the outcome for a returned value. One that JSON cannot hold is dropped with a note: the job is done.

    Raises NotRunError for what has not run yet: the job is not.
    """
    try:
        data, note = results.encoded(returned)
    except results.NotJSONError as error:
        return Succeeded(note=f"result dropped: {utf8(discretion.text(str(error)))}"[:MOST_NOTE])
    return Succeeded(msgspec.Raw(data), note)


def ending(error: BaseException, discretion: Discretion) -> Raised:
    """Return the outcome for what user code raised. Only text crosses back to the worker.

    A group of exceptions is all that it holds: one Fail fails the job, else one Retry asks for another attempt, after
    the longest of the delays.
    """
    parts = list(members(error))
    retries = [part for part in parts if issubclass(type(part), Retry)]
    fails = [part for part in parts if issubclass(type(part), Fail)]
    plain = [part for part in parts if not issubclass(type(part), BaseExceptionGroup)]
    leading = next(iter(fails or retries or plain), error)
    described = _described(error, leading, discretion)
    if fails:
        return Raised(described, _lineage(parts), final=True)
    if retries:
        beside = _lineage([part for part in plain if part not in retries])
        return Raised(described, _lineage(parts), asked=True, retry_in=_longest_delay(retries), beside=beside)
    return Raised(described, _lineage(parts))


def of_changed_code(outcome: Raised, path: str) -> Raised:
    """Return the outcome, with a remark that this file has changed since the code that raised it was loaded.

    Python reads the lines of a traceback from the file as it is now.
    """
    remark = f"{path} has changed since this process loaded it: what ran is the code from before"
    error = outcome.error
    message = f"{error.message} ({remark})" if error.message else remark
    trace = f"{error.traceback.rstrip()}\n\n{remark}\n" if error.traceback else ""
    return replace(outcome, error=replace(error, message=message, traceback=trace))


def _longest_delay(retries: Sequence[BaseException]) -> timedelta | None:
    """Return the longest of the delays, so that none is tried before its moment; None if there is none."""
    # A subclass may not have called our constructor, and an attribute can be set to anything.
    delays = [delay for part in retries if isinstance(delay := getattr(part, "delay", None), timedelta)]
    if not delays:
        return None
    longest = max(delays)
    plain = timedelta(longest.days, longest.seconds, longest.microseconds)
    return max(timedelta(0), min(plain, LONGEST_WAIT))


def was_importing(error: BaseException) -> bool:
    """Tell whether this, or what it came from, was raised while the code of a module ran: half of that has happened."""
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
    """Return the names of the exceptions' classes, the most special ones first."""
    names = dict.fromkeys(name for kind in dict.fromkeys(map(type, errors)) for name in lineage(kind))
    return tuple(names)[:MOST_NAMES]


def lineage(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the names of a class and its bases, most special first: builtins bare, others with their module."""
    return tuple(_full_name(cls) for cls in _mro_of(kind) if cls is not object)


def _full_name(cls: type) -> str:
    module = _module_of(cls)
    if module == "builtins":
        return utf8(_name_of(cls))[:LONGEST_NAME]
    home = f"{module}." if isinstance(module, str) else ""
    return utf8(f"{home}{_qualname_of(cls)}")[:LONGEST_NAME]


def _described(error: BaseException, leading: BaseException, discretion: Discretion) -> JobError:
    """Return the words for what was raised: those of the leading exception, and of the group that it is in."""
    message = _message(leading, discretion)
    if leading is not error:
        group = f"in {_full_name(type(error))}: {_message(error, discretion)}"
        message = f"{message[:MOST_LEADING]} ({discretion.text(group)})"
    return JobError(
        type=discretion.text(_full_name(type(leading))),
        message=message[:MOST_MESSAGE],
        traceback=_traceback(error, discretion),
    )


def _message(error: BaseException, discretion: Discretion) -> str:
    try:
        if isinstance(error, SystemExit):
            return utf8(discretion.text(f"the method called sys.exit({error.code!r})"))[:MOST_MESSAGE]
        return utf8(discretion.text(str(error)))[:MOST_MESSAGE]
    except BaseException:  # noqa: BLE001 - __str__ is user code too
        return "(its message cannot be shown)"


def _traceback(error: BaseException, discretion: Discretion) -> str:
    """Format the traceback without our own frames."""
    try:
        trace = error.__traceback__
        while trace is not None and _is_ours(trace.tb_frame):
            trace = trace.tb_next
        return utf8(discretion.text("".join(traceback.format_exception(type(error), error, trace)))[-65_536:])
    except BaseException:  # noqa: BLE001 - formatting calls user code (__str__, __repr__)
        return ""


def utf8(text: str) -> str:
    """Return the text with what UTF-8 cannot hold written out: the name of an old file can have such letters."""
    return str.encode(text, "utf-8", "backslashreplace").decode()
