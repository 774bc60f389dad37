"""Who takes part in which measure. A new measure is a file of its own, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import huey
from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.contestants.floors import PythonFloor
from benchmarks.contestants.huey import Huey
from benchmarks.great_spool import GreatSpool
from benchmarks.measures.backlog import Backlog
from benchmarks.measures.bulk import Bulk
from benchmarks.measures.churn import Churn
from benchmarks.measures.commands import Commands
from benchmarks.measures.drain import Drain
from benchmarks.measures.latency import Latency
from benchmarks.measures.only import Only
from benchmarks.measures.quiet import Quiet
from benchmarks.measures.recovery import Recovery
from benchmarks.measures.scale import Scale
from benchmarks.measures.steps import Steps
from benchmarks.measures.submit import Submit, SubmitInMemory
from benchmarks.measures.workers import Workers
from benchmarks.peers import peers

if TYPE_CHECKING:
    from collections.abc import Collection

    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure
    from benchmarks.sizes import Sizes

MANY = 1_000_000  # jobs for one runner: as if it were never replaced
NAMES = (
    *(
        "submit",
        "submit-memory",
        "bulk",
        "drain",
        "steps",
        "only",
        "latency",
        "quiet",
        "commands",
        "workers",
        "recovery",
    ),
    *("churn", "backlog", "scale"),
)
# One of each peer that has a worker: it takes as long as the patience to see that a job does not run again.
CRASHING = ("Huey, SQLite", "uWSGI spooler", "Celery, Redis", "RQ, fork per job", "Dramatiq, Redis")
# To fill a queue takes long: those that need no server and look after their jobs, and one on Redis.
LINING_UP = ("Huey, SQLite", "Huey, files", "uWSGI spooler", "RQ, SimpleWorker")


def lineup(
    sizes: Sizes, only: Collection[str] = NAMES, *, one_fsync: bool, memory: bool
) -> list[tuple[Measure, list[Contestant]]]:
    """Return the measures, each with those who take part, in the order in which they do.

    `one_fsync` says that one is enough on this file system, `memory` that there is one in memory.
    """
    floors: list[Contestant] = [PythonFloor(2), *([PythonFloor(1)] if one_fsync else []), PythonFloor(0)]
    floor, full, left_to_system = floors[-1], Bgjobs("full"), Bgjobs("os")
    found = peers()
    others = [*found, *_eager()]
    many = [contestant for contestant in [full, left_to_system, *found] if contestant.bulk]
    great = GreatSpool(
        done=sizes.scale if "scale" in only else 0, delayed=sizes.delayed, waiting=max(sizes.backlogs, default=0)
    )
    entries: list[tuple[Measure, list[Contestant]]] = [
        (Submit(), [*floors, full, left_to_system, *found]),
        (SubmitInMemory(), [floor, left_to_system, *found] if memory else []),
        (Bulk(), many),
        # Durability is a matter of submitting alone, and with this one the queue is filled sooner.
        (Drain(), [floor, left_to_system, Bgjobs("os", recycle=MANY), *found]),
        (Steps(), [left_to_system]),
        (Only(), [Bgjobs("os", limited=False)]),
        (Latency(), [full, left_to_system, *others]),
        (Quiet(), [full, *others]),
        (Commands(), [full]),
        (Workers(), [left_to_system]),
        (Recovery(), [left_to_system, *_named(found, CRASHING)]),
        (Churn(), [left_to_system]),
        (Backlog(great), [left_to_system, *_named(found, LINING_UP)] if sizes.backlogs else []),
        (Scale(great), [left_to_system] if sizes.scale else []),
    ]
    return [(measure, taking_part) for measure, taking_part in entries if measure.name in only and taking_part]


def _named(found: Collection[Contestant], names: Collection[str]) -> list[Contestant]:
    return [peer for peer in found if peer.name in names]


def _eager() -> list[Contestant]:
    """Return peers that one has to ask for it."""
    polling = ("-d", "0.001", "-m", "0.001")
    return [Huey("sqlite", polling=polling, label="polling every ms")] if huey.is_here() else []
