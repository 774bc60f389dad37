"""File systems in files: made, mounted where no other process sees them, and unmounted. For Linux, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("ext4", "xfs")
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
FOR_SMALL_FILES = ("-O", "has_journal", "-i", "4096")  # an inode for each block
PATIENCE_S = 30.0


def lacking() -> str:
    """Return why none can be mounted here, or nothing if one can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to mount"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    missing = [name for name in ("unshare", "mount", "umount", "losetup") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else ""


def unknown(kind: str) -> str:
    """Return why this kind of file system cannot be had here, or nothing if it can."""
    if shutil.which(MAKE[kind][0]) is None:
        return f"needs {MAKE[kind][0]}"
    with Path("/proc/filesystems").open(encoding="ascii") as lines:
        if any(line.split()[-1] == kind for line in lines):
            return ""
    loaded = shutil.which("modprobe") and subprocess.run(["modprobe", kind], capture_output=True, check=False)
    return "" if loaded and loaded.returncode == 0 else "this kernel does not know it"


def alone(module: str, mark: str) -> NoReturn:
    """Become this module once more, with our arguments, where mounts are private.

    No other process can then keep a disk busy, or be in the way of one, and what is mounted goes with the last of
    ours, however that ends. `mark` is a variable of the environment that tells the second one that it is the second.
    """
    command = ["unshare", "--mount", "--propagation", "private", "--", sys.executable, "-m", module, *sys.argv[1:]]
    os.execvpe(command[0], command, os.environ | {mark: "1"})


@contextmanager
def mounted(kind: str, size: int, directory: Path) -> Iterator[Path]:
    """Have an empty file system with a journal, made in this directory, until the end."""
    image, where = directory / "image", directory / "disk"
    where.mkdir()
    make(kind, image, size, *(FOR_SMALL_FILES if kind == "ext4" else ()))
    try:
        mount(image, where)
    finally:
        image.unlink()  # it lives on as long as it is mounted: even if we are killed, nothing is left
    try:
        yield where
    finally:
        unmount(where)
        where.rmdir()


def make(kind: str, image: Path, size: int, *options: str) -> None:
    """Make an empty file system of this size; the file is sparse."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    _run(*MAKE[kind], *options, str(image))


def mount(image: Path, where: Path) -> None:
    """Mount it, and so replay its journal. The loop device goes when it is unmounted."""
    _run("mount", "-o", "loop", str(image), str(where))


def unmount(where: Path) -> None:
    """Unmount it as soon as nobody uses it any more."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run(["umount", str(where)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"cannot unmount {where}: {done.stderr.strip()}")
        time.sleep(0.005)  # runners end within moments of their worker


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
