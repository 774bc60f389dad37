"""Processes that were started ahead, to take the place of runners that will soon have served long enough.

To start one takes as long as hundreds of short jobs. Until it has a place it only imports what a runner needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs.worker import assignments
from bgjobs.worker.runners import start_process

if TYPE_CHECKING:
    from bgjobs.queue import Queue
    from bgjobs.system import Child

DYING_S = 1.0


class Spares:
    """The processes of one worker that no runner has become yet. They know no job, and run none."""

    def __init__(self, queue: Queue, worker: str) -> None:
        """Have none."""
        self._queue = queue
        self._worker = worker
        self._waiting: list[Child] = []

    def keep(self, count: int) -> None:
        """Have so many at least. Raises OSError; what cannot be started now is started when it is needed."""
        while len(self._waiting) < count:
            self._waiting.append(self._start())

    def take(self) -> Child:
        """Return one that lives, started now if there is none. Raises OSError."""
        while self._waiting:
            process = self._waiting.pop(0)
            if process.poll() is None:
                return process
            process.close()
        return self._start()

    def close(self) -> None:
        """End them all."""
        for process in self._waiting:
            process.kill()
            process.wait(DYING_S)
            process.close()
        self._waiting.clear()

    def _start(self) -> Child:
        return start_process(assignments.environment(self._queue.settings, self._worker))
