"""RQ, on Redis."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import PROCESSES
from benchmarks.contestants.on_redis import REDIS, OnRedis
from benchmarks.work import note

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def is_here() -> bool:
    """Tell whether RQ is installed."""
    return find_spec("rq") is not None


class Rq(OnRedis):
    """Its pool of workers, which fork for each job, or do not. Results are kept for 500 s."""

    bulk = True
    patience_s = 0.5
    _queue: Any = None
    _redis: Any = None

    def __init__(self, *, fork: bool) -> None:
        """With `fork`, as it is by default; else with its SimpleWorker, which runs jobs in the worker itself."""
        self.drained_at_most = 100 if fork else 300
        self.name = f"RQ, {'fork per job' if fork else 'SimpleWorker'}"
        self._pool = ["worker-pool", "--num-workers", str(PROCESSES)]
        self._pool += [] if fork else ["--worker-class", "rq.worker.SimpleWorker"]
        self.options = (
            f"rq {' '.join(self._pool)}; all else by default, results kept; {REDIS}; drains {self.drained_at_most} jobs"
        )

    def versions(self) -> dict[str, str]:
        """Return that of RQ too."""
        return {"rq": version("rq")} | super().versions()

    def set_up(self, directory: Path) -> None:
        """Start the server and open the queue."""
        super().set_up(directory)
        rq: Any = importlib.import_module("rq")  # an optional package
        redis: Any = importlib.import_module("redis")
        self._redis = redis.Redis(unix_socket_path=self._socket)
        self._queue = rq.Queue(connection=self._redis)

    def submit(self, number: int) -> None:
        """Enqueue one job."""
        self._queue.enqueue(note, number)

    def submit_many(self, numbers: Sequence[int]) -> None:
        """Enqueue all in one call."""
        self._queue.enqueue_many([self._queue.prepare_data(note, (number,)) for number in numbers])

    def start_worker(self) -> None:
        """Start the pool as its command does."""
        self.start([sys.executable, "-m", "rq.cli", *self._pool, "--url", self.url], self._directory)

    def tear_down(self) -> None:
        """End the worker and the server, and close the connection."""
        super().tear_down()
        if self._redis is not None:
            self._redis.close()
