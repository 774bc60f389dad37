"""What only Windows has: files that cannot be moved while someone reads them, drives, environment names."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from bgjobs.system.retrying import OPEN_ELSEWHERE, retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bgjobs.system.facts import DiskFacts

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

import _winapi  # noqa: E402 - on this system only; ctypes, which could do the same, takes 10 ms to load
import msvcrt  # noqa: E402 - on this system only

_SHARE_ALL = 0x1 | 0x2 | 0x4  # others may read, write, and move or remove it meanwhile
_FILE_APPEND_DATA = 0x4
_CREATE_NEW = 1
_OPEN_ALWAYS = 4
_ERROR_ACCESS_DENIED = 5
_DRIVE_REMOTE = 4
_DRIVE_RAM = 6

PLAIN_OUTPUT = True  # otherwise what is written into a pipe or file has the code page of the machine, and CR LF
CHECKS_WRITERS = False  # access lists are not checked, and `bgjobs check` says so
# Of the 259 characters that a path may have, what lies in a spool takes up to 113.
LONGEST_ROOT = 140
SERVICES = "windows"  # the Task Scheduler: no service that would have to be installed with rights of its own

# Without SYSTEMROOT a program can neither open a socket nor draw random numbers.
_HARMLESS = frozenset(
    {"SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "PATH", "PATHEXT", "COMSPEC", "TEMP", "TMP", "USERPROFILE", "USERNAME"}
    | {"LOCALAPPDATA", "APPDATA", "PROGRAMDATA", "NUMBER_OF_PROCESSORS"}
)


def open_new(path: str) -> int:
    """Create the file `path` for writing; return the descriptor. Raises FileExistsError."""
    return _open(path, _winapi.GENERIC_WRITE, _CREATE_NEW)


def open_append(path: str) -> int:
    """Open an existing file for reading and for writing at its end; return the descriptor."""
    return _open(path, _winapi.GENERIC_READ | _FILE_APPEND_DATA, _winapi.OPEN_EXISTING)


def open_create_append(path: str) -> int:
    """Open a file as `open_append` does, making it if it is not there."""
    return _open(path, _winapi.GENERIC_READ | _FILE_APPEND_DATA, _OPEN_ALWAYS)


def open_read(path: str) -> int:
    """Open an existing file for reading; return the descriptor."""
    return _open(path, _winapi.GENERIC_READ, _winapi.OPEN_EXISTING)


def _open(path: str, access: int, disposition: int) -> int:
    # Not `os.open`: a file that it has open can be neither moved nor removed by anybody, and its O_APPEND looks for
    # the end first and writes second. The right to append, and no other, makes the system do both in one step.
    def opened() -> int:
        try:
            return _winapi.CreateFile(path, access, _SHARE_ALL, 0, disposition, 0, 0)
        except OSError as error:
            if error.winerror == _ERROR_ACCESS_DENIED and os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, "is a directory", path) from None
            raise OSError(error.errno, error.strerror, path, error.winerror) from None

    handle = retry(opened, codes=OPEN_ELSEWHERE)
    try:
        return msvcrt.open_osfhandle(handle, os.O_NOINHERIT)
    except BaseException:
        _winapi.CloseHandle(handle)
        raise


def move(source: str, target: str) -> None:
    """Rename `source` to `target` atomically, durable when this returns.

    Waits up to two seconds for a program that has the file open. Raises FileNotFoundError if another process was
    faster, and FileExistsError if the target exists.
    """
    from bgjobs.system.windows_calls import move_file  # noqa: PLC0415 - many commands move nothing

    retry(lambda: move_file(source, target, instead=False))


def replace(source: str, target: str) -> None:
    """Rename `source` to `target`, replacing an existing file; waits as `move` does."""
    from bgjobs.system.windows_calls import move_file  # noqa: PLC0415 - many commands move nothing

    retry(lambda: move_file(source, target, instead=True))


def unlink(path: str, *, folder: int | None = None) -> None:  # noqa: ARG001 - as on the other systems
    """Remove a file; waits as `move` does."""
    retry(lambda: os.unlink(path))


def rmdir(path: str, *, folder: int | None = None) -> None:  # noqa: ARG001 - as on the other systems
    """Remove an empty directory."""
    os.rmdir(path)


def open_folder(path: str, *, folder: int | None = None) -> int | None:  # noqa: ARG001 - as on the other systems
    """Return None: a directory cannot be held open to work in it. Raises NotADirectoryError for a link."""
    _refuse_all_but_directories(path)
    return None


def listdir(path: str) -> list[str]:
    """Return the names in a directory. Raises NotADirectoryError for anything else, a link to one included."""
    _refuse_all_but_directories(path)
    return os.listdir(path)


def scandir(path: str, *, folder: int | None = None) -> Iterator[tuple[str, bool]]:  # noqa: ARG001 - as there
    """Go through the names in a directory; tell of each whether it is a directory itself."""
    _refuse_all_but_directories(path)
    with os.scandir(path) as entries:
        for entry in entries:
            yield entry.name, entry.is_dir(follow_symlinks=False)


def _refuse_all_but_directories(path: str) -> None:
    attributes = os.lstat(path).st_file_attributes
    if attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT or not attributes & stat.FILE_ATTRIBUTE_DIRECTORY:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def sync_file(fd: int) -> None:
    """Make the content of the file durable. After an OSError the content may be lost: never retry."""
    os.fsync(fd)


def sync_directory(path: str) -> None:
    """Do nothing: the system cannot sync a directory; `move` and `replace` make names durable themselves."""


def sync_filesystem(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: each file needs its own sync, since only an administrator may sync a whole drive."""
    return False


def one_fsync_is_safe(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: it was not tested on this system by cutting the power."""
    return False


def network_filesystem(path: str) -> str | None:
    """Return "network drive" if `path` lies on one, or None if it is on a local disk."""
    return "network drive" if _drive_type(path) == _DRIVE_REMOTE else None


def _drive_type(path: str) -> int:
    from bgjobs.system.windows_calls import drive_type  # noqa: PLC0415 - submit would pay for ctypes every time

    drive, _ = os.path.splitdrive(os.path.realpath(path))
    return drive_type(drive + "\\")


def free_space(path: str) -> tuple[int, int | None]:
    """Return how many bytes the disk of `path` has room for, and None: files have no limit of their own."""
    import shutil  # noqa: PLC0415 - slow to import

    return shutil.disk_usage(path).free, None


def host() -> str:
    """Return the name of this machine, also in an environment that does not say."""
    name = os.environ.get("COMPUTERNAME")
    if name:
        return name
    from bgjobs.system.windows_calls import computer_name  # noqa: PLC0415 - submit would pay for ctypes every time

    return computer_name()


def user() -> str:
    """Return the name of the user, or "unknown" in an environment that does not say."""
    return os.environ.get("USERNAME", "unknown")


def cores() -> int:
    """Return how many cores the machine has."""
    return os.cpu_count() or 1


def boot_id() -> str:
    """Return a text that stays the same until the machine starts again, whatever is done to its clock."""
    from bgjobs.system.windows_calls import (  # noqa: PLC0415 - submit would pay for ctypes every time
        boot_moment,
        computer_name,
    )

    # Not what the environment calls the machine: two processes may have different ones.
    return f"{computer_name()}-{boot_moment()}"


def is_elevated() -> bool:
    """Tell whether this process has an administrator's rights."""
    from bgjobs.system.windows_calls import is_administrator  # noqa: PLC0415 - asked once, at the start of a worker

    return is_administrator()


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of `environ` that any job may see, under their names in capitals.

    Nothing that changes what Python loads (`PYTHON*`) is among them.
    """
    return {name.upper(): value for name, value in environ.items() if name.upper() in _HARMLESS}


def is_mine(_state: os.stat_result) -> bool:
    """Tell whether the file belongs to the user that we are: not checked here, owners are in access lists."""
    return True


def is_private(_state: os.stat_result) -> bool:
    """Return True: modes mean nothing here, and access lists are not checked."""
    return True


def is_trusted(_uid: int) -> bool:
    """Return True: the numbers of owners mean nothing here."""
    return True


def may_read(_state: os.stat_result) -> bool:
    """Return True: opening the file decides."""
    return True


def writable_by_others(_state: os.stat_result) -> bool:
    """Return False: modes mean nothing here."""
    return False


def links_are_guarded() -> bool:
    """Return True: no spool is shared."""
    return True


def has_access_list(_path: str) -> bool:
    """Return False: access lists are not checked."""
    return False


def set_access(_path: str, _mode: int, _group: int | None) -> None:
    """Do nothing: modes mean nothing here, and no spool is shared."""


def weakness(_path: str, _state: os.stat_result) -> tuple[str, str, str] | None:
    """Return None: not checked (`CHECKS_WRITERS`)."""
    return None


def disk_facts(path: str) -> DiskFacts:
    """Return what is known about the drive of the directory `path`."""
    from bgjobs.system.facts import DiskFacts  # noqa: PLC0415 - only the checks of a disk need it

    kind = _drive_type(path)
    return DiskFacts(
        kind="",
        network=kind == _DRIVE_REMOTE,
        volatile=kind == _DRIVE_RAM,
        journal=None,
        mounts_below=(),
    )


def user_of(_state: os.stat_result) -> str:
    """Return "#0": owners are not checked."""
    return "#0"


def group_of(_name: str) -> int | None:
    """Return None: groups have no numbers here."""
    return None


def knows_user(_name: str) -> bool:
    """Return True: users are not checked."""
    return True


def is_member(_user: str, _groups: Iterable[str]) -> bool:
    """Return False: members of groups are not known."""
    return False


def may_give(_group: int) -> bool:
    """Return False: files have no group here."""
    return False


def cannot_become(name: str) -> tuple[str, str] | None:
    """Return what keeps jobs from running as that user, and what to do about it."""
    return f"jobs cannot run as user {name} on Windows", "take the key out, and start the worker as that user"


def become(name: str) -> dict[str, str]:
    """Raise OSError."""
    raise OSError(errno.EPERM, f"cannot become user {name} on Windows")
