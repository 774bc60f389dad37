"""The two macOS calls that Python does not offer: which file system a path lies on, and what the kernel says."""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

# struct statfs with 64-bit inodes: f_flags is at byte 64, f_fstypename (16 bytes) at 72; 2,168 bytes in all.
_STATFS_SIZE = 4096
_FLAGS = slice(64, 68)
_KIND = slice(72, 88)
_MNT_LOCAL = 0x1000

_system = ctypes.CDLL(None, use_errno=True)


def mount_of(path: str) -> tuple[str, bool]:
    """Return the kind of file system that `path` lies on, and whether it is in this machine. Raises OSError."""
    # On Intel the plain name is the old call with 32-bit inodes, and another layout.
    statfs = getattr(_system, "statfs$INODE64", None) or _system.statfs
    answer = ctypes.create_string_buffer(_STATFS_SIZE)
    if statfs(os.fsencode(path), answer) != 0:
        raise _last_error(path)
    kind = answer.raw[_KIND].partition(b"\0")[0].decode("ascii", "replace")
    return kind, bool(int.from_bytes(answer.raw[_FLAGS], sys.byteorder) & _MNT_LOCAL)


def sysctl_text(name: str) -> str:
    """Return a value of the kernel that is text. Raises OSError."""
    answer = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t(len(answer))
    if _system.sysctlbyname(name.encode(), answer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        raise _last_error(name)
    return answer.value.decode("ascii", "replace")


def _last_error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)
