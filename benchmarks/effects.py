"""What the jobs did: wait for it, read it, and find out whether a job was lost or run twice."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.work import EFFECTS, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

LOOK_EVERY_S = 0.02
PATIENCE_S = 30.0


class Effect(NamedTuple):
    """What one run of the job left."""

    number: int
    pid: int
    started_ns: int


class Effects:
    """The effects of the jobs in one directory."""

    def __init__(self, directory: Path) -> None:
        """Begin with none."""
        self._path = directory / EFFECTS

    def read(self, skip: int = 0) -> list[Effect]:
        """Return all effects but the first so many, in the order in which they were written."""
        data = self._path.read_bytes()[skip * RECORD.size :] if self._path.exists() else b""
        whole = len(data) - len(data) % RECORD.size
        return [Effect(*record) for record in RECORD.iter_unpack(data[:whole])]

    def wait_for(self, count: int, within_s: float = math.inf) -> None:
        """Wait until there are so many, or until it has taken too long, or there was no new one for a long time."""
        began, seen, give_up = time.monotonic(), -1, 0.0
        while (now := self.count()) < count:
            if now > seen:
                seen, give_up = now, time.monotonic() + PATIENCE_S
            if time.monotonic() > min(give_up, began + within_s):
                return
            time.sleep(LOOK_EVERY_S)

    def count(self) -> int:
        """Return how many there are."""
        return self._path.stat().st_size // RECORD.size if self._path.exists() else 0


class Rate(NamedTuple):
    """How fast jobs were run: so many in this time, by so many processes."""

    jobs: int
    seconds: float
    processes: int

    @property
    def per_second(self) -> float:
        """Return it as one figure."""
        return self.jobs / self.seconds


def rate(effects: Iterable[Effect], processes: int) -> Rate:
    """Return how fast these were, from the moment at which so many processes were at work: no start is in it."""
    found = sorted(effects, key=lambda effect: effect.started_ns)
    counted = _at_full_strength(found, processes)
    seconds = (counted[-1].started_ns - counted[0].started_ns) / 1e9
    return Rate(len(counted) - 1, seconds, len({effect.pid for effect in found}))


def _at_full_strength(effects: Sequence[Effect], processes: int) -> Sequence[Effect]:
    """Leave out what was done before each process had begun its first job."""
    seen: set[int] = set()
    for place, effect in enumerate(effects[: len(effects) // 2]):
        seen.add(effect.pid)
        if len(seen) == processes:
            return effects[place:]
    return effects  # one did everything, or nearly: then that is how fast it is


def fault(effects: Iterable[Effect], submitted: Iterable[int]) -> str:
    """Return what is wrong with the effects of these jobs; nothing, if each job ran exactly once."""
    runs, expected = Counter(effect.number for effect in effects), set(submitted)
    found = {
        "lost": len(expected - runs.keys()),
        "run more than once": sum(count > 1 for count in runs.values()),
        "run but never submitted": len(runs.keys() - expected),
    }
    return ", ".join(f"{count} {what}" for what, count in found.items() if count)
