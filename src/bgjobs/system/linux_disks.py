"""What the mount table of Linux says about a directory."""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system import linux  # noqa: E402 - on this system only
from bgjobs.system.disks import DiskFacts  # noqa: E402 - on this system only

_VOLATILE = frozenset({"tmpfs", "ramfs", "rootfs"})
_JOURNALING = frozenset({"xfs", "jfs", "reiserfs"})
_NEVER_JOURNALING = frozenset({"ext2", "vfat", "exfat", "msdos"})


def disk_facts(path: str) -> DiskFacts:
    """Return what is known about the file system of the directory `path`. Raises OSError."""
    return facts_of(os.path.realpath(path), os.stat(path).st_dev, linux.mounts())


def facts_of(real_path: str, device: int, table: list[linux.Mount]) -> DiskFacts:
    """Return the facts for a path without links, given its device and the mount table."""
    kind = linux.kind_of(real_path, device, table) or ""
    inside = real_path.rstrip("/") + "/"
    return DiskFacts(
        kind=kind,
        network=kind in linux.NETWORK,
        volatile=kind in _VOLATILE,
        journal=_journal(kind, device),
        mounts_below=tuple(sorted({mount.point for mount in table if mount.point.startswith(inside)})),
    )


def _journal(kind: str, device: int) -> bool | None:
    if kind in {"ext3", "ext4"}:
        return linux.has_journal(f"{os.major(device)}:{os.minor(device)}")
    if kind in _JOURNALING:
        return True
    return False if kind in _NEVER_JOURNALING else None
