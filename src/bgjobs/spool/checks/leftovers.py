"""What every spool has, and what crashes and drained minutes leave in it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.backend import Finding
from bgjobs.spool import files, layout
from bgjobs.spool.prune import SWEEP_AFTER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.layout import Layout


def ground(paths: Layout) -> Iterator[Finding]:
    """Look for what every spool has."""
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
    """Name what crashes and drained minutes leave; workers clear it away."""
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
