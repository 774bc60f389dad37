"""How many jobs to claim at once: one for each free runner, more when jobs are short."""

from __future__ import annotations

import time

WINDOW_S = 0.05
MOST = 256


class Pace:
    """Counts how many jobs ended within the last moments."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self._began = time.monotonic()
        self._count = 0
        self._before = 0

    def count(self) -> None:
        """One more job has ended."""
        self._turn()
        self._count += 1

    def batch(self, free: int) -> int:
        """Return how many to claim for so many free runners: twice what one moment uses up, within limits."""
        self._turn()
        return max(free, min(MOST, 2 * max(self._count, self._before)))

    def _turn(self) -> None:
        now = time.monotonic()
        windows = int((now - self._began) / WINDOW_S)
        if windows:
            self._before = self._count if windows == 1 else 0
            self._began, self._count = now, 0
