"""How many trivial jobs per second two processes run, each of them exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PROCESSES
from benchmarks.effects import Effect, Effects, fault
from benchmarks.measures import Measure, Sizes, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant


class Drain(Measure):
    """Fills the queue, starts a worker, and reads from the effects how fast it was."""

    name = "drain"
    title = f"Drain with {PROCESSES} processes, every effect verified (jobs/s, more is better)"

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Count from the moment at which all processes are at work: no start is in it."""
        effects = Effects(directory)
        count = min(sizes.drained, contestant.drained_at_most)
        for number in range(count):
            contestant.submit(number)
        contestant.start_worker()
        effects.wait_for(count)
        contestant.stop_worker()  # what it runs a second time shows by now
        found = effects.read()
        wrong = fault(found, range(count))
        if wrong:
            return Taken(fault=wrong)
        counted = _at_full_strength(sorted(found, key=lambda effect: effect.started_ns))
        jobs, seconds = len(counted) - 1, (counted[-1].started_ns - counted[0].started_ns) / 1e9
        processes = len({effect.pid for effect in found})
        return Taken(figure=jobs / seconds, raw={"jobs": (jobs,), "seconds": (seconds,), "processes": (processes,)})

    def durability(self, contestant: Contestant) -> str:
        """Return whether what became of the jobs is on the disk."""
        return contestant.end_is


def _at_full_strength(effects: Sequence[Effect]) -> Sequence[Effect]:
    """Leave out what was done before each process had begun its first job."""
    seen: set[int] = set()
    for place, effect in enumerate(effects[: len(effects) // 2]):
        seen.add(effect.pid)
        if len(seen) == PROCESSES:
            return effects[place:]
    return effects  # one did everything, or nearly: then that is how fast it is
