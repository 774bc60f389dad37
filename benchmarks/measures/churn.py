"""Whether submitting stays as fast as it was, while jobs are run and deleted all the time."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effect, Effects, fault
from benchmarks.measures import OneByOne, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

PERIODS = 10
LEAD = 1.5  # times the age at which jobs are deleted
MOST, FEW = 2000, 1000  # jobs that wait: at most so many, then none is submitted until there are only few
LOOK_AFTER = 50  # jobs
PAUSE_S = 0.01
PATIENCE_S = 60.0


class Churn(OneByOne):
    """One process submits, a worker runs the jobs, and those that ended some time ago are deleted."""

    name = "churn"
    title = "Steady churn: submit, run and prune at once, in ten parts (jobs/s, more is better)"
    late = True

    def rounds(self, sizes: Sizes) -> int:
        """Take part once."""
        return min(sizes.rounds, 1) if sizes.churn_s else 0

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Count what was submitted by the time spent in the calls, so that waiting for the worker is not in it."""
        assert isinstance(contestant, Bgjobs)
        effects, pruner = Effects(directory), Pruner(contestant, sizes.churn_keep_s)
        contestant.start_worker()
        # The first jobs are run and deleted before it counts.
        began = time.monotonic_ns() + int(LEAD * sizes.churn_keep_s * 1e9)
        try:
            calls = _submit_all_the_time(contestant, effects, pruner, began + int(sizes.churn_s * 1e9))
        finally:
            pruner.stop()
        effects.wait_for(len(calls))
        contestant.stop_worker()
        found = effects.read()
        wrong = fault(found, range(len(calls))) or pruner.trouble
        return Taken(fault=wrong) if wrong else _taken(calls, found, pruner.deleted, began, sizes)

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Show the first part and the last."""
        [raw] = [sample.raw for sample in samples]
        return {
            "submit, first": raw["submitted_per_s"][0],
            "submit, last": raw["submitted_per_s"][-1],
            "last / first": samples[0].figure,
            "run, first": raw["run_per_s"][0],
            "run, last": raw["run_per_s"][-1],
            "pruned, jobs": raw["pruned"][0],
        }

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with nobody but itself."""
        return {}


class Pruner:
    """Deletes jobs that ended so many seconds ago, by the command that anyone would use, again and again."""

    def __init__(self, contestant: Bgjobs, keep_s: float) -> None:
        """Start the first one after that time."""
        self.deleted, self.trouble = 0, ""
        self._command = contestant.command("prune", "--older", f"{keep_s}s", "--state", "done")
        self._directory = contestant.directory
        self._keep_s = keep_s
        self._next = time.monotonic() + keep_s
        self._running: subprocess.Popen[str] | None = None

    def check(self) -> None:
        """Start one when it is time and none is at work."""
        if self._running is not None and self._running.poll() is not None:
            self._ended()
        if self._running is None and time.monotonic() > self._next:
            self._next = time.monotonic() + self._keep_s
            self._running = subprocess.Popen(
                self._command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
            )

    def stop(self) -> None:
        """Wait until the last one has ended."""
        if self._running is not None:
            self._ended()

    def _ended(self) -> None:
        assert self._running is not None
        said, _ = self._running.communicate(timeout=PATIENCE_S)
        if self._running.returncode == 0:
            self.deleted += int(said.split()[0])
        else:
            self.trouble = f"prune ended with {self._running.returncode}"
        self._running = None


def _submit_all_the_time(contestant: Contestant, effects: Effects, pruner: Pruner, until: int) -> list[tuple[int, int]]:
    """Submit until this moment, but never have too many waiting; return begin and end of each call in ns."""
    calls: list[tuple[int, int]] = []
    while time.monotonic_ns() < until:
        for _ in range(LOOK_AFTER):
            before = time.monotonic_ns()
            contestant.submit(len(calls))
            calls.append((before, time.monotonic_ns()))
        pruner.check()
        if len(calls) - effects.count() > MOST:
            while len(calls) - effects.count() > FEW and time.monotonic_ns() < until:
                time.sleep(PAUSE_S)
                pruner.check()
    return calls


def _taken(calls: Sequence[tuple[int, int]], found: Sequence[Effect], deleted: int, began: int, sizes: Sizes) -> Taken:
    part_ns = sizes.churn_s * 1e9 / PERIODS
    submitted, inside, run = Counter[int](), Counter[int](), Counter[int]()
    for before, after in calls:
        part = int((before - began) // part_ns)
        submitted[part] += 1
        inside[part] += after - before
    for effect in found:
        run[int((effect.started_ns - began) // part_ns)] += 1
    rates = tuple(submitted[part] / (inside[part] / 1e9) if inside[part] else 0.0 for part in range(PERIODS))
    raw = {
        "part_s": (part_ns / 1e9,),
        "submitted_per_s": rates,
        "run_per_s": tuple(run[part] / (part_ns / 1e9) for part in range(PERIODS)),
        "pruned": (float(deleted),),
    }
    return Taken(figure=rates[-1] / rates[0], raw=raw)
