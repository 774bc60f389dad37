"""What only macOS has: its ways to sync, its mounts, its boot id."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgjobs.system.facts import DiskFacts

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix import open_directory  # noqa: E402 - on this system only

# struct statfs with 64-bit inodes: f_flags is at byte 64, f_fstypename (16 bytes) at 72; 2,168 bytes in all.
_STATFS_SIZE = 4096
_FLAGS = slice(64, 68)
_KIND = slice(72, 88)
_MNT_LOCAL = 0x1000

_REFUSED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENODEV)


def sync_file(fd: int) -> None:
    """Make the content of the file durable. After an OSError the content may be lost: never retry."""
    # fsync(2) here stops at the drive's own cache, which a power cut empties.
    try:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        os.fsync(fd)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = open_directory(path)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: each file needs its own sync, since no call here syncs a file system and reports failures."""
    return False


def one_fsync_is_safe(path: str) -> bool:  # noqa: ARG001 - one interface for all systems
    """Return False: it was not tested on this system by cutting the power."""
    return False


def network_filesystem(path: str) -> str | None:
    """Return the kind of network file system that `path` lies on, or None if it is a local one."""
    kind, is_local = _mount_of(path)
    return None if is_local else kind


def cores() -> int:
    """Return how many cores the machine has."""
    return os.cpu_count() or 1


def boot_id() -> str:
    """Return a text that no other boot of any machine shares. Raises OSError."""
    return _sysctl_text("kern.bootsessionuuid")


def links_are_guarded() -> bool:
    """Return False: a user may make hard links to files of others."""
    return False


def disk_facts(path: str) -> DiskFacts:
    """Return what is known about the file system of the directory `path`. Raises OSError."""
    from bgjobs.system.facts import DiskFacts  # noqa: PLC0415 - only the checks of a disk need it

    kind, is_local = _mount_of(path)
    return DiskFacts(kind=kind, network=not is_local, volatile=False, journal=None, mounts_below=())


def _mount_of(path: str) -> tuple[str, bool]:
    """Return the kind of file system that `path` lies on, and whether it is in this machine. Raises OSError."""
    import ctypes  # noqa: PLC0415 - slow to load, and `bgjobs submit` does without

    library = ctypes.CDLL(None, use_errno=True)
    # On Intel the plain name is the old call with 32-bit inodes, and another layout.
    statfs = getattr(library, "statfs$INODE64", None) or library.statfs
    answer = ctypes.create_string_buffer(_STATFS_SIZE)
    if statfs(os.fsencode(path), answer) != 0:
        raise _os_error(ctypes.get_errno(), path)
    kind = answer.raw[_KIND].partition(b"\0")[0].decode("ascii", "replace")
    return kind, bool(int.from_bytes(answer.raw[_FLAGS], sys.byteorder) & _MNT_LOCAL)


def _sysctl_text(name: str) -> str:
    """Return a value of the kernel that is text. Raises OSError."""
    import ctypes  # noqa: PLC0415 - slow to load, and `bgjobs submit` does without

    library = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t(len(answer))
    if library.sysctlbyname(name.encode(), answer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        raise _os_error(ctypes.get_errno(), name)
    return answer.value.decode("ascii", "replace")


def _os_error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)
