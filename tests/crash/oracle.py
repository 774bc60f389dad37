"""What must become of each job, worked out from the bare files that the dead left. Shares no code with the spool."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from msgspec import Struct

STATES = ("pending", "waiting", "claimed", "done", "failed", "cancelled", "corrupt")
ENDED = ("done", "failed", "cancelled")
MOST_CRASHES = 3
NAME = re.compile(r"(?:(?:[0-9]\.)?[0-9]{13}-)?([0-9a-z]{26})\.json(?:\.[0-9a-z]{26})?")


class Found(Struct, frozen=True):
    """A file of a job, and what it tells."""

    job_id: str
    state: str
    path: Path
    lines: list[bytes]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, without torn ones."""
        found = []
        for line in self.lines[1:]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


class Fate(Struct, frozen=True):
    """The state that a job comes to, and its counts then."""

    state: str
    attempts: int
    charged: int
    crashes: int

    def run_once_more(self) -> Fate:
        """Return the same after another attempt, which succeeds."""
        if self.state != "pending":
            return self
        return Fate("done", self.attempts + 1, self.charged + 1, self.crashes)


def look(spool: Path) -> dict[str, list[Found]]:
    """Return every file of each job."""
    found: dict[str, list[Found]] = defaultdict(list)
    for state in STATES:
        for path in below(spool / state):
            name = NAME.fullmatch(os.path.basename(path))
            if name:
                with open(path, "rb") as file:
                    found[name[1]].append(Found(name[1], state, Path(path), file.read().split(b"\n")))
    return found


def below(folder: str | os.PathLike[str]) -> list[str]:
    """Return the paths of all files below a folder, and of the empty folders."""
    found = []
    for place, folders, names in os.walk(folder):
        found += [os.path.join(place, name) for name in names]
        if not (folders or names):
            found.append(place)
    return sorted(found)


def told_by(found: Found) -> Fate:
    """Return what the file says now."""
    attempts = charged = crashes = 0
    runs = False
    for event in found.events:
        kind = event["event"]
        if kind == "start":
            attempts, charged, runs = attempts + 1, charged + 1, True
            continue
        lost = kind == "lost" or event.get("lost", False)
        charged -= runs and (lost or kind == "back")
        crashes += lost
        runs = False
    return Fate(found.state, attempts, charged, crashes)


def fate(found: Found, boot: str) -> Fate:
    """Return what recovery must make of the file once its worker is dead: the table in docs/internals/spool.md."""
    told = told_by(found)
    if found.state == "pending":
        # Somebody asked for the end of a job that was on its way back: who takes over sees to it.
        spool = next(above for above in found.path.parents if above.name == "pending").parent
        wished = any(_is_written(note) for note in spool.glob(f"workers/*/cancel-{found.job_id}"))
        return Fate("cancelled", told.attempts, told.charged, told.crashes) if wished else told
    if found.state != "claimed":
        return told
    place = found.path.parents[2] / "workers" / found.path.parent.name
    last = found.events[-1] if found.events else {}
    ours = last.get("wid") == place.name
    wished = _is_written(place / f"cancel-{found.job_id}")
    if last.get("event") == "end":
        return Fate(last["state"], told.attempts, told.charged, told.crashes)
    if wished:
        return Fate("cancelled", told.attempts, told.charged, told.crashes)
    if last.get("event") in {"try", "lost"} and ours:
        return Fate("pending", told.attempts, told.charged, told.crashes)
    if last.get("event") == "start" and ours:
        return _lost(told, charged=told.charged - 1)
    if _other_boot(place / "info", boot):
        return _lost(told, charged=told.charged)  # there is no `start` line to take back
    return Fate("pending", told.attempts, told.charged, told.crashes)


def _lost(told: Fate, *, charged: int) -> Fate:
    crashes = told.crashes + 1
    return Fate("failed" if crashes >= MOST_CRASHES else "pending", told.attempts, charged, crashes)


def _is_written(note: Path) -> bool:
    return note.exists() and note.stat().st_size > 0


def _other_boot(about: Path, boot: str) -> bool:
    try:
        return bool(json.loads(about.read_bytes())["boot"] != boot)
    except (OSError, ValueError, KeyError):
        return False
