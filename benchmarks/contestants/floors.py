# ruff: noqa: PTH102, PTH104, PTH108, PTH118, PTH208 - bare system calls are what is measured here
"""What the file system and Python allow: only the steps that a queue of files cannot do without, and no job is run."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from benchmarks.contestants import SYNCED, UNSYNCED, Contestant
from benchmarks.work import EFFECTS, RECORD

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("floor: write, rename", "floor: write, rename, fsync", "floor: write, fsync, rename, fsync")
BOTH = 2  # fsyncs: of the file and of the directory
PADDING = "x" * 240  # makes a file about as long as that of a job


class PythonFloor(Contestant):
    """Submit: write a file, move it. Drain, in this process: list once, then move, read and unlink each file."""

    options = "no queue: one process, no job is run, nothing is kept or logged"
    end_is = UNSYNCED

    def __init__(self, fsyncs: int) -> None:
        """Sync nothing; or the file once it was moved (1); or the file before that, and then the directory (2)."""
        self._fsyncs = fsyncs
        self.name = NAMES[fsyncs]
        self.submit_is = SYNCED if fsyncs else UNSYNCED

    def versions(self) -> dict[str, str]:
        """Return nothing: it is Python alone."""
        return {}

    def set_up(self, directory: Path) -> None:
        """Make the three directories."""
        self._directory = directory
        self._fresh, self._pending, self._claimed = (str(directory / name) for name in ("tmp", "pending", "claimed"))
        for path in (self._fresh, self._pending, self._claimed):
            os.mkdir(path)

    def submit(self, number: int) -> None:
        """Write and move, with the syncs."""
        name = f"{number + 10**9:010d}.json"  # a warm-up has negative numbers
        fresh = os.path.join(self._fresh, name)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, json.dumps({"number": number, "padding": PADDING}).encode())
        if self._fsyncs == BOTH:
            os.fsync(descriptor)
        os.rename(fresh, os.path.join(self._pending, name))
        if self._fsyncs == 1:
            os.fsync(descriptor)
        os.close(descriptor)
        if self._fsyncs == BOTH:
            directory = os.open(self._pending, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)

    def start_worker(self) -> None:
        """Claim, read and delete all that is there, in this process; write down the effects when all is done."""
        effects = []
        for name in sorted(os.listdir(self._pending)):
            claimed = os.path.join(self._claimed, name)
            os.rename(os.path.join(self._pending, name), claimed)
            descriptor = os.open(claimed, os.O_RDONLY)
            number = json.loads(os.read(descriptor, 4096))["number"]
            os.close(descriptor)
            os.unlink(claimed)
            effects.append(RECORD.pack(number, os.getpid(), time.monotonic_ns()))
        (self._directory / EFFECTS).write_bytes(b"".join(effects))

    def stop_worker(self) -> None:
        """Do nothing: there is none."""
