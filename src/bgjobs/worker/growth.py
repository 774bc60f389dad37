"""Tell whether a runner has grown so much that a fresh process should take its place."""

from __future__ import annotations

from contextlib import suppress

from bgjobs import system

LEAST = 128 * 1024 * 1024  # bytes: less than that is no growth
LOOK_EVERY = 64  # jobs; to look takes as long as a part of a trivial one
LONG_S = 0.01  # after a job that took so long, each look is cheap


class Growth:
    """The memory of this process against what it was when the modules of its jobs had been imported."""

    def __init__(self) -> None:
        """Begin with what it has now."""
        self._jobs = 0
        self.remember()

    def remember(self) -> None:
        """Take the memory as it is now for what this process needs."""
        self._size = 0
        with suppress(OSError):
            self._size = system.memory()

    def is_too_much(self, took: float) -> bool:
        """Tell whether it has more than doubled, and by `LEAST` at least, after a job that took so many seconds."""
        self._jobs += 1
        if self._jobs % LOOK_EVERY and took < LONG_S:
            return False
        try:
            return system.memory() > self._size + max(LEAST, self._size) and self._size > 0
        except OSError:
            return False  # the attempt has hidden it, or taken the last descriptor
