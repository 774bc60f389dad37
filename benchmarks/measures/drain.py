"""How many trivial jobs per second two processes run, each of them exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PROCESSES
from benchmarks.effects import Effects, Rate, fault, rate
from benchmarks.measures import OneByOne, Taken, is_essential

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

PART = 10


class Drain(OneByOne):
    """Fills the queue, starts a worker, and reads from the effects how fast it was."""

    name = "drain"
    title = f"Drain with {PROCESSES} processes, every effect verified (jobs/s, more is better)"

    def __init__(self) -> None:
        """Know of nobody how fast it is."""
        super().__init__()
        self._jobs: dict[str, int] = {}

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Count from the moment at which all processes are at work: no start is in it."""
        effects, few = Effects(directory), max(PART, sizes.drained // PART)
        count = self._jobs.get(contestant.name) or (sizes.drained if is_essential(contestant.name) else few)
        wrong, reached = _drain(contestant, effects, range(count))
        if contestant.name not in self._jobs and not wrong:
            # A slow peer stays with the few; else all of them would have to wait for it.
            fast = sizes.drained / reached.per_second <= sizes.drain_s
            self._jobs[contestant.name] = sizes.drained if fast else count
            if fast and count < sizes.drained:
                wrong, reached = _drain(contestant, effects, range(count, count + sizes.drained))
        if wrong:
            return Taken(fault=wrong)
        raw = {"jobs": (reached.jobs,), "seconds": (reached.seconds,), "processes": (reached.processes,)}
        return Taken(figure=reached.per_second, raw={name: tuple(map(float, values)) for name, values in raw.items()})

    def durability(self, contestant: Contestant) -> str:
        """Return whether what became of the jobs is on the disk."""
        return contestant.end_is

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Say also how many jobs it were."""
        return super().summary(samples) | {"jobs": samples[0].raw["jobs"][0]}


def _drain(contestant: Contestant, effects: Effects, numbers: range) -> tuple[str, Rate]:
    """Submit these, run them, and return what is wrong, and how fast it was."""
    before = effects.count()
    for number in numbers:
        contestant.submit(number)
    contestant.start_worker()
    effects.wait_for(before + len(numbers))
    contestant.stop_worker()  # what it runs a second time shows by now
    found = effects.read(skip=before)
    wrong = fault(found, numbers)
    return wrong, Rate(0, 1, 0) if wrong else rate(found, PROCESSES)
