"""What a worker says and does when its runners find that code on the disk is newer than what they run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import bgjobs
from bgjobs import __version__
from bgjobs.worker.runner import Began, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.queue import Queue
    from bgjobs.worker.pool import Pool
    from bgjobs.worker.runner import Report


class StaleCode:
    """Says once what has changed, and lets others see that the worker is stale for as long as a runner of it is."""

    def __init__(self, queue: Queue, pool: Pool, say: Callable[[str], None]) -> None:
        """Nothing has changed yet."""
        self._queue = queue
        self._pool = pool
        self._say = say
        self._said = False
        self._ours = _installed()

    def hear(self, report: Report) -> None:
        """Do what is to be done if a runner says that its code has changed."""
        if isinstance(report, Began) or not report.stale:
            return
        if isinstance(report, Returned):
            self._say(f"{report.stale} has changed: a fresh process runs what comes next")
        elif self._queue.settings.on_code_change == "renew":
            if self._pool.is_stale():
                self._say(f"{report.stale} has changed: the next jobs run in fresh processes")
                self._pool.renew()
        elif not self._said:
            self._said = True
            self._say(f"{report.stale} has changed, and jobs still run the code from before: restart the worker")

    def look(self) -> bool:
        """Tell whether a runner has seen newer code; look whether bgjobs itself has been replaced, and say so."""
        stale = self._pool.is_stale()
        self._said = self._said and stale
        ours = _installed()
        if ours not in {None, self._ours}:
            self._ours = ours
            self._say(f"bgjobs itself has changed on the disk, this worker runs version {__version__}: restart it")
        return stale


def _installed() -> tuple[int, int, int] | None:
    try:
        state = os.stat(bgjobs.__file__)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
