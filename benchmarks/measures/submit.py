"""How many jobs one process can submit, one by one."""

from __future__ import annotations

import gc
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.contestants import SYNCED
from benchmarks.contestants.floors import BOTH, NAMES
from benchmarks.measures import OneByOne, Taken

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

WARM_UP = 50


class Submit(OneByOne):
    """Submits to a queue that has no worker."""

    name = "submit"
    title = "Submit one by one from one process (jobs/s, more is better)"

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:  # noqa: ARG002 - the interface
        """Submit some to warm up, then the others by the clock."""
        for number in range(1, WARM_UP + 1):
            contestant.submit(-number)
        gc.collect()
        moments = [time.perf_counter_ns()]
        for number in range(sizes.submitted):
            contestant.submit(number)
            moments.append(time.perf_counter_ns())
        calls = tuple((after - before) / 1e3 for before, after in pairwise(moments))
        return Taken(figure=sizes.submitted / (sum(calls) / 1e6), raw={"call_us": calls})

    def compared(self, row: str, durability: str) -> dict[str, str]:
        """Compare with the floor of the same durability, too."""
        floor = NAMES[BOTH] if durability == SYNCED else NAMES[0]
        return super().compared(row, durability) | {"× its floor": floor}


class SubmitInMemory(Submit):
    """The same where no disk slows it down."""

    name = "submit-memory"
    title = "Submit one by one, on a file system in memory (jobs/s, more is better)"
    in_memory = True

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with the floor without syncs: here they cost nothing."""
        return super().compared(row, "")
