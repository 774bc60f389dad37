"""The files of a worker's runners, in one directory: lock, output and process of the runner in each slot.

A store chooses the directory; nothing else of the store is known here. Recovery reads the files of a dead worker.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bgjobs import disk, files, system

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = ".lock"
PROCESS = ".pid"


class RunnerProcess(Struct, frozen=True):
    """The identity of a runner process: its pid, its start time as the kernel gives it, and the boot id."""

    pid: files.Pid
    birth: str
    boot: str


class Slots:
    """The files of the runners of one worker; slots are numbered from 0."""

    def __init__(self, directory: str) -> None:
        """Remember the directory, which is there."""
        self._directory = directory

    def lock(self, slot: int) -> str:
        """Return the path of the lock that the runner in this slot holds for life."""
        return self._path(f"r{slot}{LOCK}")

    def output(self, slot: int) -> str:
        """Return the path of the file in which the runner in this slot collects output."""
        return self._path(f"r{slot}.out")

    def started(self, slot: int, pid: int, birth: str) -> None:
        """Record the process of the runner in this slot, so that recovery can kill it. Raises OSError."""
        process = RunnerProcess(pid, birth, system.boot_id())
        files.replace_content(self._path(f"r{slot}{PROCESS}"), msgspec.json.encode(process))

    def keep_output(self, slot: int, path: str) -> None:
        """Move the output of the dead runner of this slot to `path`. The next runner begins a new file."""
        if not keep_output(self.output(slot), path):
            # A process that keeps the old file open must not see or change the output of another attempt.
            files.discard(self.output(slot))

    def cut_output(self, slot: int, most: int) -> None:
        """Cut the output of the dead runner of this slot to `most` bytes."""
        with suppress(OSError):  # the job matters more than its output
            files.cut(self.output(slot), most)

    def add_to_output(self, slot: int, text: str) -> None:
        """Append a remark of the worker to the output of the dead runner of this slot."""
        with suppress(OSError):  # as above
            files.add(self.output(slot), text)

    def limit_output(self, slot: int, most: int) -> None:
        """Cut the output of the runner of this slot if it has grown far beyond `most` bytes. Raises OSError.

        The runner counts what Python prints. C code and subprocesses append without being counted: cutting the file
        keeps it bounded.
        """
        files.limit(self.output(slot), most)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def keep_output(source: str, target: str) -> bool:
    """Move the output of an attempt to where it is kept; return whether there was any."""
    try:
        state = disk.lstat(source)
        if state.st_size == 0 or not stat.S_ISREG(state.st_mode):
            return False
        files.move_into(source, target)
    except OSError:
        return False  # the job matters more than its output
    return True


def locks_in(directory: str) -> list[str]:
    """Return the paths of the runners' locks in a worker's directory."""
    names = files.names(directory)
    return [os.path.join(directory, name) for name in names if name.startswith("r") and name.endswith(LOCK)]


def processes_in(directory: str) -> Iterator[RunnerProcess]:
    """Go through the processes of a worker's runners that were started under the current boot."""
    for name in files.names(directory):
        if name.startswith("r") and name.endswith(PROCESS):
            try:
                found = files.decoded(files.read(os.path.join(directory, name), 4096), RunnerProcess)
            except (OSError, files.StrangeFileError):
                continue
            if found is not None and found.boot == system.boot_id():
                yield found
