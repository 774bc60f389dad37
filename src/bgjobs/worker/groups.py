"""Go through an exception and, if it is a group, through all that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

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
