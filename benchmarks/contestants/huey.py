"""Huey, the peer that needs no server either: on SQLite or on files."""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import PROCESSES, SYNCED, UNSYNCED
from benchmarks.contestants.commanded import Commanded
from benchmarks.work import note

if TYPE_CHECKING:
    from collections.abc import Sequence

STORAGE = "BENCHMARK_HUEY_STORAGE"
SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
FULL = 2


def is_here() -> bool:
    """Tell whether Huey is installed."""
    return find_spec("huey") is not None


class Huey(Commanded):
    """One of Huey's storages, and its consumer in process mode. It stores each result, as bgjobs does."""

    submit_is = end_is = UNSYNCED

    def __init__(self, storage: str, *, polling: Sequence[str] = (), label: str = "") -> None:
        """Choose the storage `sqlite` or `files`, and with `polling` options of the consumer that `label` names."""
        self.name = ", ".join(["Huey", "SQLite" if storage == "sqlite" else "files", *([label] if label else [])])
        self._storage = storage
        self._consumer = ["-k", "process", "-w", str(PROCESSES), *polling]
        self.options = f"huey_consumer {' '.join(self._consumer)}; all else by default"
        self._app: Any = None

    def versions(self) -> dict[str, str]:
        """Return those of Huey and of its storage."""
        found = {"huey": version("huey")}
        return found | {"SQLite": sqlite3.sqlite_version} if self._storage == "sqlite" else found

    def set_up(self, directory: Path) -> None:
        """Make the storage; ask SQLite how it keeps what is committed."""
        self._directory = directory
        self._app, self._task = _opened(self._storage, directory)
        if self._storage == "sqlite":
            [[journal]] = self._app.storage.sql("pragma journal_mode", results=True)
            [[level]] = self._app.storage.sql("pragma synchronous", results=True)
            self.submit_is = self.end_is = SYNCED if level >= FULL else UNSYNCED
            consumer = f"huey_consumer {' '.join(self._consumer)}"
            self.options = f"{consumer}; all else by default: journal_mode {journal}, synchronous {SYNCHRONOUS[level]}"

    def submit(self, number: int) -> None:
        """Submit one job."""
        self._task(number)

    def start_worker(self) -> None:
        """Start the consumer as its command does."""
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "benchmarks.contestants.huey_app.app"]
        self.start([*command, *self._consumer], self._directory, {STORAGE: self._storage})

    def tear_down(self) -> None:
        """End the consumer, and close the database."""
        self.stop_worker()
        if self._app is not None:
            self._app.storage.close()


def opened_here() -> Any:  # noqa: ANN401 - Huey has no types
    """Return the Huey in the current directory: what the consumer runs."""
    return _opened(os.environ[STORAGE], Path.cwd())[0]


def _opened(storage: str, directory: Path) -> tuple[Any, Any]:
    """Return a Huey on this storage in this directory, and the job as a task of it."""
    huey: Any = importlib.import_module("huey")  # an optional package without types
    if storage == "sqlite":
        app = huey.SqliteHuey("benchmark", filename=str(directory / "huey.db"))
    else:
        app = huey.FileHuey("benchmark", path=str(directory / "huey"))
    return app, app.task()(note)
