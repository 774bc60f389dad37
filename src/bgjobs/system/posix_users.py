"""Users and groups by name, as the system's tables have them."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

LONGEST = 256


def user_of(state: os.stat_result) -> str:
    """Return the name of a file's owner, or `#1234` for a number without a name that can be written down."""
    try:
        name = pwd.getpwuid(state.st_uid).pw_name
    except KeyError:
        name = ""
    # Not all that a table can hold is text, and a name must not look like a number.
    fit = name.isprintable() and 0 < len(name) <= LONGEST and not name.startswith("#")
    return name if fit else f"#{state.st_uid}"


def group_of(name: str) -> int | None:
    """Return the number of a group, or None if there is none of this name."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):  # there is none, or there can be none
        return None


def knows_user(name: str) -> bool:
    """Tell whether there is such a user; `#1234` needs no entry in a table."""
    if name.startswith("#") and name[1:].isascii() and name[1:].isdigit():
        return True
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


def is_member(user: str, groups: Iterable[str]) -> bool:
    """Tell whether a user is in one of the groups, be it as their primary one. Unknown names are in none."""
    wanted = {group_of(name) for name in groups} - {None}
    if not wanted:
        return False
    try:
        entry = pwd.getpwnam(user)
        return not wanted.isdisjoint(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (KeyError, ValueError, OSError):
        return False  # who cannot be looked up is let in by nothing


def may_give(group: int) -> bool:
    """Tell whether we may give files of ours to a group."""
    return os.geteuid() == 0 or group == os.getegid() or group in os.getgroups()
