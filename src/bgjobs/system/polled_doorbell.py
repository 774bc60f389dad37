"""Wake a sleeping worker by touching a file: the part that works everywhere."""

from __future__ import annotations

import contextlib
import os


def ring(path: str) -> None:
    """Touch the doorbell file, so that every worker that listens to it looks for work.

    Never fails: a ring that is lost costs a worker one turn of its regular looking about.
    """
    with contextlib.suppress(OSError):
        os.utime(path)


class PolledDoorbell:
    """Listens to a doorbell file by looking at its time of change. Two rings within one tick may count as one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._changed()

    def fileno(self) -> int | None:
        """Return None: there is nothing to wait for, somebody has to ask."""
        return None

    def ringing(self) -> bool:
        """Tell whether it rang since the last `rang()`, and leave it ringing."""
        return self._changed() != self._seen

    def rang(self) -> bool:
        """Tell whether it rang since the last time, and stop the ringing."""
        now = self._changed()
        rang = now != self._seen
        self._seen = now
        return rang

    def close(self) -> None:
        """Stop listening."""

    def _changed(self) -> int | None:
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return None
