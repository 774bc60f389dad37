"""Celery, on files or on Redis."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.contestants import PROCESSES
from benchmarks.contestants.on_redis import REDIS, OnRedis
from benchmarks.work import note

SOCKET = "BENCHMARK_CELERY_SOCKET"
APP = ("-A", "benchmarks.contestants.celery_app")
POOL = ("worker", "--pool", "prefork", "--concurrency", str(PROCESSES))
FILES = "files as transport and result backend, temporary files in the measured directory, all else by default"


def is_here() -> bool:
    """Tell whether Celery is installed."""
    return find_spec("celery") is not None


class Celery(OnRedis):
    """Its prefork worker. It stores each result, as bgjobs does."""

    drained_at_most = 300
    patience_s = 0.5  # on files it takes seven seconds to end
    _app: Any = None
    _socket = ""

    def __init__(self, *, redis: bool) -> None:
        """Choose the transport, and with it where results are kept: Redis, or else files."""
        self.name = f"Celery, {'Redis' if redis else 'files'}"
        where = f"Redis as transport and result backend, all else by default; {REDIS}" if redis else FILES
        self.options = f"celery {' '.join(POOL)}; {where}; drains {self.drained_at_most} jobs"
        self._redis = redis

    def versions(self) -> dict[str, str]:
        """Return those of Celery and of its transport."""
        found = {name: version(name) for name in ("celery", "kombu")}
        return found | super().versions() if self._redis else found

    def set_up(self, directory: Path) -> None:
        """Start the server, if it is for Redis, and make the app."""
        self._directory = directory
        if self._redis:
            super().set_up(directory)
        else:
            (directory / "jobs").mkdir()
            (directory / "results").mkdir()
        self._app, self._job = _opened(directory, self._socket)

    def submit(self, number: int) -> None:
        """Send one job."""
        self._job.delay(number)

    def start_worker(self) -> None:
        """Start its command. On files it moves each job that it takes through the directory for temporary files."""
        command = [sys.executable, "-m", "celery", *APP, *POOL]
        self.start(command, self._directory, {SOCKET: self._socket, "TMPDIR": str(self._directory)})

    def tear_down(self) -> None:
        """End the worker and the server, and close the connections."""
        super().tear_down()
        if self._app is not None:
            self._app.close()


def opened_here() -> Any:  # noqa: ANN401 - Celery has no types
    """Return the app in the current directory: what the worker runs."""
    return _opened(Path.cwd(), os.environ[SOCKET])[0]


def _opened(directory: Path, socket: str) -> tuple[Any, Any]:
    """Return an app on this socket of Redis or else on files in this directory, and the job as a task of it."""
    celery: Any = importlib.import_module("celery")  # an optional package without types
    if socket:
        app = celery.Celery("benchmark", broker=f"redis+socket://{socket}", backend=f"redis+socket://{socket}")
    else:
        app = celery.Celery("benchmark", broker="filesystem://", backend=f"file://{directory / 'results'}")
        jobs = str(directory / "jobs")
        folders = {"data_folder_in": jobs, "data_folder_out": jobs, "control_folder": str(directory / "control")}
        app.conf.broker_transport_options = folders
    return app, app.task(note)
