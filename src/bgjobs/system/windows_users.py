"""Users and groups by name: here they are not asked for, because no spool is shared and no owner is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


def user_of(_state: os.stat_result) -> str:
    """Return nobody: owners are not looked at."""
    return "#0"


def group_of(_name: str) -> int | None:
    """Return None: groups have no numbers here."""
    return None


def knows_user(_name: str) -> bool:
    """Return True: nobody has to know."""
    return True


def is_member(_user: str, _groups: Iterable[str]) -> bool:
    """Return False: nobody is known to be in any group."""
    return False


def may_give(_group: int) -> bool:
    """Return False: files have no group here."""
    return False
