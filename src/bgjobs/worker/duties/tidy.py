"""Delete old jobs now and then, a little at a time, so that the worker goes on with its jobs meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY_S = 600.0
FIRST_S = 30.0  # a worker that has just started has better things to do
SLICE_S, PAUSE_S = 0.02, 0.2


class Tidy:
    """Runs the steps that delete old jobs: all of them every ten minutes, in slices with pauses between them."""

    def __init__(self, now: float) -> None:
        """Wait a little at first."""
        self._next_at = now + FIRST_S
        self._steps: Iterator[int] | None = None

    def run(self, begin: Callable[[], Iterator[int]], clock: Callable[[], float]) -> None:
        """Begin the steps when it is time, or go on with them, for one slice. `clock` is asked after each step."""
        now = clock()
        if now < self._next_at:
            return
        steps = begin() if self._steps is None else self._steps
        self._steps, self._next_at = None, now + EVERY_S  # so also when a step fails
        for _ in steps:
            if clock() - now >= SLICE_S:
                self._steps, self._next_at = steps, now + PAUSE_S
                return
