"""What one job costs, step by step, in each of the three processes that have to do with it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from benchmarks.measures import Measure, Row, Taken, at_work, below, broken, say
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

PARTS = ("submit", "worker", "runner")
PATIENCE_S = 300.0


class Steps(Measure):
    """Has each part done by a process of its own that watches itself (`benchmarks.stepping`)."""

    name = "steps"
    title = "One trivial job, step by step (µs of processor time, durability os)"

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Look at one part after the other."""
        [ours] = contestants
        for part in PARTS:
            say(f"{self.name}: {part}")
            try:
                with at_work(ours, place := below(directory)):
                    if part == "worker":
                        ours.submit_many(range(sizes.stepped))
                    steps = _stepped(part, place, sizes.stepped)
            except Exception as error:  # noqa: BLE001 - the other parts are measured all the same
                yield Row(name=part, taken=broken(error))
                continue
            asking = steps.pop("asking")
            for step, took in {**steps, "together": sum(steps.values())}.items():
                yield Row(name=f"{part}: {step}", taken=Taken(figure=took, raw={"us": (took,), "asking": (asking,)}))

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with the whole of the same part."""
        return {"of its part": f"{row.partition(':')[0]}: together"}


def _stepped(part: str, directory: Path, jobs: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.stepping", part, str(directory), str(jobs)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{part}: {done.stderr.decode(errors='replace').strip()}")
    return msgspec.json.decode(done.stdout, type=dict[str, float])
