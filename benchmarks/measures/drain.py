"""How many trivial jobs per second two processes run, each of them exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PROCESSES
from benchmarks.effects import Effects, fault, rate
from benchmarks.measures import OneByOne, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes


class Drain(OneByOne):
    """Fills the queue, starts a worker, and reads from the effects how fast it was."""

    name = "drain"
    title = f"Drain with {PROCESSES} processes, every effect verified (jobs/s, more is better)"

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Count from the moment at which all processes are at work: no start is in it."""
        effects, numbers = Effects(directory), range(min(sizes.drained, contestant.drained_at_most))
        for number in numbers:
            contestant.submit(number)
        contestant.start_worker()
        effects.wait_for(len(numbers))
        contestant.stop_worker()  # what it runs a second time shows by now
        found = effects.read()
        wrong = fault(found, numbers)
        if wrong:
            return Taken(fault=wrong)
        reached = rate(found, PROCESSES)
        raw: dict[str, tuple[float, ...]] = {"jobs": (reached.jobs,), "seconds": (reached.seconds,)}
        raw["processes"] = (reached.processes,)
        return Taken(figure=reached.per_second, raw=raw)

    def durability(self, contestant: Contestant) -> str:
        """Return whether what became of the jobs is on the disk."""
        return contestant.end_is

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Say also how many jobs it were."""
        return super().summary(samples) | {"jobs": samples[0].raw["jobs"][0]}
