"""Which files in `incoming/` come next: in a spool of our own those that are ours, by age."""

from __future__ import annotations

import os

from bgjobs import disk
from bgjobs.spool import files, layout
from bgjobs.spool.buckets import Listing
from bgjobs.spool.line1 import MOST_LINE_1


class HeldUpError(Exception):
    """The file has to go back to where it was: its owner keeps us from importing it."""


class Arrivals:
    """What has come into `incoming/`, as of the last look."""

    def __init__(self, path: str) -> None:
        """Look at nothing yet."""
        self._path = path
        self._listing = Listing(path)
        self._names: list[str] = []  # seen and not taken yet, the next one last
        self._stuck: set[str] = set()

    def next(self, most: int) -> list[str]:
        """Return the names of at most so many files to take now. Raises OSError."""
        if not self._names and self._listing.stale():
            names = [name for name in self._listing.look() if layout.is_incoming(name)]
            names.sort(key=lambda name: (_changed_ns(os.path.join(self._path, name)), name), reverse=True)
            self._names = names
        chosen = self._names[: -most - 1 : -1]
        del self._names[-most:]
        return chosen

    def put_off(self, name: str) -> None:
        """Name a file that cannot be taken only `again`."""
        self._stuck.add(name)

    def again(self) -> None:
        """Let those be taken that could not be before."""
        self._names += self._stuck
        self._stuck.clear()

    def look_into(self, path: str) -> bytes:
        """Return what is in a file that was not taken yet. Raises OSError, StrangeFileError."""
        return files.read(path, MOST_LINE_1)

    def read(self, path: str, _job_id: str, _name: str) -> tuple[bytes, str | None]:
        """Return what is in a file that was taken, and which other user handed it in: here none may.

        Raises OSError, StrangeFileError, or HeldUpError.
        """
        return files.read(path, MOST_LINE_1), None

    def close(self) -> None:
        """Close what was kept open."""


def _changed_ns(path: str) -> int:
    try:
        return disk.lstat(path).st_mtime_ns
    except OSError:
        return 0  # it is gone, or whoever takes it will see
