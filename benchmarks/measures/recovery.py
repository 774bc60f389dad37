"""How long it takes until a job runs again whose worker was killed with all its processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effects
from benchmarks.measures import Measure, Row, Taken, at_work, below, broken, say
from benchmarks.measures.workers import ready
from benchmarks.work import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

ANOTHER, RESTART = "another worker is there", "a worker is started again"


class Recovery(Measure):
    """Kills a worker in the middle of a job."""

    name = "recovery"
    title = "After kill -9 of a worker and all its processes: until its job has begun again (ms, less is better)"

    def __init__(self) -> None:
        """Nobody was asked yet."""
        self._asked: set[str] = set()

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Ask peers once: that is enough to see what they do."""
        for contestant in contestants:
            if contestant.name in self._asked:
                continue
            if isinstance(contestant, Bgjobs):
                yield self._tried(contestant, ANOTHER, _taken_over, below(directory), sizes)
            else:
                self._asked.add(contestant.name)
            yield self._tried(contestant, RESTART, _restarted, below(directory), sizes)

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with nobody: most have nothing to compare with."""
        return {}

    def _tried(
        self,
        contestant: Contestant,
        how: str,
        kill: Callable[[Contestant, Sizes], int],
        directory: Path,
        sizes: Sizes,
    ) -> Row:
        name = f"{contestant.name}: {how}"
        say(f"{self.name}: {name}")
        try:
            with at_work(contestant, directory):
                taken = _again(contestant, kill, Effects(directory), sizes)
        except Exception as error:  # noqa: BLE001 - one that breaks down is out, and the others go on
            taken = broken(error)
        return Row(name=name, durability=contestant.submit_is, taken=taken)


def _again(contestant: Contestant, kill: Callable[[Contestant, Sizes], int], effects: Effects, sizes: Sizes) -> Taken:
    """Let a job begin, kill its worker, and see when it begins again."""
    contestant.start_worker()
    contestant.submit(LONG)
    effects.wait_for(1)
    if effects.count() != 1:
        return Taken(fault="the job did not begin")
    since = kill(contestant, sizes)
    effects.wait_for(2, within_s=sizes.lost_s)
    contestant.kill_worker()
    found = effects.read()
    if len(found) == 1:
        return Taken(answer=f"did not run again within {sizes.lost_s:.0f} s")
    if {effect.number for effect in found} != {LONG} or len(found) > 2:  # noqa: PLR2004 - each time it began
        return Taken(fault="ran again more than once")
    return Taken(figure=(found[1].started_ns - since) / 1e6)


def _taken_over(contestant: Contestant, sizes: Sizes) -> int:
    """Kill the worker of the job beside another one; return when."""
    assert isinstance(contestant, Bgjobs)
    [first] = contestant.workers
    contestant.add_worker()
    ready(contestant, 2)
    time.sleep(sizes.settle_s)
    since = time.monotonic_ns()
    first.kill()
    return since


def _restarted(contestant: Contestant, sizes: Sizes) -> int:
    """Kill the only worker, and start one; return when that was."""
    time.sleep(sizes.settle_s)
    contestant.kill_worker()
    since = time.monotonic_ns()
    contestant.start_worker()
    return since
