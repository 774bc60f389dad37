"""Dramatiq, on Redis."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import PROCESSES
from benchmarks.contestants.on_redis import REDIS, OnRedis
from benchmarks.work import note

if TYPE_CHECKING:
    from pathlib import Path

SOCKET = "BENCHMARK_DRAMATIQ_SOCKET"
WORKER = ("--processes", str(PROCESSES), "--threads", "1")


def is_here() -> bool:
    """Tell whether Dramatiq is installed."""
    return find_spec("dramatiq") is not None


class Dramatiq(OnRedis):
    """Its worker with a process for each job that runs at a time. It stores each result, as bgjobs does."""

    name = "Dramatiq, Redis"
    drained_at_most = 500
    options = (
        f"dramatiq {' '.join(WORKER)}, results stored in Redis; all else by default; {REDIS}; "
        f"drains {drained_at_most} jobs"
    )
    patience_s = 0.5
    _broker: Any = None

    def versions(self) -> dict[str, str]:
        """Return that of Dramatiq too."""
        return {"dramatiq": version("dramatiq")} | super().versions()

    def set_up(self, directory: Path) -> None:
        """Start the server and make the broker."""
        super().set_up(directory)
        self._broker, self._actor = _opened(self._socket)

    def submit(self, number: int) -> None:
        """Send one job."""
        self._actor.send(number)

    def start_worker(self) -> None:
        """Start its command."""
        command = [sys.executable, "-m", "dramatiq", "benchmarks.contestants.dramatiq_app:broker", *WORKER]
        self.start(command, self._directory, {SOCKET: self._socket})

    def tear_down(self) -> None:
        """End the worker and the server, and close the connections."""
        super().tear_down()
        if self._broker is not None:
            self._broker.close()
            self._broker.client.close()


def opened_here() -> Any:  # noqa: ANN401 - an optional package
    """Return the broker that the worker is told of: what its command runs."""
    return _opened(os.environ[SOCKET])[0]


def _opened(socket: str) -> tuple[Any, Any]:
    """Return a broker on this socket, and the job as an actor of it."""
    dramatiq: Any = importlib.import_module("dramatiq")
    brokers: Any = importlib.import_module("dramatiq.brokers.redis")
    results: Any = importlib.import_module("dramatiq.results")
    backends: Any = importlib.import_module("dramatiq.results.backends")
    broker = brokers.RedisBroker(url=f"unix://{socket}")
    broker.add_middleware(results.Results(backend=backends.RedisBackend(url=f"unix://{socket}")))
    return broker, dramatiq.actor(note, broker=broker, store_results=True)
