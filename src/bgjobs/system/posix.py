"""Files, users and permissions, as Linux and macOS have them in common."""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# A link in the place of a job file could lead anywhere, and opening a FIFO would wait for its other end.
_GUARDED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OWNER_ONLY = 0o600

PLAIN_OUTPUT = False  # whether output has to be switched to UTF-8 with plain line ends
CHECKS_WRITERS = True  # whether `weakness` checks anything
LONGEST_ROOT = sys.maxsize  # how long the path of a spool may be: no limit but the system's
SERVICES = "launchd" if sys.platform == "darwin" else "systemd"  # the service manager

_HARMLESS = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME"})


def open_new(path: str) -> int:
    """Create the file `path` for writing, readable by its owner only; return the descriptor.

    Raises FileExistsError if anything has that name, a dangling link included.
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
    """Rename `source` to `target` atomically.

    Raises FileNotFoundError if another process was faster. An existing target is overwritten here and refused on
    Windows, so no other process may use these names.
    """
    os.rename(source, target)


def replace(source: str, target: str) -> None:
    """Rename `source` to `target`, replacing an existing file."""
    os.replace(source, target)


def unlink(path: str, *, folder: int | None = None) -> None:
    """Remove a file; with `folder` from that open directory, even if the path leads elsewhere by now."""
    os.unlink(path if folder is None else os.path.basename(path), dir_fd=folder)


def rmdir(path: str, *, folder: int | None = None) -> None:
    """Remove an empty directory; with `folder` from that open directory, even if the path leads elsewhere by now."""
    os.rmdir(path if folder is None else os.path.basename(path), dir_fd=folder)


def open_directory(path: str) -> int:
    """Open a directory, in order to sync it."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_folder(path: str, *, folder: int | None = None) -> int | None:
    """Open a directory to work in it even if it is replaced meanwhile; None on systems that cannot.

    With `folder` it is opened in that open directory. Raises OSError for a link.
    """
    name = path if folder is None else os.path.basename(path)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def listdir(path: str) -> list[str]:
    """Return the names in a directory. Raises NotADirectoryError for anything else, a link to one included."""
    folder = _opened(path)
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def scandir(path: str, *, folder: int | None = None) -> Iterator[tuple[str, bool]]:
    """Go through the names in a directory, or in an open one, and whether each is a directory.

    Raises NotADirectoryError for anything else, a link to a directory included.
    """
    opened = _opened(path) if folder is None else folder
    try:
        with os.scandir(opened) as entries:
            for entry in entries:
                yield entry.name, entry.is_dir(follow_symlinks=False)
    finally:
        if folder is None:
            os.close(opened)


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:  # macOS: a link; Linux: a circle of links
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        raise


def free_space(path: str) -> tuple[int, int | None]:
    """Return the free bytes and inodes of the disk of `path`; None for inodes without a limit."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None


def host() -> str:
    """Return the name of this machine."""
    return os.uname().nodename


@lru_cache(maxsize=1)
def user() -> str:
    """Return the name of the effective user, or the uid if it has no name."""
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
    """Return the variables of `environ` that any job may see: locations, user and language.

    No variable that changes what a program loads (`PYTHON*`, `LD_*`, `DYLD_*`) is among them.
    """
    return {name: value for name, value in environ.items() if name in _HARMLESS or name.startswith("LC_")}


def is_mine(state: os.stat_result) -> bool:
    """Tell whether the file belongs to the effective user."""
    return state.st_uid == os.geteuid()


def is_private(state: os.stat_result) -> bool:
    """Tell whether only its owner may enter the directory, or read or write the file."""
    return not state.st_mode & 0o077


def is_trusted(uid: int) -> bool:
    """Tell whether a user may decide what runs: root, or the effective user."""
    return uid in {0, os.geteuid()}


def may_read(state: os.stat_result) -> bool:
    """Tell whether the mode of a file lets this process read it; access lists are not considered."""
    user = os.geteuid()
    if user in {0, state.st_uid}:
        return user == 0 or bool(state.st_mode & stat.S_IRUSR)
    if not state.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return False
    in_group = state.st_gid == os.getegid() or state.st_gid in os.getgroups()
    return bool(state.st_mode & (stat.S_IRGRP if in_group else stat.S_IROTH))


def writable_by_others(state: os.stat_result) -> bool:
    """Tell whether the mode of a file lets others than its owner write to it, an access list included."""
    return bool(state.st_mode & 0o022)


def set_access(path: str, mode: int, group: int | None) -> None:
    """Set mode and, unless None, group of a directory of ours. Never follows a link in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to another user", path)
        if group is not None:
            os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def weakness(path: str, state: os.stat_result) -> tuple[str, str, str] | None:
    """Return how others could write to this file or directory, what to do about it and a code, or None.

    Write permission of a group is harmless if it is our own group, or root's, and has no other members: with umask 002
    all files of a user have it.
    """
    if not is_trusted(state.st_uid):
        cure = f"chown it to {user()}, or use one of your own"
        return f"belongs to user {_name_of(state.st_uid)}, who could change what runs", cure, "not-ours"
    if state.st_mode & stat.S_IWOTH:
        return "can be changed by every user", f"chmod o-w {path}", "open-to-others"
    if state.st_mode & stat.S_IWGRP:
        if not _is_private_group(state.st_gid):
            return "can be changed by a group of users", f"chmod g-w {path}", "open-to-others"
        if has_access_list(path):
            # The group bits are then the mask of the list: the upper bound of what it grants to anyone.
            return "can be changed by those on its access list", f"setfacl -b {path}", "open-to-others"
    return None


@lru_cache(maxsize=16)
def _is_private_group(gid: int) -> bool:
    """Tell whether a group is ours or root's, and has no other members, as far as the system's tables tell."""
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


def has_access_list(path: str) -> bool:
    """Tell whether a file or directory has an access list beside its mode (Linux)."""
    if sys.platform == "darwin":
        return False  # there an access list does not change the mode, and is not checked
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
