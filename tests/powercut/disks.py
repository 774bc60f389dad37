"""A disk in a file whose power can be cut: made, mounted, cut off in the middle of everything, and mounted again."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

from benchmarks import images

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 320 * 1024 * 1024  # the least that mkfs.xfs takes is 300 MB; the file is sparse
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: the file system stops at once, as if its disk were gone
WITHOUT_FLUSH = 2  # what the journal holds only in memory is lost


class Disk:
    """One disk. Its image lies in `folder`, and is mounted at `mounted`."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.mounted = folder / "disk"
        self.mounted.mkdir(exist_ok=True)
        self._image = folder / f"{kind}.image"

    def make(self) -> None:
        """Make an empty file system, and mount it."""
        images.make(self.kind, self._image, SIZE)
        self.mount()

    def mount(self) -> None:
        """Mount it, and so replay its journal."""
        images.mount(self._image, self.mounted)

    def commit(self) -> None:
        """Bring all names to the disk, as any other program may do at any time by one sync of a file of its own."""
        descriptor = os.open(self.mounted / "other", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def cut(self) -> None:
        """Cut the power: nothing reaches the disk from now on, and every program on it gets errors."""
        descriptor = os.open(self.mounted, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount it as soon as nobody uses it any more."""
        images.unmount(self.mounted)
