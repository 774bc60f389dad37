"""Check the directories of workers, and what crashes left in the spool."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

from bgjobs import clock, files, locks
from bgjobs.spool import layout, recover
from bgjobs.spool.prune import SWEEP_AFTER_S
from bgjobs.store import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.layout import Layout


def directories(paths: Layout) -> Iterator[Finding]:
    """Check that everything is there that every spool has."""
    for path in paths.directories():
        if not files.is_directory(path):
            message = "is missing, or is no directory: the next worker makes it, if nothing is in its place"
            yield Finding(code="missing-directory", message=message, path=path, serious=True, repairable=True)
    if not files.exists(paths.version):
        message = "is missing: was the spool moved, or is its disk not mounted?"
        yield Finding(code="no-version", message=message, path=paths.version, serious=True)
    if not files.exists(paths.claim_lock):
        message = "is missing: the next worker makes it again"
        yield Finding(code="no-claim-lock", message=message, path=paths.claim_lock, repairable=True)


def leftovers(paths: Layout) -> Iterator[Finding]:
    """Name what crashes leave, and empty buckets; workers remove both."""
    kinds = (
        ("old-tmp", "old files of submissions that were never acknowledged", _old_tmp(paths)),
        ("trash", "remains of deleted jobs", _trash(paths)),
        ("drained-buckets", "empty buckets of minutes that are past", drained(paths)),
    )
    for code, what, found in kinds:
        if found:
            message = f"{len(found)} {what}: a worker clears them away"
            yield Finding(code=code, message=message, path=found[0], repairable=True)


def _old_tmp(paths: Layout) -> list[str]:
    oldest_ns = time.time_ns() - SWEEP_AFTER_S * 1_000_000_000
    found = [os.path.join(paths.tmp, name) for name in sorted(files.names(paths.tmp))]
    return [path for path in found if path != paths.trash and (files.changed_ns(path) or oldest_ns) < oldest_ns]


def _trash(paths: Layout) -> list[str]:
    return [os.path.join(paths.trash, name) for name in sorted(files.names(paths.trash))]


def drained(paths: Layout) -> list[str]:
    """Return the empty buckets of minutes to which nobody submits any more."""
    found, last_ms = [], clock.now_ms() - layout.DRAINED_AFTER_MS
    for priority in range(10):
        for name in sorted(files.names(paths.priority(priority))):
            path, start_ms = paths.bucket(priority, name), layout.bucket_start_ms(name)
            if start_ms is not None and start_ms < last_ms and files.is_directory(path) and not files.names(path):
                found.append(path)
    return found


Status = Literal["living", "dead", "coming or going", "without lock"]


def inspect(paths: Layout, wid: str) -> Iterator[Finding]:
    """Return what is wrong with the worker's directories, or that the worker is dead. Raises OSError."""
    directory, claims = paths.worker(wid), paths.claims_of(wid)
    if not files.exists(directory):
        if files.exists(claims):
            count = len(files.names(claims))
            message = f"holds {count} jobs of a worker that has no directory in workers/: the next worker recovers them"
            yield Finding(code="claims-without-worker", message=message, path=claims, rule="I3", repairable=True)
        return
    match status(paths, wid):
        case "without lock":
            message = "is gone, and its worker lives: it stops, and its jobs run again"
            path = paths.worker(wid, "alive.lock")
            yield Finding(code="lock-gone", message=message, path=path, rule="I7", repairable=True)
        case "dead":
            count = len(files.names(claims))
            message = f"its worker is dead and left {count} jobs: the next worker recovers them"
            yield Finding(code="dead-worker", message=message, path=directory, repairable=True)
            yield from _runners_left(directory)
        case "living" | "coming or going":
            pass


def status(paths: Layout, wid: str) -> Status:
    """Return the status of a worker that has a directory. Its lock is tried only when nobody is about to take it."""
    lock, ready = paths.worker(wid, "alive.lock"), paths.worker(wid, "ready")
    if files.exists(lock) and files.exists(ready):
        return "living" if locks.is_held(lock) else "dead"
    if recover.process_lives(paths, wid):
        return "living" if files.exists(lock) else "without lock"
    return "dead" if files.names(paths.claims_of(wid)) or recover.is_old(paths, wid) else "coming or going"


def _runners_left(directory: str) -> Iterator[Finding]:
    for name in sorted(files.names(directory)):
        path = os.path.join(directory, name)
        if name.startswith("r") and name.endswith(".lock") and locks.is_held(path):
            message = "a runner of this dead worker still runs: the next worker ends it before its job runs again"
            yield Finding(code="orphan-runner", message=message, path=path, repairable=True)
