"""Queues that have no worker: theirs is a loop of ours, so nothing isolates, times or logs a job."""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from importlib import import_module
from pathlib import Path

from benchmarks.contestants import PROCESSES
from benchmarks.contestants.commanded import Commanded

LOOK_EVERY_S = 0.02
LOOP = f"queue only; {PROCESSES} processes of ours claim, run and end one job after the other, and look every 20 ms"


class QueueOnly(Commanded):
    """Opened by the process that submits and by each that works."""

    @abstractmethod
    def open(self, directory: Path) -> None:
        """Open the queue in this directory, and make it if it is not there."""

    @abstractmethod
    def run_all(self) -> None:
        """Claim jobs, run them and end them, one by one, until there is none."""

    def set_up(self, directory: Path) -> None:
        """Make the queue."""
        self._directory = directory
        self.open(directory)

    def start_worker(self) -> None:
        """Start the loop in as many processes as the others have."""
        for _ in range(PROCESSES):
            command = [sys.executable, "-m", __name__, type(self).__module__, type(self).__name__]
            self.start(command, self._directory)


def main(module: str, name: str) -> None:
    """Work off the queue in the current directory until someone ends us."""
    contestant: QueueOnly = getattr(import_module(module), name)()
    contestant.open(Path.cwd())
    while True:
        contestant.run_all()
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
