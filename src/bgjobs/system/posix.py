"""Files and identity as Linux and macOS have them in common."""

from __future__ import annotations

import os
import stat
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# A link in the place of a job file could lead anywhere, and opening a FIFO would wait for its other end.
_GUARDED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OWNER_ONLY = 0o600

CHECKS_WRITERS = True  # whether `weakness` can tell anything
SERVICES = "launchd" if sys.platform == "darwin" else "systemd"  # what keeps services running here

_HARMLESS = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME"})


def open_new(path: str) -> int:
    """Create the file `path` for writing, readable by its owner only; return the descriptor.

    Raises FileExistsError when there is anything under that name, a dangling link included.
    """
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, _OWNER_ONLY)


def open_append(path: str) -> int:
    """Open an existing file for reading and for writing at its end; return the descriptor.

    Never waits and never follows a link in the last part of the path (OSError, ELOOP).
    """
    return os.open(path, os.O_RDWR | os.O_APPEND | _GUARDED)


def open_create_append(path: str) -> int:
    """Open a file as `open_append` does, making it (readable by its owner only) if it is not there."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _GUARDED, _OWNER_ONLY)


def open_read(path: str) -> int:
    """Open an existing file for reading; never wait, never follow a link in the last part of the path."""
    return os.open(path, os.O_RDONLY | _GUARDED)


def move(source: str, target: str) -> None:
    """Rename `source` to `target`, in one step that others see whole or not at all.

    Raises FileNotFoundError when another process was faster. An existing target is overwritten here and refused
    on Windows, so both must be names that nobody else uses.
    """
    os.rename(source, target)


def replace(source: str, target: str) -> None:
    """Rename `source` to `target`, taking the place of what is there."""
    os.replace(source, target)


def unlink(path: str) -> None:
    """Remove a file."""
    os.unlink(path)


def open_directory(path: str) -> int:
    """Open a directory, in order to sync it."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def free_space(path: str) -> tuple[int, int | None]:
    """Return how many bytes and how many new files the disk of `path` has room for; None where that has no limit."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None


def host() -> str:
    """Return the name of this machine."""
    return os.uname().nodename


@lru_cache(maxsize=1)
def user() -> str:
    """Return the name of the user whose rights this process has, or the number if the user has no name."""
    import pwd  # noqa: PLC0415 - the name is needed once, if at all

    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def is_elevated() -> bool:
    """Tell whether this process runs as root."""
    return os.geteuid() == 0


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of `environ` that any job may see: they say where and in which language it runs.

    Nothing that changes what a program loads (`PYTHON*`, `LD_*`, `DYLD_*`) is among them.
    """
    return {name: value for name, value in environ.items() if name in _HARMLESS or name.startswith("LC_")}


def is_mine(state: os.stat_result) -> bool:
    """Tell whether the file belongs to the user that we are."""
    return state.st_uid == os.geteuid()


def is_private(state: os.stat_result) -> bool:
    """Tell whether nobody but its owner may enter the directory, or read or write the file."""
    return not state.st_mode & 0o077


def is_trusted(uid: int) -> bool:
    """Tell whether a user may decide what runs: root, or the one that we are."""
    return uid in {0, os.geteuid()}


def weakness(path: str, state: os.stat_result) -> tuple[str, str, str] | None:
    """Return how others could write to this file or directory, what to do about it and a code, or None.

    Write permission for a group is none for others if it is our own group, or root's, and nobody else is in it: with
    umask 002 all of a person's files are so.
    """
    if not is_trusted(state.st_uid):
        cure = f"chown it to {user()}, or use one of your own"
        return f"belongs to user {_name_of(state.st_uid)}, who could change what runs", cure, "not-ours"
    if state.st_mode & stat.S_IWOTH:
        return "can be changed by every user", f"chmod o-w {path}", "open-to-others"
    if state.st_mode & stat.S_IWGRP:
        if not _is_private_group(state.st_gid):
            return "can be changed by a group of users", f"chmod g-w {path}", "open-to-others"
        if _has_access_list(path):
            # Then the group's bits are no longer the group's: they bound what the list grants to anyone.
            return "can be changed by those on its access list", f"setfacl -b {path}", "open-to-others"
    return None


@lru_cache(maxsize=16)
def _is_private_group(gid: int) -> bool:
    """Tell whether a group is ours or root's, and holds nobody else, as far as the system's tables tell."""
    import grp  # noqa: PLC0415 - asked only for what a group may write
    import pwd  # noqa: PLC0415 - the same

    if gid not in {0, os.getegid(), _primary_group()}:
        return False
    ours = {"root", user()}
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        members = set()  # a number without a name, as in containers
    return members <= ours and all(entry.pw_name in ours for entry in pwd.getpwall() if entry.pw_gid == gid)


def _primary_group() -> int | None:
    import pwd  # noqa: PLC0415 - as above

    try:
        return pwd.getpwuid(os.geteuid()).pw_gid
    except KeyError:
        return None


def _has_access_list(path: str) -> bool:
    if sys.platform == "darwin":
        return False  # there an access list is apart from the mode, and is not looked at
    else:  # noqa: RET505 - without it the type checker finds the rest unreachable on macOS
        try:
            return bool(os.getxattr(path, "system.posix_acl_access"))
        except OSError:
            return False


def _name_of(uid: int) -> str:
    import pwd  # noqa: PLC0415 - only a refusal needs it

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
