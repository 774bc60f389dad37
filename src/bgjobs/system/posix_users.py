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


_NEEDED = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}


def cannot_become(name: str) -> tuple[str, str] | None:
    """Return what keeps jobs of this process from running as that user, and what to do about it, or None."""
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
    """Return what a root of limited rights lacks: to become another user, and to end what it has become."""
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
    """Take on the rights of a user in place of root's, for good; return what the environment has to say of the user.

    To be called in the main thread. Raises OSError, and then nothing may run here: perhaps half of the rights are left.
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
    # The kernel has forgotten that, because the rights have changed. It also lets nobody else with these rights look
    # into this process from now on (it is no longer dumpable), and that shall stay so: its memory was root's.
    ask_for_death_with_parent()
    user.cache_clear()
    _check(account)
    return {"HOME": account.pw_dir, "SHELL": account.pw_shell or "/bin/sh", "USER": name, "LOGNAME": name}


def _leave_no_keyboard(descriptor: int) -> None:
    """Leave only the writing side of a terminal: whoever holds the other one reads what root types."""
    if not os.isatty(descriptor):
        return
    path = f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else os.ttyname(descriptor)
    writer = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    os.dup2(writer, descriptor)
    os.close(writer)


def _check(account: pwd.struct_passwd) -> None:
    """Check that this process is the user and nobody else, and try to get the rights of root back."""
    wanted = (account.pw_uid, account.pw_uid, account.pw_gid, account.pw_gid)
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) != wanted:
        raise OSError(errno.EPERM, "the system did not take on its rights")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise OSError(errno.EPERM, "it could get the rights of root back")
