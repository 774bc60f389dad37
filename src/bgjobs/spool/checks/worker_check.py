"""Look at the places of workers, and at what the dead ones left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from bgjobs.backend import Finding
from bgjobs.spool import files, liveness, locks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.layout import Layout

Standing = Literal["living", "dead", "coming or going", "without lock"]


def inspect(paths: Layout, wid: str) -> Iterator[Finding]:
    """Say what is wrong with the worker's place, or that it is a dead one's. Raises OSError."""
    place, claims = paths.worker(wid), paths.claims_of(wid)
    if not files.exists(place):
        if files.exists(claims):
            count = len(files.names(claims))
            message = f"holds {count} jobs of a worker that has no place in workers/: the next worker recovers them"
            yield Finding(code="claims-without-worker", message=message, path=claims, rule="I3", repairable=True)
        return
    match standing(paths, wid):
        case "without lock":
            message = "is gone, and its worker lives: it stops, and its jobs run again"
            path = paths.worker(wid, "alive.lock")
            yield Finding(code="lock-gone", message=message, path=path, rule="I7", repairable=True)
        case "dead":
            count = len(files.names(claims))
            message = f"its worker is dead and left {count} jobs: the next worker recovers them"
            yield Finding(code="dead-worker", message=message, path=place, repairable=True)
            yield from _runners_left(place)
        case "living" | "coming or going":
            pass


def standing(paths: Layout, wid: str) -> Standing:
    """Tell how it stands with a worker that has a place. Its lock is only tried when no one is about to take it."""
    lock, ready = paths.worker(wid, "alive.lock"), paths.worker(wid, "ready")
    if files.exists(lock) and files.exists(ready):
        return "living" if locks.is_held(lock) else "dead"
    if liveness.process_lives(paths, wid):
        return "living" if files.exists(lock) else "without lock"
    return "dead" if files.names(paths.claims_of(wid)) or liveness.is_old(paths, wid) else "coming or going"


def _runners_left(place: str) -> Iterator[Finding]:
    for name in sorted(files.names(place)):
        path = os.path.join(place, name)
        if name.startswith("r") and name.endswith(".lock") and locks.is_held(path):
            message = "a runner of this dead worker still runs: the next worker ends it before its job runs again"
            yield Finding(code="orphan-runner", message=message, path=path, repairable=True)
