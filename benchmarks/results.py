"""The samples of one run, as they were taken or as they were written down, and the figures that follow from them."""

from __future__ import annotations

from statistics import median

import msgspec
from msgspec import Struct

from benchmarks.measures import Taken, percentile
from benchmarks.rounds import Sample
from benchmarks.sizes import Sizes
from benchmarks.table import ratios


class NotMeasuredError(Exception):
    """There is no such figure, and the text says why."""


class Results(Struct, frozen=True, kw_only=True):
    """What was measured. `one_fsync` says whether one is enough on that file system."""

    sizes: Sizes
    one_fsync: bool
    samples: tuple[Sample, ...]

    def rows(self, measure: str, begin: str = "") -> list[str]:
        """Return the rows of a measure whose names begin so, in their order."""
        names = [sample.contestant for sample in self.samples if sample.measure == measure]
        return [name for name in dict.fromkeys(names) if name.startswith(begin)]

    def taken(self, measure: str, row: str) -> list[Taken]:
        """Return what was measured in each round. Raises NotMeasuredError."""
        return [sample.taken for sample in self._samples(measure, row)]

    def figure(self, measure: str, row: str) -> float:
        """Return the median of all rounds. Raises NotMeasuredError."""
        return median(taken.figure for taken in self.taken(measure, row))

    def ratio(self, measure: str, row: str, other: str) -> float:
        """Return the median of the ratios within the rounds. Raises NotMeasuredError."""
        found = ratios(self._samples(measure, row), self._samples(measure, other))
        if not found:
            raise NotMeasuredError(f"{other}: never in the same round")
        return median(found)

    def each(self, measure: str, row: str, what: str) -> list[float]:
        """Return all single values of this name. Raises NotMeasuredError."""
        return [value for taken in self.taken(measure, row) for value in taken.raw[what]]

    def percentile(self, measure: str, row: str, what: str, part: float) -> float:
        """Return the value that this part of all does not exceed. Raises NotMeasuredError."""
        return percentile(self.each(measure, row, what), part)

    def _samples(self, measure: str, row: str) -> list[Sample]:
        if not self.rows(measure):
            raise NotMeasuredError(f"{measure} was left out")
        own = [sample for sample in self.samples if (sample.measure, sample.contestant) == (measure, row)]
        if not own:
            raise NotMeasuredError(f"{row}: not there")
        said = [sample.taken.fault or sample.taken.answer for sample in own]
        if any(said):
            raise NotMeasuredError(f"{row}: {next(filter(None, said))}")
        return own


def read(record: bytes) -> Results:
    """Return the results that were written down as JSON."""
    return msgspec.json.decode(record, type=Results)
