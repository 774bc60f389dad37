"""The call that a person writes down for `submit` and `run`: ARG…, `-k NAME=VALUE`, or `--args JSON`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bgjobs import clock
from bgjobs.errors import BadArgumentsError, RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bgjobs.queue import Queue

BYTE_ORDER_MARK = "\ufeff"  # some editors and shells put it in front of a file, and so of what is read from it


class Call:
    """What to call, with which arguments. `text` says that they are text, which becomes what the annotations say."""

    def __init__(
        self,
        queue: Queue,
        class_name: str,
        method: str,
        *,
        args: Sequence[str] | None,
        keywords: Sequence[str] | None,
        json_args: str | None,
    ) -> None:
        """Take the arguments apart. Raises UsageError, or RefusedError, which is logged."""
        self.class_name = class_name
        self.method = method
        self.args: Sequence[Any] = args or ()
        self.kwargs: Mapping[str, Any] = {}
        self.text = json_args is None
        try:
            _refuse_bytes(args or (), keywords or (), json_args)
        except RefusedError as error:
            queue.log.refused_at_submit(class_name, method, error.code, str(error), clock.now())
            raise
        if json_args is not None:
            if args or keywords:
                raise _bad_json("given together with ARG or -k", "give one or the other")
            self.args, self.kwargs = from_json(json_args)
            return
        try:
            self.kwargs = _by_name(keywords or ())
        except RefusedError as error:
            queue.log.refused_at_submit(class_name, method, error.code, str(error), clock.now())
            raise


def from_json(text: str) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments by position or by name that a JSON array or object holds. Raises UsageError."""
    from bgjobs import json_faults  # noqa: PLC0415 - most calls need none

    try:
        found = json_faults.read(text.removeprefix(BYTE_ORDER_MARK))
    except json_faults.FaultError as error:
        raise _bad_json(str(error), 'write JSON such as ["Tony", 2] or {"name": "Tony"}') from None
    match found:
        case list():
            return found, {}
        case dict():
            return (), found
        case _:
            raise _bad_json("neither an array nor an object", 'write JSON such as ["Tony", 2] or {"name": "Tony"}')


def _refuse_bytes(args: Sequence[str], keywords: Sequence[str], json_args: str | None) -> None:
    """Refuse words with bytes that are no UTF-8: such a word of a command line cannot be written as JSON."""
    words = {f"argument {number}": text for number, text in enumerate(args, 1)}
    words |= {f"-k {text.partition('=')[0]}": text for text in keywords}
    words |= {"--args": json_args or ""}
    for what, text in words.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadArgumentsError(
                f"{what} is not UTF-8 text: {text[:40]!a}", hint="pass a path, or the bytes as text such as base64"
            ) from None


def _by_name(keywords: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for keyword in keywords:
        name, equals, value = keyword.partition("=")
        if not equals or not name:
            raise UsageError(f"bad -k {keyword[:40]!r}", hint="write -k NAME=VALUE", code="bad-keyword")
        if name in found:
            raise BadArgumentsError(f"argument {name[:80]} is repeated", hint="give it once", code="repeated")
        found[name] = value
    return found


def _bad_json(reason: str, hint: str) -> UsageError:
    return UsageError(f"bad --args: {reason}", hint=hint, code="bad-args")
