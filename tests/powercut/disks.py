"""A disk in a file whose power can be cut: made, mounted, cut off in the middle of everything, and mounted again."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("ext4", "xfs")
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
SIZE = 320 * 1024 * 1024  # the least that mkfs.xfs takes is 300 MB; the file is sparse
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: the file system stops at once, as if its disk were gone
WITHOUT_FLUSH = 2  # what the journal holds only in memory is lost
PATIENCE_S = 30.0


def lacking() -> str:
    """Return why the power cannot be cut here, or nothing if it can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to mount"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    missing = [name for name in ("unshare", "mount", "umount", "losetup") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else ""


def unknown(kind: str) -> str:
    """Return why this kind of file system cannot be tried here, or nothing if it can."""
    if shutil.which(MAKE[kind][0]) is None:
        return f"needs {MAKE[kind][0]}"
    with Path("/proc/filesystems").open(encoding="ascii") as lines:
        if any(line.split()[-1] == kind for line in lines):
            return ""
    loaded = shutil.which("modprobe") and subprocess.run(["modprobe", kind], capture_output=True, check=False)
    return "" if loaded and loaded.returncode == 0 else "this kernel does not know it"


class Disk:
    """One disk. Its image lies in `folder`, and is mounted at `mounted`."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.mounted = folder / "disk"
        self.mounted.mkdir(exist_ok=True)
        self._image = folder / f"{kind}.image"

    def make(self) -> None:
        """Make an empty file system, and mount it."""
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as file:
            file.truncate(SIZE)
        _run(*MAKE[self.kind], str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it, and so replay its journal."""
        _run("mount", "-o", "loop", str(self._image), str(self.mounted))

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
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(["umount", str(self.mounted)], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"cannot unmount {self.mounted}: {done.stderr.strip()}")
            time.sleep(0.005)  # runners end within moments of their worker


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
