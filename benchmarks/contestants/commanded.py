"""A contestant whose worker is a command, or several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import Contestant
from benchmarks.processes import PATIENCE_S, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Commanded(Contestant):
    """Knows what it has started, and ends it: asks it to, and kills it after `patience_s`."""

    patience_s: float = PATIENCE_S
    _workers: tuple[Worker, ...] = ()

    def start(self, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start this command in this directory."""
        self._workers = (*self._workers, Worker(command, directory, environment))

    def stop_worker(self) -> None:
        """End all that was started."""
        workers, self._workers = self._workers, ()
        for worker in workers:
            worker.stop(self.patience_s)

    def kill_worker(self) -> None:
        """Kill all that was started."""
        workers, self._workers = self._workers, ()
        for worker in workers:
            worker.kill()

    def pids(self) -> list[int]:
        """Return the ids of all that was started, and of what that has started."""
        return [pid for worker in self._workers for pid in worker.pids()]
