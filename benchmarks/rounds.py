"""Measure everyone in turn, round after round, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks.measures import Taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure, Sizes


class Sample(Struct, frozen=True, kw_only=True):
    """What one contestant reached by one measure in one round."""

    measure: str
    contestant: str
    round: int
    taken: Taken


def run(entries: list[tuple[Measure, list[Contestant]]], directory: Path, sizes: Sizes) -> Iterator[Sample]:
    """Go through all samples as they are taken, each in a directory of its own below this one."""
    for number in range(1, sizes.rounds + 1):
        for measure, contestants in entries:
            for place, contestant in enumerate(contestants):
                print(f"round {number} of {sizes.rounds}, {measure.name}: {contestant.name}", file=sys.stderr)
                fresh = directory / f"{number}-{measure.name}-{place}"
                fresh.mkdir()
                # Nobody's syncs shall pay for what the one before has left unwritten.
                os.sync()
                taken = _taken(measure, contestant, fresh, sizes)
                yield Sample(measure=measure.name, contestant=contestant.name, round=number, taken=taken)


def _taken(measure: Measure, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
    try:
        contestant.set_up(directory)
        return measure.take(contestant, directory, sizes)
    except Exception as error:  # noqa: BLE001 - one that breaks down is out, and the others go on
        traceback.print_exc()
        return Taken(fault=f"{type(error).__name__}: {error}")
    finally:
        contestant.tear_down()
