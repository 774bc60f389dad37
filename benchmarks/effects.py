"""What the jobs did: wait for it, read it, and find out whether a job was lost or run twice."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.work import EFFECTS, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable
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

    def read(self) -> list[Effect]:
        """Return all effects, in the order in which they were written."""
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = len(data) - len(data) % RECORD.size
        return [Effect(*record) for record in RECORD.iter_unpack(data[:whole])]

    def wait_for(self, count: int) -> None:
        """Wait until there are so many, or until there has been no new one for a long time."""
        seen, give_up = -1, 0.0
        while (now := self._count()) < count:
            if now > seen:
                seen, give_up = now, time.monotonic() + PATIENCE_S
            if time.monotonic() > give_up:
                return
            time.sleep(LOOK_EVERY_S)

    def _count(self) -> int:
        return self._path.stat().st_size // RECORD.size if self._path.exists() else 0


def fault(effects: Iterable[Effect], submitted: Iterable[int]) -> str:
    """Return what is wrong with the effects of these jobs; nothing, if each job ran exactly once."""
    runs, expected = Counter(effect.number for effect in effects), set(submitted)
    found = {
        "lost": len(expected - runs.keys()),
        "run more than once": sum(count > 1 for count in runs.values()),
        "run but never submitted": len(runs.keys() - expected),
    }
    return ", ".join(f"{count} {what}" for what, count in found.items() if count)
