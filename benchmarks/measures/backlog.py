"""How fast jobs are run from the head of a long queue."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import costs
from benchmarks.contestants import PROCESSES, Contestant
from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effects, fault, rate
from benchmarks.measures import Measure, Row, Taken, another, at_work, below, broken, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.great_spool import GreatSpool
    from benchmarks.sizes import Sizes

GROUP = 1000


class Line:
    """A queue in which at least so many jobs always wait. What is run is replaced before the next measurement."""

    def __init__(
        self, contestant: Contestant, directory: Path, waiting: int, *, already: int = 0, beside: int = 0
    ) -> None:
        """Take a contestant that was set up in this directory.

        `already` are its jobs by now, and `beside` those that are not to run.
        """
        self.contestant = contestant
        self.waiting = waiting
        self.effects = Effects(directory)
        self._submitted, self._beside = already, beside
        self.rates: list[float] = []
        self.memory: list[float] = []
        self.fault = ""

    def measure(self, head: int, within_s: float) -> None:
        """Run so many jobs from the head, or those that get run in this time, and note how fast that was."""
        if self.fault:
            return
        try:
            self._measure(head, within_s)
        except Exception as error:  # noqa: BLE001 - one that breaks down is out, and the others go on
            self.fault = broken(error).fault

    def _measure(self, head: int, within_s: float) -> None:
        before = self.effects.count()
        self._fill(before + self.waiting + head)
        try:
            self.contestant.start_worker()
            self.effects.wait_for(before + 1)
            self.effects.wait_for(before + head, within_s)
            enough = self.effects.count()
            self.memory.append(costs.memory(self.contestant.pids()))
        finally:
            self.contestant.stop_worker()
        self.rates.append(rate(self.effects.read(skip=before)[: enough - before], PROCESSES).per_second)

    def taken(self) -> Taken:
        """Return all of it, or what is wrong: a job ran twice, or neither ran nor waits, where that can be asked."""
        found = self.effects.read()
        ran = {effect.number for effect in found}
        wrong = self.fault or fault(found, ran & set(range(self._submitted)))
        if isinstance(self.contestant, Bgjobs) and not wrong:
            missing = self._submitted + self._beside - len(ran) - self.contestant.waiting()
            wrong = f"{missing} lost" if missing else ""
        raw = {"waiting": (float(self.waiting),), "per_s": tuple(self.rates), "memory_mib": tuple(self.memory)}
        return Taken(fault=wrong) if wrong else Taken(figure=median(self.rates), raw=raw)

    def _fill(self, count: int) -> None:
        while self._submitted < count:
            last = min(self._submitted + GROUP, count)
            self.contestant.submit_many(range(self._submitted, last))
            self._submitted = last


class Backlog(Measure):
    """Measures each length of the queue in turn, in several passes. The longest one is that of the great spool."""

    name = "backlog"
    title = f"Drain from the head of a long queue with {PROCESSES} processes (jobs/s, more is better)"
    late = True

    def __init__(self, great: GreatSpool) -> None:
        """Share this one with others."""
        self._great = great
        self._first: dict[str, str] = {}

    def rounds(self, sizes: Sizes) -> int:
        """Take part once, with passes of its own: filling takes long."""
        return min(sizes.rounds, 1)

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Fill all queues, then go through them again and again; so a slow minute is one for all."""
        with ExitStack() as stack:
            lines = dict(self._lines(contestants, directory, sizes, stack))
            for number in range(sizes.passes):
                for name, line in lines.items():
                    ours = isinstance(line.contestant, Bgjobs)
                    if ours or number == 0:
                        say(f"{self.name}: {name}")
                        line.measure(sizes.head if ours else sizes.peer_head, sizes.head_s)
            for name, line in lines.items():
                yield Row(name=name, durability=line.contestant.end_is, taken=line.taken())

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Take all passes together, and the greatest memory."""
        rates = [rate for sample in samples for rate in sample.raw["per_s"]]
        memory = max(figure for sample in samples for figure in sample.raw["memory_mib"])
        return {"median": median(rates), "min": min(rates), "max": max(rates), "memory, MiB": memory}

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with the shortest queue of the same contestant."""
        return {"× the shortest": self._first[row]}

    def _lines(
        self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes, stack: ExitStack
    ) -> Iterator[tuple[str, Line]]:
        for contestant in contestants:
            ours = isinstance(contestant, Bgjobs)
            for waiting in sizes.backlogs:
                if not ours and waiting > sizes.peer_backlog:
                    continue
                name = f"{contestant.name}, {waiting:,} waiting"
                say(f"{self.name}: {name}: it is filled")
                if ours and waiting == self._great.waiting:
                    name += f", {self._great.delayed:,} delayed" if self._great.delayed else ""
                    great = self._great.get(directory)
                    line = Line(great, great.directory, waiting, already=waiting, beside=self._great.delayed)
                else:
                    one, here = another(contestant), below(directory)
                    stack.enter_context(at_work(one, here))
                    line = Line(one, here, waiting)
                self._first[name] = f"{contestant.name}, {sizes.backlogs[0]:,} waiting"
                yield name, line
