"""The files of a worker's runners, all in one directory: lock, output and process of the runner in each slot.

A store hands out a directory; nothing else of it is known here. A recoverer reads what a dead worker's runners left.
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
    """Which process a runner is: its pid, when it was started as the kernel tells it, and under which boot."""

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
        """Note which process the runner in this slot is, so that a recoverer can end it. Raises OSError."""
        process = RunnerProcess(pid, birth, system.boot_id())
        files.replace_content(self._path(f"r{slot}{PROCESS}"), msgspec.json.encode(process))

    def keep_output(self, slot: int, path: str) -> None:
        """Keep at `path` what the dead runner of this slot had collected. The next one begins a file of its own."""
        if not keep_output(self.output(slot), path):
            # Whatever keeps the old file open must not get to see, nor to change, what another attempt prints.
            files.discard(self.output(slot))

    def cut_output(self, slot: int, most: int) -> None:
        """Cut what the dead runner of this slot had collected to exactly so many bytes."""
        with suppress(OSError):  # output is worth less than the job
            files.cut(self.output(slot), most)

    def add_to_output(self, slot: int, text: str) -> None:
        """Append a remark of the worker to what the dead runner of this slot had collected."""
        with suppress(OSError):  # as above
            files.add(self.output(slot), text)

    def limit_output(self, slot: int, most: int) -> None:
        """Cut what the runner of this slot collects, if it has grown far beyond so many bytes. Raises OSError.

        The runner counts what Python prints. C code and subprocesses write without being counted, and append: cutting
        the file under them keeps it bounded.
        """
        files.limit(self.output(slot), most + 1)  # one more: so that the runner sees that something was cut

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def keep_output(source: str, target: str) -> bool:
    """Move collected output to where it is kept; return whether there was any."""
    try:
        state = disk.lstat(source)
        if state.st_size == 0 or not stat.S_ISREG(state.st_mode):
            return False
        files.move_into(source, target)
    except OSError:
        return False  # output is worth less than the job
    return True


def locks_in(directory: str) -> list[str]:
    """Return the paths of the runners' locks in a worker's directory."""
    names = files.names(directory)
    return [os.path.join(directory, name) for name in names if name.startswith("r") and name.endswith(LOCK)]


def processes_in(directory: str) -> Iterator[RunnerProcess]:
    """Go through the processes that the runners of a worker were, of this boot alone."""
    for name in files.names(directory):
        if name.startswith("r") and name.endswith(PROCESS):
            try:
                found = files.decoded(files.read(os.path.join(directory, name), 4096), RunnerProcess)
            except (OSError, files.StrangeFileError):
                continue
            if found is not None and found.boot == system.boot_id():
                yield found
