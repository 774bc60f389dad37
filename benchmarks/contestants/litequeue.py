"""litequeue: a queue in an SQLite table."""

from __future__ import annotations

import importlib
import sqlite3
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import UNSYNCED
from benchmarks.contestants.queue_only import LOOP, QueueOnly
from benchmarks.work import note

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def is_here() -> bool:
    """Tell whether litequeue is installed."""
    return find_spec("litequeue") is not None


class Litequeue(QueueOnly):
    """As it is made by default: SQLite syncs nothing before a checkpoint. A job that has ended stays as a row."""

    name = "litequeue (queue only)"
    submit_is = end_is = UNSYNCED
    options = f"all by default: journal_mode wal, synchronous NORMAL; {LOOP}; jobs are marked as done and kept"
    bulk = True
    _queue: Any = None

    def versions(self) -> dict[str, str]:
        """Return those of litequeue and SQLite."""
        return {"litequeue": version("litequeue"), "SQLite": sqlite3.sqlite_version}

    def open(self, directory: Path) -> None:
        """Open the database, which makes it."""
        litequeue: Any = importlib.import_module("litequeue")  # an optional package without types
        self._queue = litequeue.LiteQueue(directory / "litequeue.db")

    def submit(self, number: int) -> None:
        """Put one job."""
        self._queue.put(str(number))

    def submit_many(self, numbers: Sequence[int]) -> None:
        """Put all in one transaction."""
        with self._queue.transaction():
            super().submit_many(numbers)

    def run_all(self) -> None:
        """Pop, run, mark as done."""
        while job := self._queue.pop():
            note(int(job.data))
            self._queue.done(job.message_id)

    def tear_down(self) -> None:
        """End the worker, and close the database."""
        super().tear_down()
        if self._queue is not None:
            self._queue.close()
