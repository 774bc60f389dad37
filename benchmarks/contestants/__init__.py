"""What a contestant has to be able to do, so that all are measured in the same way."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROCESSES = 2
SYNCED, UNSYNCED = "synced", "not synced"


class Contestant(ABC):
    """One job queue in one configuration. It is used again and again, each time in a fresh directory.

    `name` is its row in the tables. `submit_is` and `end_is` tell whether a job is on the disk once it was submitted,
    and what became of it once it has ended. `options` is what was configured, or left at its default.
    `bulk` tells whether it has a call of its own for many jobs at once. `drained_at_most` says how many jobs it drains,
    where thousands would take minutes.
    """

    name: str
    submit_is: str
    end_is: str
    options: str
    bulk: bool = False
    drained_at_most: int = sys.maxsize

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that it is made of."""

    @abstractmethod
    def set_up(self, directory: Path) -> None:
        """Make an empty queue in this empty directory, which will also hold the effects of its jobs."""

    @abstractmethod
    def submit(self, number: int) -> None:
        """Submit the job `benchmarks.work.note` with this number, from this process."""

    def submit_many(self, numbers: Sequence[int]) -> None:
        """Submit the jobs with these numbers: by one call, or one by one where it has none for many."""
        for number in numbers:
            self.submit(number)

    @abstractmethod
    def start_worker(self) -> None:
        """Start a worker that runs jobs in two processes, with the directory as the current one."""

    @abstractmethod
    def stop_worker(self) -> None:
        """End the worker, if there is one, with all its processes."""

    def kill_worker(self) -> None:
        """Kill the worker and all its processes at once, so that none of them can do anything any more."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Return the ids of all processes that run for it now, those of its server included."""
        return []

    def tear_down(self) -> None:
        """End everything and let go of the directory. Called after each use, also when that failed."""
        self.stop_worker()
