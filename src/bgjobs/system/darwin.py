"""What only macOS does: its ways to sync, its mounts, its boot id."""

from __future__ import annotations

import errno
import fcntl
import os
import sys

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix import open_directory  # noqa: E402 - on this system only

_REFUSED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENODEV)


def sync_file(fd: int) -> None:
    """Bring the file's content to the disk. After an OSError the content may be lost: never try again."""
    # fsync(2) here stops at the drive's own cache, which a power cut empties.
    try:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        os.fsync(fd)


def sync_directory(path: str) -> None:
    """Bring the names in a directory to the disk. Raises OSError."""
    fd = open_directory(path)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: each file needs its own sync, since no call here syncs a file system and reports failures."""
    return False


def one_fsync_is_safe(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: nobody tried it on this system by cutting the power."""
    return False


def network_filesystem(path: str) -> str | None:
    """Return the kind of network file system that `path` lies on, or None if it is a local one."""
    from bgjobs.system.darwin_calls import mount_of  # noqa: PLC0415 - submit would pay for ctypes every time

    kind, is_local = mount_of(path)
    return None if is_local else kind


def cores() -> int:
    """Return how many cores the machine has."""
    return os.cpu_count() or 1


def boot_id() -> str:
    """Return a text that no other boot of any machine shares. Raises OSError."""
    from bgjobs.system.darwin_calls import sysctl_text  # noqa: PLC0415 - submit would pay for ctypes every time

    return sysctl_text("kern.bootsessionuuid")


def links_are_guarded() -> bool:
    """Return False: whoever can reach a file may make a link to it."""
    return False
