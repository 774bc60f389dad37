"""Where all this was measured: what a reader has to know of the machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bgjobs import system


def surroundings(directory: Path) -> dict[str, str]:
    """Return what can be told of the machine, and of the file system of this directory."""
    return {
        "file system": _file_system(directory),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPUs": str(os.cpu_count()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "began": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
    }


def load() -> str:
    """Return how busy the machine is, ourselves included."""
    return " ".join(f"{average:.1f}" for average in psutil.getloadavg())


def _file_system(directory: Path) -> str:
    real = directory.resolve()
    above = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(Path(part.mountpoint))]
    kind = max(above, key=lambda part: len(part.mountpoint)).fstype if above else "unknown"
    syncs = "one fsync" if system.one_fsync_is_safe(str(real)) else "two fsyncs"
    return f"{kind} (a durable submit of bgjobs takes {syncs} here)"
