"""What a measure has to be able to do, and what it returns."""

from __future__ import annotations

import copy
import math
import os
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

REFERENCE = "Huey, SQLite"  # the ratios are against it


class Taken(Struct, frozen=True, kw_only=True):
    """What one measurement of one contestant gave.

    `figure` stands for it, `raw` is what it was made from. With a `fault` neither counts; an `answer` is what there is
    to say when no figure can be given, though nothing went wrong.
    """

    figure: float = 0.0
    raw: dict[str, tuple[float, ...]] = {}
    fault: str = ""
    answer: str = ""


class Row(Struct, frozen=True, kw_only=True):
    """What is known of one row of a table after one round."""

    name: str
    durability: str = ""
    taken: Taken


class Measure(ABC):
    """One thing that is measured. `title` says also in which unit, and whether more or less is better.

    One that is `late` comes after all rounds of the others, because of what it leaves on the disk. One that is
    `in_memory` is measured on a file system in memory.
    """

    name: str
    title: str
    late = False
    in_memory = False

    @abstractmethod
    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Measure all of them once, in this empty directory."""

    def rounds(self, sizes: Sizes) -> int:
        """Return in how many rounds it takes part."""
        return sizes.rounds

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Return the figures of one row from those of all rounds."""
        figures = [sample.figure for sample in samples]
        return {"median": median(figures), "min": min(figures), "max": max(figures)}

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - others need it
        """Return with which rows this one is compared, by the heads of the columns."""
        return {f"× {REFERENCE}": REFERENCE}


class OneByOne(Measure):
    """A measure that looks at each contestant alone."""

    def __init__(self) -> None:
        """Begin with all of them."""
        self._slow: set[str] = set()

    @abstractmethod
    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Measure a contestant that was set up in this directory, and is torn down afterwards."""

    def durability(self, contestant: Contestant) -> str:
        """Return whether what the contestant does here is on the disk when it says that it has done it."""
        return contestant.submit_is

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Measure one after the other. Peers that were slow in the first round sit out the others."""
        for contestant in contestants:
            if contestant.name in self._slow:
                continue
            say(f"{self.name}: {contestant.name}")
            began = time.monotonic()
            taken = self._taken(contestant, below(directory), sizes)
            if time.monotonic() - began > sizes.patience_s and not is_essential(contestant.name):
                self._slow.add(contestant.name)
            yield Row(name=contestant.name, durability=self.durability(contestant), taken=taken)

    def _taken(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        try:
            with at_work(contestant, directory):
                return self.take(contestant, directory, sizes)
        except Exception as error:  # noqa: BLE001 - one that breaks down is out, and the others go on
            return broken(error)


def is_essential(name: str) -> bool:
    """Tell whether this row is ours or one that ours are compared with: these take part in each round."""
    return name == REFERENCE or name.startswith(("bgjobs", "floor"))


def another(contestant: Contestant) -> Contestant:
    """Return one more of the same, which was not set up yet."""
    return copy.copy(contestant)


@contextmanager
def at_work(contestant: Contestant, directory: Path) -> Iterator[None]:
    """Set a contestant up in this directory, and tear it down in the end."""
    os.sync()  # nobody's syncs shall pay for what the one before has left unwritten
    try:
        contestant.set_up(directory)
        yield
    finally:
        contestant.tear_down()


def broken(error: Exception) -> Taken:
    """Return what to write down of a contestant that broke down, and say where it did."""
    traceback.print_exception(error)
    return Taken(fault=f"{type(error).__name__}: {error}")


def below(directory: Path) -> Path:
    """Make a new directory in this one."""
    return Path(tempfile.mkdtemp(prefix="", dir=directory))


def say(what: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest of the values that this part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
