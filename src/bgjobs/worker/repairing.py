"""Mend a queue beside its workers: what the next worker would do, and what none of them does on its rounds."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bgjobs import __version__, clock, system
from bgjobs.backend import Selection, WorkerInfo
from bgjobs.worker.housekeeping import recover

if TYPE_CHECKING:
    from bgjobs.backend import Session
    from bgjobs.queue import Queue

RECOVERED = {"dead-worker", "claims-without-worker"}
REPAIR_S, REPAIR_PAUSE_S = 10.0, 0.25


def repair(queue: Queue) -> list[str]:
    """Do what the next worker would, without running any job, and mend what is broken; return what was done.

    Safe while workers run: it takes a place beside them, and plays by the same locks and renames.
    """
    info = WorkerInfo(host=system.host(), pid=os.getpid(), concurrency=0, started_at=clock.now(), version=__version__)
    session = queue.backend.join(info, Selection())
    try:
        count = _recover_all(session, queue)
        done = [f"ended {count} lost {'attempt' if count == 1 else 'attempts'} of dead workers"] if count else []
        done += session.mend()
        for _ in session.tidy(keep_done=queue.settings.keep_done, keep_failed=queue.settings.keep_failed):
            pass
    finally:
        session.leave()
    return done


def _recover_all(session: Session, queue: Queue) -> int:
    """Recover until nothing is left that can be, or for as long as a place without its lock must be watched."""
    count, deadline = 0, time.monotonic() + REPAIR_S
    while True:
        count += recover(session, queue)
        left = queue.backend.findings(quick=True)
        if not any(finding.code in RECOVERED for finding in left) or time.monotonic() > deadline:
            return count
        time.sleep(REPAIR_PAUSE_S)
