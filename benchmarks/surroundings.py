"""Where all this was measured: what a reader has to know of the machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bgjobs import system


def surroundings(directory: Path, about: str) -> dict[str, str]:
    """Return what can be told of the machine, and of the file system of this directory."""
    syncs = "one fsync" if one_fsync(directory) else "two fsyncs"
    return {
        "file system": f"{' '.join(filter(None, [kind(directory), about]))}; a durable submit of bgjobs takes {syncs}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPUs": str(os.cpu_count()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "began": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
    }


def load() -> str:
    """Return how busy the machine is, ourselves included."""
    return " ".join(f"{average:.1f}" for average in psutil.getloadavg())


def one_fsync(directory: Path) -> bool:
    """Tell whether one fsync brings a file and its name to the disk."""
    return system.one_fsync_is_safe(str(directory.resolve()))


def kind(directory: Path) -> str:
    """Return the kind of the file system on which this directory lies."""
    real = directory.resolve()
    above = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(Path(part.mountpoint))]
    # Of two that are mounted at one place the later one covers the other.
    return max(reversed(above), key=lambda part: len(part.mountpoint)).fstype if above else "unknown"
