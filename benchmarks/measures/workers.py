"""How fast several workers are on one spool, and whether each gets its share."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effects, fault, rate
from benchmarks.measures import Measure, Row, Taken, at_work, below, broken, say
from bgjobs.job import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

PATIENCE_S = 60.0
SOON_S = 0.05
GROUP = 1000
FILL_PER_S = 2000  # jobs: slower than any disk


class Workers(Measure):
    """Lets so many workers wait for jobs that become due all at once."""

    name = "workers"
    title = "Workers on one spool, one runner each, every effect verified (jobs/s of all together, more is better)"

    def rounds(self, sizes: Sizes) -> int:
        """Take part in a few: sixteen workers take their time to start."""
        return min(sizes.rounds, sizes.crew_rounds)

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Measure each number of workers on a spool of its own."""
        for contestant in contestants:
            for crew in sizes.crews:
                name = _row(crew)
                say(f"{self.name}: {name}")
                try:
                    with at_work(contestant, here := below(directory)):
                        taken = _together(contestant, crew, Effects(here), sizes)
                except Exception as error:  # noqa: BLE001 - one that breaks down is out, and the others go on
                    taken = broken(error)
                yield Row(name=name, durability=contestant.end_is, taken=taken)

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Say also how unequal the shares were, in percent of all jobs."""
        least = min(min(sample.raw["shares"]) for sample in samples)
        most = max(max(sample.raw["shares"]) for sample in samples)
        return super().summary(samples) | {"least share, %": least, "greatest, %": most}

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with one worker alone."""
        return {f"× {_row(1)}": _row(1)}


def ready(contestant: Bgjobs, count: int) -> None:
    """Wait until so many workers are there. Raises RuntimeError."""
    give_up = time.monotonic() + PATIENCE_S
    while sum(worker.alive for worker in contestant.queue.workers()) < count:
        if time.monotonic() > give_up:
            raise RuntimeError(f"{count} workers were not there after {PATIENCE_S:.0f} s")
        time.sleep(SOON_S)


def _together(contestant: Contestant, crew: int, effects: Effects, sizes: Sizes) -> Taken:
    assert isinstance(contestant, Bgjobs)
    for _ in range(crew):
        contestant.add_worker(concurrency=1)
    ready(contestant, crew)
    time.sleep(sizes.settle_s * (1 + crew))  # their runners start
    # All in the queue before the first may run: nobody's submitting is in the figure.
    due = datetime.now(UTC) + timedelta(seconds=1 + sizes.shared / FILL_PER_S)
    for first in range(0, sizes.shared, GROUP):
        contestant.submit_with(range(first, min(first + GROUP, sizes.shared)), at=due)
    if datetime.now(UTC) > due:
        raise RuntimeError("the machine is too busy to submit the jobs before they are due")
    effects.wait_for(sizes.shared)
    contestant.stop_worker()
    found = effects.read()
    wrong = fault(found, range(sizes.shared))
    if wrong:
        return Taken(fault=wrong)
    shares = Counter(job.attempts[-1].worker for job in contestant.queue.jobs(state=State.DONE))
    counts = sorted([*shares.values(), *([0] * (crew - len(shares)))])
    percents = tuple(100 * count / sizes.shared for count in counts)
    return Taken(figure=rate(found, processes=0).per_second, raw={"shares": percents})


def _row(crew: int) -> str:
    return f"bgjobs, {crew} worker{'s' if crew > 1 else ''}"
