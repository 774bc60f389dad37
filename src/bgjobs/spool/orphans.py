"""End the runners that outlived their worker, and what its jobs have started: no job may run again before."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from bgjobs import clock, system
from bgjobs.ids import ID
from bgjobs.spool import files, layout, locks, lookup, notes, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.events import Log
    from bgjobs.spool.layout import Layout
    from bgjobs.system.process_facts import Marked

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
        """End what is left of the dead worker's runners and jobs; return whether nothing of that runs any more."""
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
                self._tell_once(wid, "a runner of this dead worker cannot be killed")
                return False
            time.sleep(0.005)
        return self._end_escaped(wid)

    def _end_escaped(self, wid: str) -> bool:
        """End what jobs of the dead worker have started in sessions of their own; return whether it is gone."""
        is_left = self._left_by(wid)
        if wid in self._hanging and any(map(is_left, system.marked(self._paths.root))):
            return False
        left = system.kill_marked_where(self._paths.root, is_left)
        if left:
            self._tell_once(wid, f"process {left[0]}, which a job of this dead worker has started, cannot be killed")
        return not left

    def _left_by(self, wid: str) -> Callable[[Marked], bool]:
        """Return what tells whether a process is one that the dead worker's runners, or their jobs, have started."""
        jobs, begun = self._jobs(wid), dict[str, bool]()

        def is_left(one: Marked) -> bool:
            if one.job_id in jobs or one.runner.startswith(f"{wid}-"):
                return True
            if one.runner or not ID.fullmatch(one.job_id) or system.runners_above(one.process.pid):
                return False
            # What the module of a job has started serves later jobs too, and may be all that is left when that one has
            # ended. Under a runner it is that of a worker that lives; so it is if it names a runner.
            if one.job_id not in begun:
                begun[one.job_id] = self._has_begun(wid, one.job_id)
            return begun[one.job_id]

        return is_left

    def _has_begun(self, wid: str, job_id: str) -> bool:
        """Tell whether the worker has made an attempt of the job, as far as its record is there and says so."""
        try:
            place = lookup.locate(self._paths, job_id, clock.now_ms())
            recorded = [] if place is None else record.events(files.read(place.path, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return False
        return any(isinstance(event, record.Start) and event.wid == wid for event in recorded)

    def _jobs(self, wid: str) -> frozenset[str]:
        parts = map(layout.parse_claimed, files.names(self._paths.claims_of(wid)))
        return frozenset(found[2] for found in parts if found is not None)

    def forget(self, wid: str) -> None:
        """Forget a worker whose place is about to go."""
        self._hanging.discard(wid)

    def _tell_once(self, wid: str, what: str) -> None:
        if wid not in self._hanging:
            self._hanging.add(wid)
            self._log.left_alone(f"workers/{wid}", f"{what}; its jobs wait until it is gone", clock.now())


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
