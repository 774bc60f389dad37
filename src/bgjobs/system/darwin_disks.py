"""What macOS says about the disk of a directory."""

from __future__ import annotations

import sys

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.darwin_calls import mount_of  # noqa: E402 - on this system only
from bgjobs.system.disks import DiskFacts  # noqa: E402 - on this system only


def disk_facts(path: str) -> DiskFacts:
    """Return what is known about the file system of the directory `path`. Raises OSError."""
    kind, is_local = mount_of(path)
    return DiskFacts(kind=kind, network=not is_local, volatile=False, journal=None, mounts_below=())
