"""What Windows says about the disk of a directory."""

from __future__ import annotations

import os
import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.disks import DiskFacts  # noqa: E402 - on this system only
from bgjobs.system.windows import network_filesystem  # noqa: E402 - on this system only
from bgjobs.system.windows_calls import drive_type  # noqa: E402 - on this system only

_DRIVE_RAM = 6


def disk_facts(path: str) -> DiskFacts:
    """Return what is known about the drive of the directory `path`."""
    drive, _ = os.path.splitdrive(os.path.realpath(path))
    return DiskFacts(
        kind="",
        network=network_filesystem(path) is not None,
        volatile=drive_type(drive + "\\") == _DRIVE_RAM,
        journal=None,
        mounts_below=(),
    )
