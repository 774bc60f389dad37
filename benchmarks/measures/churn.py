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
LEAD = 3  # times the age at which jobs are deleted
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
        parts = Parts(sizes)
        try:
            count = _submit_all_the_time(contestant, effects, pruner, parts)
        finally:
            pruner.stop()
        effects.wait_for(count)
        contestant.stop_worker()
        found = effects.read()
        wrong = fault(found, range(count)) or pruner.trouble
        return Taken(fault=wrong) if wrong else parts.taken(found, pruner.deleted)

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


def _submit_all_the_time(contestant: Contestant, effects: Effects, pruner: Pruner, parts: Parts) -> int:
    """Submit until the last part is over, but never have too many waiting; return how many jobs it were."""
    count = 0
    while parts.last():
        for _ in range(LOOK_AFTER):
            before = time.monotonic_ns()
            contestant.submit(count)
            parts.submitted(before, time.monotonic_ns())
            count += 1
        pruner.check()
        if count - effects.count() > MOST:
            while count - effects.count() > FEW and parts.last():
                time.sleep(PAUSE_S)
                pruner.check()
    return count


class Parts:
    """The ten parts of the time that counts, and what was submitted in each; only sums, for there are a million."""

    def __init__(self, sizes: Sizes) -> None:
        """Begin when the first jobs will have been run and deleted."""
        self._began = time.monotonic_ns() + int(LEAD * sizes.churn_keep_s * 1e9)
        self._length = int(sizes.churn_s * 1e9) // PERIODS
        self._count, self._inside = Counter[int](), Counter[int]()

    def last(self) -> bool:
        """Tell whether the last part is not over yet."""
        return self._part(time.monotonic_ns()) < PERIODS

    def submitted(self, before: int, after: int) -> None:
        """Count one call of submit, which began and ended at these moments."""
        part = self._part(before)
        self._count[part] += 1
        self._inside[part] += after - before

    def taken(self, found: Sequence[Effect], deleted: int) -> Taken:
        """Return the rates of all parts."""
        run = Counter(self._part(effect.started_ns) for effect in found)
        rates = tuple(self._count[part] * 1e9 / max(1, self._inside[part]) for part in range(PERIODS))
        raw = {
            "part_s": (self._length / 1e9,),
            "submitted_per_s": rates,
            "run_per_s": tuple(run[part] * 1e9 / self._length for part in range(PERIODS)),
            "pruned": (float(deleted),),
        }
        return (
            Taken(figure=rates[-1] / rates[0], raw=raw) if rates[0] else Taken(fault="nothing was submitted at first")
        )

    def _part(self, moment: int) -> int:
        return (moment - self._began) // self._length
