"""What a measure has to be able to do, and what it returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from statistics import median
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is measured in each round."""

    rounds: int = 3
    submitted: int = 300
    drained: int = 3000
    shots: int = 14
    pause_s: float = 0.2
    settle_s: float = 0.5


QUICK = Sizes(rounds=1, submitted=20, drained=40, shots=3, pause_s=0.05, settle_s=0.1)


class Taken(Struct, frozen=True, kw_only=True):
    """What one measurement of one contestant gave.

    `figure` stands for it, `raw` is what it was made from. With a `fault` neither counts.
    """

    figure: float = math.nan
    raw: dict[str, tuple[float, ...]] = {}
    fault: str = ""


class Measure(ABC):
    """One thing that is measured. `title` says also in which unit, and whether more or less is better."""

    name: str
    title: str

    @abstractmethod
    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Measure a contestant that was set up in this directory, and is torn down afterwards."""

    def durability(self, contestant: Contestant) -> str:
        """Return whether what the contestant does here is on the disk when it says that it has done it."""
        return contestant.submit_is

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Return the figures of one row from those of all rounds."""
        figures = [sample.figure for sample in samples]
        return {"median": median(figures), "min": min(figures), "max": max(figures)}


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest of the values that this part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
