"""Who takes part in which measure. A new peer or measure is a file of its own, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import huey
from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.contestants.floors import PythonFloor
from benchmarks.contestants.huey import Huey
from benchmarks.measures.drain import Drain
from benchmarks.measures.latency import Latency
from benchmarks.measures.submit import Submit
from benchmarks.peers import peers

if TYPE_CHECKING:
    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure

REFERENCE = "Huey, SQLite"  # the ratios are against it


def lineup() -> list[tuple[Measure, list[Contestant]]]:
    """Return the measures, each with those who take part, in the order in which they do."""
    floor, synced_floor = PythonFloor(durable=False), PythonFloor(durable=True)
    full, left_to_system = Bgjobs("full"), Bgjobs("os")
    others = peers()
    eager: list[Contestant] = []
    if huey.is_here():
        eager = [Huey("sqlite", polling=("-d", "0.001", "-m", "0.001"), label="polling every ms")]
    return [
        (Submit(), [synced_floor, floor, full, left_to_system, *others]),
        # Durability is a matter of submitting alone, and with this one the queue is filled sooner.
        (Drain(), [floor, left_to_system, *others]),
        (Latency(), [full, *others, *eager]),
    ]
