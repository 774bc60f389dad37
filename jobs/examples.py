"""The smallest jobs there are: one that works, one that fails, one that takes a while."""

from __future__ import annotations

import time

from bgjobs import current_job


class ExampleJob:
    """The shape of every job: a class that can be made without arguments, and a method."""

    def handle(self, param1: str, param2: str = "nothing else") -> str:
        """Say what it was given; the second argument may be left out."""
        text = f"got {param1} and {param2}"
        print(text)
        return text


class ErrorJob:
    """A job that always fails."""

    def handle(self) -> None:
        """Raise, to see what becomes of a job that does: `bgjobs status ID`, `bgjobs logs --errors`."""
        raise RuntimeError("this job always fails")


class DelayedJob:
    """A job that takes a while, and says how far it is."""

    def handle(self, steps: int = 10, seconds: float = 2.0) -> int:
        """Work through some steps in so many seconds in all; `bgjobs wait ID` draws the progress."""
        for step in range(1, steps + 1):
            time.sleep(seconds / steps)
            current_job().progress(step, steps, f"step {step} of {steps}")
        return steps
