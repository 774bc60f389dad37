"""persist-queue: its queue on SQLite whose jobs are acknowledged."""

from __future__ import annotations

import importlib
import os
import sqlite3
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import SYNCED, UNSYNCED
from benchmarks.contestants.queue_only import LOOP, QueueOnly
from benchmarks.work import note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = 2


def is_here() -> bool:
    """Tell whether persist-queue is installed."""
    return find_spec("persistqueue") is not None


class PersistQueue(QueueOnly):
    """It is made for the threads of one process. Two processes need a lock around each claim, which is ours.

    Without, both read the same row before either marks it. And each that opens the queue would take back what the
    others run now, if it were not told otherwise. A job that has ended stays as a row.
    """

    name = "persist-queue, SQLite (queue only)"
    drained_at_most = 1000
    options = (
        "SQLiteAckQueue, auto_resume False, a lock of ours around each claim (two processes would run a job twice); "
        f"all else by default: journal_mode wal, synchronous as SQLite; {LOOP}; jobs are marked as done and kept; "
        f"drains {drained_at_most} jobs"
    )
    _queue: Any = None

    def __init__(self) -> None:
        """Ask SQLite how it keeps what is committed."""
        with closing(sqlite3.connect(":memory:")) as any_one:
            [[level]] = any_one.execute("pragma synchronous")
        self.submit_is = self.end_is = SYNCED if level >= FULL else UNSYNCED

    def versions(self) -> dict[str, str]:
        """Return those of persist-queue and SQLite."""
        return {"persist-queue": version("persist-queue"), "SQLite": sqlite3.sqlite_version}

    def open(self, directory: Path) -> None:
        """Open the database, which makes it, and the file that is locked."""
        self._module: Any = importlib.import_module("persistqueue")  # an optional package without types
        self._queue = self._module.SQLiteAckQueue(str(directory / "persist-queue"), auto_resume=False)
        self._lock = os.open(directory / "claims.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def submit(self, number: int) -> None:
        """Put one job."""
        self._queue.put(number)

    def run_all(self) -> None:
        """Get, run, acknowledge."""
        while True:
            with self._claiming():
                try:
                    job = self._queue.get(block=False, raw=True)
                except self._module.Empty:
                    return
            note(job["data"])
            self._queue.ack(id=job["pqid"])

    def tear_down(self) -> None:
        """End the worker, and close what is open."""
        super().tear_down()
        if self._queue is not None:
            self._queue.close()
            os.close(self._lock)
            self._queue = None

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        import fcntl  # noqa: PLC0415 - Windows has none, and only needs to import this file

        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
