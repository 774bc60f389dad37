"""What only Windows does: files that cannot be moved while someone reads them, drives, environment names."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from bgjobs.system.retrying import retry

if TYPE_CHECKING:
    from collections.abc import Mapping

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_RAW = os.O_BINARY | os.O_NOINHERIT
_OWNER_ONLY = 0o600
_DRIVE_REMOTE = 4

CHECKS_WRITERS = False  # access lists are not looked at: whoever asks is told so
SERVICES = "windows"  # the Task Scheduler: no service that would have to be installed with rights of its own

# Without SYSTEMROOT a program can neither open a socket nor draw random numbers.
_HARMLESS = frozenset(
    {"SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "PATH", "PATHEXT", "COMSPEC", "TEMP", "TMP", "USERPROFILE", "USERNAME"}
    | {"LOCALAPPDATA", "APPDATA", "PROGRAMDATA", "NUMBER_OF_PROCESSORS"}
)


def open_new(path: str) -> int:
    """Create the file `path` for writing; return the descriptor. Raises FileExistsError."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _RAW, _OWNER_ONLY)


def open_append(path: str) -> int:
    """Open an existing file for reading and for writing at its end; return the descriptor."""
    return os.open(path, os.O_RDWR | os.O_APPEND | _RAW)


def open_create_append(path: str) -> int:
    """Open a file as `open_append` does, making it if it is not there."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _RAW, _OWNER_ONLY)


def open_read(path: str) -> int:
    """Open an existing file for reading; return the descriptor."""
    return os.open(path, os.O_RDONLY | _RAW)


def move(source: str, target: str) -> None:
    """Rename `source` to `target`, in one step that others see whole or not at all.

    Waits up to two seconds for a program that has the file open. Raises FileNotFoundError when another process
    was faster, and FileExistsError when the target is there.
    """
    retry(lambda: os.rename(source, target))


def replace(source: str, target: str) -> None:
    """Rename `source` to `target`, taking the place of what is there; waits as `move` does."""
    retry(lambda: os.replace(source, target))


def unlink(path: str) -> None:
    """Remove a file; waits as `move` does."""
    retry(lambda: os.unlink(path))


def sync_file(fd: int) -> None:
    """Bring the file's content to the disk. After an OSError the content may be lost: never try again."""
    os.fsync(fd)


def sync_directory(path: str) -> None:
    """Do nothing: the system cannot sync a directory, and keeps its names in a journal of its own."""


def sync_filesystem(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: each file needs its own sync, since only an administrator may sync a whole drive."""
    return False


def one_fsync_is_safe(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: nobody tried it on this system by cutting the power."""
    return False


def network_filesystem(path: str) -> str | None:
    """Return "network drive" if `path` lies on one, or None if it is on a local disk."""
    from bgjobs.system.windows_calls import drive_type  # noqa: PLC0415 - submit would pay for ctypes every time

    drive, _ = os.path.splitdrive(os.path.realpath(path))
    return "network drive" if drive_type(drive + "\\") == _DRIVE_REMOTE else None


def free_space(path: str) -> tuple[int, int | None]:
    """Return how many bytes the disk of `path` has room for, and None: files have no limit of their own."""
    import shutil  # noqa: PLC0415 - slow to import

    return shutil.disk_usage(path).free, None


def host() -> str:
    """Return the name of this machine."""
    return os.environ.get("COMPUTERNAME", "localhost")


def user() -> str:
    """Return the name of the user, or "unknown" in an environment that does not say."""
    return os.environ.get("USERNAME", "unknown")


def boot_id() -> str:
    """Return a text that stays the same until the machine starts again, whatever is done to its clock."""
    from bgjobs.system.windows_calls import boot_moment  # noqa: PLC0415 - submit would pay for ctypes every time

    return f"{host()}-{boot_moment()}"


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
    """Return True: modes mean nothing here, and access lists are not looked at."""
    return True


def is_trusted(_uid: int) -> bool:
    """Return True: the numbers of owners mean nothing here."""
    return True


def weakness(_path: str, _state: os.stat_result) -> tuple[str, str, str] | None:
    """Return None: not checked (`CHECKS_WRITERS`)."""
    return None
