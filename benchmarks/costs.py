"""What processes cost: processor time and memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

PROC = Path("/proc")
MIB = 1024 * 1024


def cpu_time(pids: Iterable[int]) -> dict[Path, float]:
    """Return how many seconds each thread of these processes has run so far.

    On Linux to the nanosecond; elsewhere by process, as the system counts.
    """
    spent: dict[Path, float] = {}
    for pid in pids:
        with suppress(OSError, psutil.NoSuchProcess):  # it has just ended
            if (PROC / f"{pid}/task").is_dir():
                for thread in (PROC / f"{pid}/task").iterdir():
                    spent[thread] = int((thread / "schedstat").read_bytes().split()[0]) / 1e9
            else:
                times = psutil.Process(pid).cpu_times()
                spent[PROC / str(pid)] = times.user + times.system
    return spent


def between(before: dict[Path, float], after: dict[Path, float]) -> float:
    """Return the seconds that were spent between the two."""
    return sum(spent - before.get(thread, 0.0) for thread, spent in after.items())


def memory(pids: Iterable[int]) -> float:
    """Return how many MiB these processes have: what several share is divided among them (PSS).

    Where the system does not know that, what each has for itself.
    """
    return sum(map(_memory, pids)) / MIB


def _memory(pid: int) -> int:
    try:
        lines = (PROC / f"{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        with suppress(psutil.NoSuchProcess):
            return int(psutil.Process(pid).memory_full_info().uss)
        return 0
    except OSError:
        return 0  # it has just ended
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
