"""A process that holds the spool against its promises while all others work."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from bgjobs.spool.doctor import fsck
from bgjobs.spool.layout import Layout
from tests.soak.clocks import follow_clock
from tests.soak.diary import Diary, Note

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.store import Finding

PAUSE_S = 1.0
SHARE = 4


def look(spool: Path) -> list[str]:
    """Return what breaks a promise while others work."""
    return [described(found) for found in fsck.broken(Layout(str(spool)))]


def look_at_rest(spool: Path) -> list[str]:
    """Return what is wrong in a spool that nobody uses. Leftovers that the next worker clears away are not."""
    return [described(found) for found in fsck.check(Layout(str(spool))) if found.rule or found.serious]


def described(found: Finding) -> str:
    """Return a finding in one line."""
    return f"{found.rule} {found.code}: {found.path}: {found.message}"


def main(home: Path, name: str, seed: int, clock: Path) -> None:
    """Look now and then, until killed, and not for long: the more jobs there are, the longer a look takes."""
    follow_clock(clock)
    luck = random.Random(seed)
    diary = Diary(home / "diaries" / name)
    took = 0.0
    while True:
        time.sleep(luck.expovariate(1 / PAUSE_S) + SHARE * took)
        begun = time.monotonic()
        found = look(home / "spool")
        took = time.monotonic() - begun
        diary.write([Note(did="inspected"), *(Note(did="found", key=text) for text in found)])
