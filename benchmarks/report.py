"""All that one run has to say: to print, or to write down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from benchmarks import targets
from benchmarks.results import Results
from benchmarks.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure
    from benchmarks.rounds import Sample
    from benchmarks.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, where, and with what."""

    entries: Sequence[tuple[Measure, Sequence[Contestant]]]
    sizes: Sizes
    surroundings: Mapping[str, str]
    one_fsync: bool
    seconds: Mapping[str, float]
    samples: Sequence[Sample]

    def text(self) -> str:
        """Return the tables, with what has to be known to read them."""
        packages = ", ".join(f"{name} {version}" for name, version in self._versions().items())
        took = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        known = {**self.surroundings, "packages": packages, "seconds": took}
        return "\n\n".join(
            [
                f"# Benchmarks, {self.sizes.rounds} interleaved rounds",
                "\n".join(f"- {what}: {value}" for what, value in known.items()),
                *(table(measure, self.samples) for measure, _ in self.entries),
                "## Configured",
                "\n".join(f"- {name}: {one.options}" for name, one in self._contestants().items()),
                "## Targets",
                targets.table(self._results()),
            ]
        )

    def json(self) -> bytes:
        """Return everything, down to each sample."""
        record = {
            "surroundings": self.surroundings,
            "versions": self._versions(),
            "measures": {measure.name: measure.title for measure, _ in self.entries},
            "seconds": self.seconds,
            "contestants": {
                name: {"submit_is": one.submit_is, "end_is": one.end_is, "options": one.options}
                for name, one in self._contestants().items()
            },
            "targets": targets.verdicts(self._results()),
            **msgspec.structs.asdict(self._results()),
        }
        return msgspec.json.format(msgspec.json.encode(record)) + b"\n"

    def _results(self) -> Results:
        return Results(sizes=self.sizes, one_fsync=self.one_fsync, samples=tuple(self.samples))

    def _contestants(self) -> dict[str, Contestant]:
        return {one.name: one for _, taking_part in self.entries for one in taking_part}

    def _versions(self) -> dict[str, str]:
        return {name: version for one in self._contestants().values() for name, version in one.versions().items()}
