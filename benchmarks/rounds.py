"""Measure everyone in turn, round after round, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks.measures import Row, Taken, below, broken, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure
    from benchmarks.places import Places
    from benchmarks.sizes import Sizes

    Entries = Sequence[tuple[Measure, Sequence[Contestant]]]


class Sample(Struct, frozen=True, kw_only=True):
    """What one contestant reached by one measure in one round. `contestant` is its row in the table."""

    measure: str
    contestant: str
    durability: str
    round: int
    taken: Taken


class Rounds:
    """One run through all measures. `seconds` says how long each took."""

    def __init__(self, entries: Entries, places: Places, sizes: Sizes) -> None:
        """Do not begin yet."""
        self._entries, self._places, self._sizes = entries, places, sizes
        self.seconds: dict[str, float] = {}

    def samples(self) -> Iterator[Sample]:
        """Go through all samples as they are taken: the rounds, then what comes late."""
        early = [entry for entry in self._entries if not entry[0].late]
        for number in range(1, self._sizes.rounds + 1):
            for measure, contestants in early:
                yield from self._round(number, measure, contestants)
        for measure, contestants in self._entries:
            if measure.late:
                yield from self._round(1, measure, contestants)

    def _round(self, number: int, measure: Measure, contestants: Sequence[Contestant]) -> Iterator[Sample]:
        count = measure.rounds(self._sizes)
        if number > count:
            return
        say(f"{measure.name}: round {number} of {count}")
        above = self._places.memory if measure.in_memory else self._places.disk
        if above is None:
            return
        directory, began = below(above), time.monotonic()
        for row in self._rows(measure, contestants, directory):
            yield Sample(
                measure=measure.name,
                contestant=row.name,
                durability=row.durability,
                round=number,
                taken=row.taken,
            )
        if measure.in_memory:
            shutil.rmtree(directory)  # memory is scarce; a disk is emptied in the end
        self.seconds[measure.name] = self.seconds.get(measure.name, 0.0) + time.monotonic() - began

    def _rows(self, measure: Measure, contestants: Sequence[Contestant], directory: Path) -> Iterator[Row]:
        try:
            yield from measure.run(contestants, directory, self._sizes)
        except Exception as error:  # noqa: BLE001 - what the others have measured so far is worth having
            yield Row(name=f"all of {measure.name}", taken=broken(error))
