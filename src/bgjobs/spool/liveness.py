"""Which of the other workers are dead: those whose `alive.lock` can be taken, whatever any pid says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs import disk, system
from bgjobs.spool import files, layout, locks, notes

if TYPE_CHECKING:
    from collections.abc import Generator

    from bgjobs.spool.layout import Layout

UNREADY_S = 600
LOST_PLACE_S = 5.0


class Others:
    """The workers beside the worker `me`. Their lock files stay open: to ask costs one system call each."""

    def __init__(self, paths: Layout, me: str) -> None:
        """Know no other worker yet."""
        self._paths = paths
        self._me = me
        self._lacking_since: dict[str, float] = {}
        self._probes: dict[str, locks.Probe] = {}

    def dead(self) -> Generator[str, None, None]:
        """Go through those that are dead. Until the next is asked for, the lock of the last one is ours."""
        others = {*files.names(self._paths.workers), *files.names(self._paths.claimed)} - {self._me}
        for gone in self._probes.keys() - others:
            self._probes.pop(gone).close()
        self._lacking_since = {wid: since for wid, since in self._lacking_since.items() if wid in others}
        for wid in sorted(others):
            if layout.WORKER_NAME.fullmatch(wid) and self._is_dead(wid):
                try:
                    yield wid
                finally:
                    self._close(wid)

    def release(self, wid: str) -> None:
        """Give back the lock of a dead worker whose place is about to go.

        The file with it: on older Windows one that somebody has open keeps its directory from going.
        """
        self._close(wid)

    def close(self) -> None:
        """Close what was kept open."""
        for wid in list(self._probes):
            self._close(wid)

    def _close(self, wid: str) -> None:
        probe = self._probes.pop(wid, None)  # None if `close` came while somebody was still going through the dead
        if probe is not None:
            probe.close()

    def _is_dead(self, wid: str) -> bool:
        """Tell whether the worker is dead; if so its lock is now ours."""
        if wid not in self._probes:
            if not self._has_a_lock(wid):
                return False
            try:
                self._probes[wid] = locks.Probe(self._paths.worker(wid, "alive.lock"))
            except OSError:
                return False
        is_dead = self._probes[wid].take()
        if self._probes[wid].is_stale:
            self._probes.pop(wid).close()
        return is_dead

    def _has_a_lock(self, wid: str) -> bool:
        """Tell whether the worker's lock can say if it lives; make one for a worker that left none and is gone."""
        lock = self._paths.worker(wid, "alive.lock")
        if files.exists(lock) and files.exists(self._paths.worker(wid, "ready")):
            return True
        # It has just begun, or died while it did, or somebody deleted its files. A process that lives keeps its claims.
        since = self._lacking_since.setdefault(wid, time.monotonic())
        waited = time.monotonic() - since > self._unready_s(wid)
        if process_lives(self._paths, wid) or not (waited or is_old(self._paths, wid)):
            return False
        files.make_directory(self._paths.worker(wid))
        if not files.exists(lock):
            disk.close(disk.open_create_append(lock))
        return True

    def _unready_s(self, wid: str) -> float:
        """Return how long to wait: a worker takes its place within moments, and claims nothing before."""
        return LOST_PLACE_S if files.names(self._paths.claims_of(wid)) else UNREADY_S


def is_old(paths: Layout, wid: str) -> bool:
    """Tell whether nothing has come or gone in the worker's place for so long that nobody is about to take it."""
    changed = files.changed_ns(paths.worker(wid))
    return changed is not None and time.time_ns() - changed > UNREADY_S * 1_000_000_000


def process_lives(paths: Layout, wid: str) -> bool:
    """Tell whether the process is there that the worker said it was."""
    about = _about(paths, wid)
    worker = about.get("worker")
    pid = worker.get("pid") if isinstance(worker, dict) else None
    if not isinstance(pid, int) or about.get("boot") != system.boot_id() or "birth" not in about:
        return False
    try:
        return system.birth(pid) == about["birth"]
    except OverflowError:
        return False  # no system has such a pid


def has_rebooted(paths: Layout, wid: str) -> bool:
    """Tell whether the machine has started anew since the worker came."""
    # A worker writes which boot it is of before it claims anything, and does not sync that: an empty file, or one
    # full of zeros, is what a power cut makes of it.
    written = files.exists(paths.worker(wid, "info"))
    return written and _about(paths, wid).get("boot") != system.boot_id()


def _about(paths: Layout, wid: str) -> dict[str, object]:
    """Return what the worker said of itself when it came."""
    text = files.read_note(paths.worker(wid, "info")) or ""
    return notes.decoded(text.encode("utf-8", "replace"), dict[str, object]) or {}
