"""What a worker costs that has nothing to do, and how soon it starts a job that comes after a long quiet."""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import costs
from benchmarks.effects import Effects, fault
from benchmarks.measures import REFERENCE, Measure, Row, Taken, another, at_work, below, broken, say
from benchmarks.measures.latency import warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes


class Idler(NamedTuple):
    """A contestant whose worker has run some jobs, and now has nothing to do."""

    contestant: Contestant
    effects: Effects
    warm: int


class Quiet(Measure):
    """Lets all workers be idle side by side; then each gets one job, one after the other."""

    name = "quiet"
    title = "A worker with nothing to do for 25 s, then one job (less is better)"

    def rounds(self, sizes: Sizes) -> int:
        """Take part in a few: a round takes long."""
        return min(sizes.rounds, sizes.quiet_rounds)

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Start them, wait, look what they have cost meanwhile, and submit the jobs."""
        with ExitStack() as stack:
            idlers: list[Idler] = []
            for contestant in map(another, contestants):
                say(f"{self.name}: {contestant.name}")
                try:
                    idlers.append(_warmed_up(contestant, below(directory), stack))
                except Exception as error:  # noqa: BLE001 - one that breaks down is out, and the others go on
                    yield Row(name=contestant.name, durability=contestant.submit_is, taken=broken(error))
            say(f"{self.name}: waiting for {sizes.quiet_s:.0f} s")
            costly = _idle(idlers, sizes)
            for idler, (cpu_s, memory) in zip(idlers, costly, strict=True):
                taken = _wake(idler, cpu_s, memory)
                yield Row(name=idler.contestant.name, durability=idler.contestant.submit_is, taken=taken)

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Take the medians, and of the lone jobs the slowest, too."""
        return {
            "CPU, s in 20 s": median(sample.raw["cpu_s"][0] for sample in samples),
            "memory, MiB": median(sample.raw["memory_mib"][0] for sample in samples),
            "lone job, ms": median(sample.figure for sample in samples),
            "max": max(sample.figure for sample in samples),
        }

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare the lone jobs."""
        return {f"lone × {REFERENCE}": REFERENCE}


def _warmed_up(contestant: Contestant, directory: Path, stack: ExitStack) -> Idler:
    stack.enter_context(at_work(contestant, directory))
    effects = Effects(directory)
    contestant.start_worker()
    return Idler(contestant, effects, warm_up(contestant, effects))


def _idle(idlers: Sequence[Idler], sizes: Sizes) -> list[tuple[float, float]]:
    """Do nothing for a while; return what each has cost meanwhile, in seconds of CPU and MiB."""
    time.sleep(sizes.quiet_s - sizes.idle_s)
    before = [costs.cpu_time(idler.contestant.pids()) for idler in idlers]
    time.sleep(sizes.idle_s)
    pids = [idler.contestant.pids() for idler in idlers]
    spent = [costs.between(first, costs.cpu_time(now)) for first, now in zip(before, pids, strict=True)]
    return list(zip(spent, map(costs.memory, pids), strict=True))


def _wake(idler: Idler, cpu_s: float, memory: float) -> Taken:
    """Submit one job, and see when it starts."""
    before = time.monotonic_ns()
    idler.contestant.submit(0)
    idler.effects.wait_for(idler.warm + 1)
    found = idler.effects.read()
    wrong = fault(found, range(-idler.warm, 1))
    if wrong:
        return Taken(fault=wrong)
    [started] = [effect.started_ns for effect in found if effect.number == 0]
    return Taken(figure=(started - before) / 1e6, raw={"cpu_s": (cpu_s,), "memory_mib": (memory,)})
