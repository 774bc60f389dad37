"""All that one run has to say: to print, or to write down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from benchmarks.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure, Sizes
    from benchmarks.rounds import Sample


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, where, and with what."""

    entries: Sequence[tuple[Measure, Sequence[Contestant]]]
    reference: str
    sizes: Sizes
    surroundings: Mapping[str, str]
    samples: Sequence[Sample]

    def text(self) -> str:
        """Return the tables, with what has to be known to read them."""
        packages = ", ".join(f"{name} {version}" for name, version in self._versions().items())
        known = {**self.surroundings, "packages": packages}
        tables = [table(measure, those, self.samples, self.reference) for measure, those in self.entries]
        return "\n\n".join(
            [
                f"# Benchmarks, {self.sizes.rounds} interleaved rounds",
                "\n".join(f"- {what}: {value}" for what, value in known.items()),
                *tables,
                "## Configured",
                "\n".join(f"- {name}: {one.options}" for name, one in self._contestants().items()),
            ]
        )

    def json(self) -> bytes:
        """Return everything, down to each sample."""
        record = {
            "surroundings": self.surroundings,
            "versions": self._versions(),
            "sizes": self.sizes,
            "measures": {measure.name: measure.title for measure, _ in self.entries},
            "contestants": {
                name: {"submit_is": one.submit_is, "end_is": one.end_is, "options": one.options}
                for name, one in self._contestants().items()
            },
            "reference": self.reference,
            "samples": self.samples,
        }
        return msgspec.json.format(msgspec.json.encode(record)) + b"\n"

    def _contestants(self) -> dict[str, Contestant]:
        return {one.name: one for _, taking_part in self.entries for one in taking_part}

    def _versions(self) -> dict[str, str]:
        return {name: version for one in self._contestants().values() for name, version in one.versions().items()}
