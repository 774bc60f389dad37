"""dirq: a queue in a directory, a file for each job."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import UNSYNCED
from benchmarks.contestants.queue_only import LOOP, QueueOnly
from benchmarks.work import note

if TYPE_CHECKING:
    from pathlib import Path


def is_here() -> bool:
    """Tell whether dirq is installed."""
    return find_spec("dirq") is not None


class Dirq(QueueOnly):
    """Its simple queue. A job that has ended is removed: no result is kept."""

    name = "dirq (queue only)"
    submit_is = end_is = UNSYNCED
    options = f"QueueSimple, all by default; {LOOP}; no result is kept"
    _queue: Any = None

    def versions(self) -> dict[str, str]:
        """Return that of dirq."""
        return {"dirq": version("dirq")}

    def open(self, directory: Path) -> None:
        """Open the queue, which makes it."""
        simple: Any = importlib.import_module("dirq.QueueSimple")  # an optional package without types
        self._queue = simple.QueueSimple(str(directory / "dirq"))

    def submit(self, number: int) -> None:
        """Add one job."""
        self._queue.add(str(number))

    def run_all(self) -> None:
        """Go through those that are there now, and take what nobody else has taken."""
        for name in self._queue:
            if self._queue.lock(name):
                note(int(self._queue.get(name)))
                self._queue.remove(name)
