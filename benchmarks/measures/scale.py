"""How long the commands take on a spool with very many jobs."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.effects import Effects
from benchmarks.measures import Measure, Row, Taken, broken, say
from benchmarks.measures.commands import installed, milliseconds
from benchmarks.work import LONG
from bgjobs.job import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.contestants.bgjobs import Bgjobs
    from benchmarks.great_spool import GreatSpool
    from benchmarks.sizes import Sizes

FIRST, AGAIN = "bgjobs status, the first time", "bgjobs status, again"
SOON_S = 0.05


class Scale(Measure):
    """Starts one command after the other on the great spool. Only the running job has a worker."""

    name = "scale"
    late = True

    def __init__(self, great: GreatSpool) -> None:
        """Share this one with others."""
        self._great = great
        counts = f"{great.waiting:,} waiting, {great.delayed:,} delayed and {great.done:,} done jobs"
        self.title = f"Whole process of a command, with {counts} (ms, less is better)"

    def rounds(self, sizes: Sizes) -> int:
        """Take part once: the first time comes only once."""
        return min(sizes.rounds, 1)

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:  # noqa: ARG002 - the interface
        """Begin with the status, of which nothing was kept yet."""
        spool = self._great.get(directory)
        self._great.top_up()
        say(f"{self.name}: status")
        yield _timed(spool, FIRST, [["status"]])
        yield _timed(spool, AGAIN, [["status"]] * sizes.looks)
        wrong = self._counted_wrongly(spool)
        if wrong:
            yield Row(name="bgjobs status --json", taken=Taken(fault=wrong))
        for what in ("waiting", "delayed", "done"):
            say(f"{self.name}: {what} job")
            yield _timed(spool, f"bgjobs status ID, {what}", [["status", self._great.examples[what]]] * sizes.looks)
        yield from _of_a_running_job(spool, sizes.looks)
        say(f"{self.name}: others")
        yield _timed(spool, "bgjobs submit", [["submit", "Work", "note", "1"]] * sizes.looks)
        yield _timed(spool, "bgjobs list --limit 20", [["list", "--limit", "20"]] * sizes.looks)
        yield _timed(spool, "bgjobs wait ID, done", [["wait", self._great.examples["done"]]] * sizes.looks)
        yield _timed(spool, "bgjobs cancel ID, waiting", [["cancel", self._great.examples["waiting"]]])
        yield _timed(spool, "bgjobs cancel ID, delayed", [["cancel", self._great.examples["delayed"]]])

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Take all runs together."""
        every = [took for sample in samples for took in sample.raw["ms"]]
        return {"median": median(every), "min": min(every), "max": max(every)}

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with nobody."""
        return {}

    def _counted_wrongly(self, spool: Bgjobs) -> str:
        """Return what is wrong with the counts: a quick status may not be a false one."""
        command = [*installed("bgjobs"), "status", "--json"]
        said = subprocess.run(command, cwd=spool.directory, stdout=subprocess.PIPE, check=True)
        counts = Counter(json.loads(said.stdout)["counts"])
        # Other measures may have run jobs here: as many were put in their place.
        least = {"queued": self._great.waiting, "done": self._great.done}
        wrong = [f"{counts[state]} {state}" for state, count in least.items() if counts[state] < count]
        if counts["scheduled"] != self._great.delayed:
            wrong.append(f"{counts['scheduled']} scheduled")
        return ", ".join(wrong)


def _timed(spool: Bgjobs, name: str, runs: Sequence[Sequence[str]]) -> Row:
    try:
        took = tuple(milliseconds([*installed("bgjobs"), *arguments], spool.directory) for arguments in runs)
    except RuntimeError as error:
        return Row(name=name, taken=broken(error))
    return Row(name=name, taken=Taken(figure=median(took), raw={"ms": took}))


def _of_a_running_job(spool: Bgjobs, looks: int) -> Iterator[Row]:
    """Let one worker run one long job, so that nothing else moves, and ask for it."""
    say("scale: running job")
    effects = Effects(spool.directory)
    before = effects.count()
    [job] = spool.submit_with([LONG], priority="high")
    try:
        spool.add_worker(concurrency=1)
        effects.wait_for(before + 1)
        if spool.queue.get(job.id).state is not State.RUNNING:
            yield Row(name="bgjobs status ID, running", taken=Taken(fault="the job does not run"))
            return
        time.sleep(SOON_S)
        yield _timed(spool, "bgjobs status ID, running", [["status", job.id]] * looks)
    finally:
        spool.kill_worker()
