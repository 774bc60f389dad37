"""Look up users and groups by name; become another user for good."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix import is_elevated, user  # noqa: E402 - on this system only

if sys.platform == "linux":
    from bgjobs.system.linux_runner import ask_for_death_with_parent
else:
    from bgjobs.system.darwin_runner import ask_for_death_with_parent

LONGEST = 256


def user_of(state: os.stat_result) -> str:
    """Return the name of a file's owner, or `#1234` for a uid without a printable name."""
    try:
        name = pwd.getpwuid(state.st_uid).pw_name
    except KeyError:
        name = ""
    # A table may hold unprintable names, and a name must not look like a uid.
    fit = name.isprintable() and 0 < len(name) <= LONGEST and not name.startswith("#")
    return name if fit else f"#{state.st_uid}"


def group_of(name: str) -> int | None:
    """Return the gid of a group, or None if there is none of this name."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):  # no such group, or not a possible name
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
    """Tell whether a user is in one of the groups, the primary one included. Unknown users are in none."""
    wanted = {group_of(name) for name in groups} - {None}
    if not wanted:
        return False
    try:
        entry = pwd.getpwnam(user)
        return not wanted.isdisjoint(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (KeyError, ValueError, OSError):
        return False  # an unknown user is a member of no group


def may_give(group: int) -> bool:
    """Tell whether this process may give its files to a group."""
    return os.geteuid() == 0 or group == os.getegid() or group in os.getgroups()


_NEEDED = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}


def cannot_become(name: str) -> tuple[str, str] | None:
    """Return why this process cannot run jobs as that user, and what to do about it; None if it can."""
    if name == user():
        return None
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return f"there is no user {name}", "correct the name"
    if account.pw_uid == os.geteuid():
        return f"user {name} is {user()} by another name", f"write {user()}"
    if not is_elevated():
        cure = "do it as root" if account.pw_uid == 0 else f"do it as root, or as {name}"
        return f"{user()} cannot run jobs as user {name}", cure
    missing = _missing_rights()
    if missing:
        return f"root cannot run jobs as user {name} without {', '.join(missing)}", "do not take that away from it"
    return None


def _missing_rights() -> list[str]:
    """Return the capabilities that root lacks to become another user, and to kill processes of that user."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            found = re.search(r"^CapEff:\s*([0-9a-f]+)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        return []  # a system without them
    held = int(found[1], 16)
    return [right for right, number in _NEEDED.items() if not held >> number & 1]


def become(name: str) -> dict[str, str]:
    """Become a user instead of root, for good; return the environment variables of the user.

    Call it in the main thread. Raises OSError; then this process must run nothing more: it may have half of the rights.
    """
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise OSError(errno.ENOENT, "there is no such user") from None
    for descriptor in (1, 2):
        _leave_no_keyboard(descriptor)
    # With root's rights each of these sets the real, the effective and the saved number, and that for all threads.
    os.initgroups(name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    # The kernel cleared that when the rights changed. It also lets no other process of this user inspect this one from
    # now on (it is no longer dumpable), which must stay so: its memory was root's.
    ask_for_death_with_parent()
    user.cache_clear()
    _check(account)
    return {"HOME": account.pw_dir, "SHELL": account.pw_shell or "/bin/sh", "USER": name, "LOGNAME": name}


def _leave_no_keyboard(descriptor: int) -> None:
    """Reopen a terminal for writing only: a process that can read from it reads what root types."""
    if not os.isatty(descriptor):
        return
    path = f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else os.ttyname(descriptor)
    writer = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    os.dup2(writer, descriptor)
    os.close(writer)


def _check(account: pwd.struct_passwd) -> None:
    """Check that this process has only the rights of the user, and that it cannot get root's back."""
    wanted = (account.pw_uid, account.pw_uid, account.pw_gid, account.pw_gid)
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) != wanted:
        raise OSError(errno.EPERM, "the system did not change all user and group ids")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise OSError(errno.EPERM, "it could get the rights of root back")
