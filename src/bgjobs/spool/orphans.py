"""End the runners that outlived their worker: none of its jobs may run again before."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from bgjobs import clock, system
from bgjobs.spool import files, locks, notes

if TYPE_CHECKING:
    from bgjobs.events import Log
    from bgjobs.spool.layout import Layout

LEFTOVER_PATIENCE_S = 0.5


class RunnerNote(Struct, frozen=True):
    """Which process a runner is."""

    pid: notes.Pid
    birth: str
    boot: str


class Orphans:
    """The runners of dead workers, and which workers have some that cannot be ended."""

    def __init__(self, paths: Layout, log: Log) -> None:
        """Know of none yet."""
        self._paths = paths
        self._log = log
        self._hanging: set[str] = set()

    def end(self, wid: str) -> bool:
        """End what is left of the dead worker's runners; return whether none of them can still run a job."""
        directory = self._paths.worker(wid)
        held = [os.path.join(directory, n) for n in files.names(directory) if n.startswith("r") and n.endswith(".lock")]
        # One that was killed and hangs in a system call dies when that ends. To try again takes seconds each time.
        if wid in self._hanging and any(map(_is_held, held)):
            return False
        for name in files.names(directory):
            if name.startswith("r") and name.endswith(".pid"):
                note = _read_note(os.path.join(directory, name))
                if note is not None and note.boot == system.boot_id():
                    system.kill_orphan(note.pid, note.birth, self._paths.root)
        deadline = time.monotonic() + LEFTOVER_PATIENCE_S
        while any(map(_is_held, held)):
            if time.monotonic() > deadline:
                self._tell_once(wid)
                return False
            time.sleep(0.005)
        return True

    def forget(self, wid: str) -> None:
        """Forget a worker whose place is about to go."""
        self._hanging.discard(wid)

    def _tell_once(self, wid: str) -> None:
        if wid not in self._hanging:
            self._hanging.add(wid)
            reason = "a runner of this dead worker cannot be killed; its jobs wait until it is gone"
            self._log.left_alone(f"workers/{wid}", reason, clock.now())


def _is_held(lock: str) -> bool:
    """Tell whether a runner holds the lock. Raises OSError: one that cannot be tried may be held."""
    try:
        return locks.is_held(lock)
    except OSError as error:
        if error.errno in {*files.LINKS, errno.EISDIR}:
            return False  # no runner made this
        raise


def _read_note(path: str) -> RunnerNote | None:
    try:
        return notes.decoded(files.read(path, 4096), RunnerNote)
    except (OSError, files.StrangeFileError):
        return None
