"""Small JSON files of the spool, read strictly: whoever can write to it may have written them, and hinders nobody."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

Pid = Annotated[int, Meta(ge=1, le=0x7FFF_FFFF)]  # what a system can ask its kernel for
T = TypeVar("T")


def decoded(data: bytes, kind: type[T]) -> T | None:
    """Return the value of this kind that is written there, or None if it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # a half, zeros, letters that are none, or brackets that would fill the stack
