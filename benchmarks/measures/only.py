"""What it costs a worker that takes one class to claim its next job, behind many jobs of others."""

from __future__ import annotations

import gc
import os
import time
from statistics import median
from typing import TYPE_CHECKING

from msgspec.structs import replace

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.measures import Measure, Row, Taken, at_work, below, broken, say
from bgjobs import clock, system
from bgjobs.ids import lane_of, new_id
from bgjobs.queue import store_of
from bgjobs.requests import Request
from bgjobs.store import Selection, WorkerInfo
from bgjobs.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes
    from bgjobs.store import Session

ALL, ONLY = "takes all", "--only, behind {:,} of others"
GROUP = 1000
PAIRS = frozenset({("Work", "note"), ("Wanted", "note")})


class Only(Measure):
    """Two workers of one spool claim one job after the other in turn: one takes all, the other one class only.

    Its jobs were submitted last. Both are in this process; what counts is its processor time.
    """

    name = "only"
    title = "Claim the next job (µs of processor time, less is better)"

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Fill a spool, let both find out what there is, then take the time of each claim."""
        [ours] = contestants
        assert isinstance(ours, Bgjobs)
        say(f"{self.name}: {sizes.others:,} jobs of another class")
        try:
            with at_work(ours, below(directory)):
                found = _claimed(ours, sizes)
        except Exception as error:  # noqa: BLE001 - the other measures go on
            yield Row(name=ALL, taken=broken(error))
            return
        for name, (first, *others) in found.items():
            us = tuple(took / 1e3 for took in others)
            raw = {"claim_us": us, "first_ms": (first / 1e6,)}
            yield Row(name=name.format(sizes.others), durability=ours.end_is, taken=Taken(figure=median(us), raw=raw))

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Tell also how long the first claim took, before which all names are looked at."""
        first = median(ms for sample in samples for ms in sample.raw["first_ms"])
        return super().summary(samples) | {"the first, ms": first}

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with the worker that takes all."""
        return {"× takes all": ALL}


def _claimed(ours: Bgjobs, sizes: Sizes) -> dict[str, list[int]]:
    queue = ours.queue
    for start in range(0, sizes.others, GROUP):
        ours.submit_many(range(start, min(start + GROUP, sizes.others)))
    _submit_wanted(ours, sizes.claims + 1)
    info = WorkerInfo(host=system.host(), pid=os.getpid(), concurrency=1, started_at=clock.now(), version=version())
    selections = {ALL: Selection(), ONLY: Selection(classes=frozenset({"Wanted"}), pairs=lambda: PAIRS)}
    sessions = {name: store_of(queue).join(info, selection) for name, selection in selections.items()}
    try:
        gc.collect()
        took: dict[str, list[int]] = {name: [] for name in sessions}
        for _ in range(sizes.claims + 1):
            for name, session in sessions.items():
                took[name].append(_claim(session))
        return took
    finally:
        for session in sessions.values():
            session.leave()


def _submit_wanted(ours: Bgjobs, count: int) -> None:
    """Submit jobs of a class that the allowlist does not have: only their names matter here."""
    request = Request(class_name="Work", method="note", args=[0])
    plain, lane = ours.queue.prepare(request), lane_of("Wanted", "note")
    store_of(ours.queue).submit([replace(plain, id=new_id(lane=lane), class_name="Wanted") for _ in range(count)])


def _claim(session: Session) -> int:
    """Claim one job, however many rounds that takes; return the time for it in ns."""
    began = time.thread_time_ns()
    while True:
        claims = session.claim(1)
        if claims:
            return time.thread_time_ns() - began
