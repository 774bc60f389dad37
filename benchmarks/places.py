"""Where is measured: on a disk, or a file system that is made for it, and in memory. All of it goes in the end."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks import images, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 1024**3
MEMORY = Path("/dev/shm")


class Places(Struct, frozen=True, kw_only=True):
    """The directories. `memory` is None where there is no file system in memory. `about` says what `disk` is."""

    disk: Path
    memory: Path | None
    about: str


def why_no_image(kind: str, gib: int, directory: Path) -> str:
    """Return why no file system of this kind can be made in this directory, or nothing if one can."""
    free = os.statvfs(directory)
    if free.f_bavail * free.f_frsize < gib * GIB:
        return f"needs {gib} GiB free in {directory}"
    return images.lacking() or images.unknown(kind)


@contextmanager
def places(directory: Path, image: str, gib: int) -> Iterator[Places]:
    """Make a place in this directory, on a file system of the kind `image` if there is one, and one in memory."""
    in_memory = surroundings.kind(MEMORY) == "tmpfs" and os.access(MEMORY, os.W_OK)
    with (
        tempfile.TemporaryDirectory(prefix="bgjobs-bench-", dir=directory) as here,
        tempfile.TemporaryDirectory(prefix="bgjobs-bench-", dir=MEMORY if in_memory else here) as memory,
    ):
        known = {"memory": Path(memory) if in_memory else None}
        if not image:
            # Everything is deleted at the end: deleting slows the making of files down for a while, on some disks.
            yield Places(disk=Path(here), about="", **known)
            return
        with images.mounted(image, gib * GIB, Path(here)) as disk:
            yield Places(disk=disk, about=f"in a file of {gib} GiB on {surroundings.kind(directory)}", **known)
