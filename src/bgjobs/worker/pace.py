"""How far to work ahead: the shorter jobs are, the more are claimed at once and sent to a runner in advance.

A long job must not keep others waiting behind it, so with jobs of more than a few milliseconds nothing is sent ahead.
"""

from __future__ import annotations

import time

WINDOW_S = 0.05
MOST_CLAIMED = 256
MOST_SENT = 64
SHORT_S = 0.005
SENT_S = 0.02  # about so much work may lie in a runner's hands
MEMORY = 0.2


class Pace:
    """Watches how many jobs end, and how long they take."""

    def __init__(self) -> None:
        """Nothing has ended yet: send nothing ahead."""
        self._began = time.monotonic()
        self._count = 0
        self._before = 0
        self._mean_s = SHORT_S

    def count(self, took_s: float) -> None:
        """One more job has ended, after so many seconds."""
        self._turn()
        self._count += 1
        self._mean_s += MEMORY * (took_s - self._mean_s)

    def depth(self) -> int:
        """Return how many jobs a runner may hold."""
        if self._mean_s >= SHORT_S:
            return 1
        return min(MOST_SENT, int(SENT_S / max(self._mean_s, SENT_S / MOST_SENT)))

    def batch(self, room: int) -> int:
        """Return how many jobs to claim when the runners have so much room: also what the next moment will use up."""
        self._turn()
        return max(room, min(MOST_CLAIMED, 2 * max(self._count, self._before)))

    def _turn(self) -> None:
        now = time.monotonic()
        windows = int((now - self._began) / WINDOW_S)
        if windows:
            self._before = self._count if windows == 1 else 0
            self._began, self._count = now, 0
