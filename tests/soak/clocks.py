"""A clock that the soak can set, and a runner that goes by it: a worker starts its runners as `clocks.py CLOCK`.

The clock is a file of eight bytes that all processes map: how many milliseconds they are ahead of the machine.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.worker.child import main

if TYPE_CHECKING:
    from collections.abc import Iterator

FORM = struct.Struct("=q")


def make_clock(path: Path) -> None:
    """Make a clock that goes right."""
    path.write_bytes(FORM.pack(0))


def set_clock(path: Path, ahead_ms: int) -> bool:
    """Have all processes that follow this clock find it so far ahead at once, unless somebody holds it steady."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.pwrite(file.fileno(), FORM.pack(ahead_ms), 0)
    return True


@contextmanager
def steady(path: Path) -> Iterator[None]:
    """Have nobody set this clock meanwhile."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def follow_clock(path: Path) -> None:
    """Have bgjobs in this process go by that clock."""
    with path.open("rb") as file:
        seen = mmap.mmap(file.fileno(), FORM.size, prot=mmap.PROT_READ)

    def now_ms() -> int:
        ahead_ms: int = FORM.unpack_from(seen)[0]
        return time.time_ns() // 1_000_000 + ahead_ms

    def now() -> datetime:
        ahead_ms: int = FORM.unpack_from(seen)[0]
        return datetime.now(UTC) + timedelta(milliseconds=ahead_ms)

    clock.now_ms, clock.now = now_ms, now


if __name__ == "__main__":
    follow_clock(Path(sys.argv[1]))
    main.main()
