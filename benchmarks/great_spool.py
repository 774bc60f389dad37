"""A spool with very many jobs in it: made once, and looked at by several measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import filling
from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.measures import below, say

if TYPE_CHECKING:
    from pathlib import Path

FIRST_DONE, FIRST_DELAYED, FIRST_NEW = 10**10, 2 * 10**10, 3 * 10**10  # numbers of jobs that do not run


class GreatSpool:
    """Filled when it is first asked for. Whoever starts something in it ends it, too."""

    def __init__(self, *, done: int, delayed: int, waiting: int) -> None:
        """Do not exist yet, but know how many jobs shall be in it."""
        self.done, self.delayed, self.waiting = done, delayed, waiting
        self.examples: dict[str, str] = {}
        self._made: Bgjobs | None = None

    def get(self, directory: Path) -> Bgjobs:
        """Return it, filled."""
        if self._made is None:
            self._made = Bgjobs("os", limited=False)
            self._made.set_up(below(directory))
            self._fill(self._made)
        return self._made

    def _fill(self, made: Bgjobs) -> None:
        say("great spool: it is filled")
        self.examples["done"] = filling.finish(made.queue, self.done, FIRST_DONE)
        say(f"great spool: {self.done:,} jobs are done")
        self.examples["delayed"] = filling.delay(made.queue, self.delayed, FIRST_DELAYED)
        say(f"great spool: {self.delayed:,} jobs are delayed")
        filling.submit(made.queue, self.waiting)
        say(f"great spool: {self.waiting:,} jobs wait")

    def top_up(self) -> None:
        """Replace the jobs that were run meanwhile; the last of the new ones is an example."""
        made = self._made
        assert made is not None
        missing = max(1, self.waiting + self.delayed - made.waiting())
        self.examples["waiting"] = filling.submit(made.queue, missing, FIRST_NEW)
