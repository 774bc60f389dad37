"""Decide by the lane in a job's id whether a worker takes jobs of its class, mostly without opening the file.

A lane is five letters of an id that are a hash of class and method (`ids.py`). It is a hint: ids of an older bgjobs
have other letters there, and two pairs may have the same lane. What counts is the class in the job's file: a job that
was claimed because of its lane and is of another class goes back.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bgjobs import files
from bgjobs.ids import LANE_BEGINS, LANE_ENDS, first_id, lane_of, new_id
from bgjobs.job import LATEST_MS, State
from bgjobs.spool import layout, record
from bgjobs.spool.line1 import CorruptError, NewerFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.spool.layout import Layout

    Pairs = Callable[[], frozenset[tuple[str, str]]]

ID_BEGINS = 14  # in the name of a pending job
IN_PENDING = slice(ID_BEGINS + LANE_BEGINS, ID_BEGINS + LANE_ENDS)
NO_ID_HAS_LANE = "~"  # sorts after all ids
MOST_LEARNED = 10_000
MOST_REFUSED = 100_000
FEW, SLICE_S = 64, 0.005  # so many files are read in one turn, and more until so long has passed


class Since(Struct, frozen=True):
    """The content of the file `lanes`: ids made from this moment on, in ms, hold the lane of their jobs."""

    since: int


def first_with_lane(paths: Layout) -> str:
    """Return what sorts before all ids that hold a lane, and after all others."""
    since_ms = _since_ms(paths)
    return NO_ID_HAS_LANE if since_ms is None else first_id(since_ms)


def ensure_first_with_lane(paths: Layout, now_ms: int) -> str:
    """Return what `first_with_lane` does. In a spool of an older bgjobs, ids hold lanes from now on.

    If that cannot be written, no id counts as holding one, and a worker opens all files.
    """
    since_ms = _since_ms(paths)
    if since_ms is None or since_ms > now_ms:  # a moment that lies ahead is that of a clock that was wrong
        try:
            publish(paths, now_ms)
        except OSError:
            return NO_ID_HAS_LANE
        since_ms = now_ms
    return first_id(since_ms)


def publish(paths: Layout, since_ms: int) -> None:
    """Write the file `lanes`. Raises OSError.

    It is not synced. After a power cut that loses it, the next worker writes a later moment: then fewer ids count.
    """
    fresh = os.path.join(paths.tmp, f"lanes.{new_id()}")
    files.create(fresh, msgspec.json.encode(Since(since_ms)) + b"\n", sync=False)
    files.replace(fresh, paths.lanes)


def _since_ms(paths: Layout) -> int | None:
    try:
        found = files.decoded(files.read(paths.lanes, 1024), Since)
    except (OSError, files.StrangeFileError):
        return None
    return None if found is None or not 0 <= found.since <= LATEST_MS else found.since


class ClassFilter:
    """Says which pending jobs are of the classes that a worker takes."""

    def __init__(self, classes: frozenset[str], pairs: Pairs, since: str) -> None:
        """Take jobs of these classes. `pairs` returns what is allowed now, ids from `since` on hold their lane."""
        self.closed: frozenset[str] = frozenset()  # lanes of which no job is taken
        self._classes = classes
        self._pairs = pairs
        self._since = since
        self._allowed: frozenset[tuple[str, str]] | None = None
        self._open: frozenset[str] = frozenset()  # lanes of which every job is taken
        self._shared: frozenset[str] = frozenset()  # lanes of pairs of both kinds
        self._learned: set[str] = set()  # lanes of pairs that are not allowed
        self._refused: dict[str, None] = {}  # ids of jobs that are of no class of ours
        self._reads, self._slice_ends = 0, 0.0

    def refresh(self) -> None:
        """Use what is allowed now."""
        allowed = self._pairs()
        if allowed is self._allowed:
            return
        self._allowed = allowed
        ours = {lane_of(*pair) for pair in allowed if pair[0] in self._classes}
        others = {lane_of(*pair) for pair in allowed if pair[0] not in self._classes}
        self._open, self._shared = frozenset(ours - others), frozenset(ours & others)
        self.closed = frozenset((others | self._learned) - ours)

    def begin_slice(self) -> None:
        """Begin a turn."""
        self._reads, self._slice_ends = 0, time.perf_counter() + SLICE_S

    def is_late(self) -> bool:
        """Tell whether the turn is over."""
        return self._reads > FEW and time.perf_counter() > self._slice_ends

    def wants(self, class_name: str, job_id: str) -> bool:
        """Tell whether a job is of a class that this worker takes. One that is not is remembered, and not taken."""
        if class_name in self._classes:
            return True
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused[job_id] = None
        return False

    def takes(self, path: str, name: str) -> bool:
        """Tell whether the pending job of this name is to be claimed. Reads its file if the name does not tell."""
        self._reads += 1
        parsed = layout.parse_pending(name)
        if parsed is None or parsed.job_id in self._refused:
            return False
        lane = name[IN_PENDING] if parsed.job_id >= self._since else ""
        if lane in self.closed:
            return False
        return lane in self._open or self._is_ours(path, parsed.job_id, lane)

    def _is_ours(self, path: str, job_id: str, lane: str) -> bool:
        try:
            data = files.read(path, record.MOST_BYTES)
            job = record.decode(data, job_id=job_id, state=State.QUEUED, priority=0, not_before_ms=None)
        except (OSError, files.StrangeFileError, CorruptError, NewerFormatError):
            return False  # a worker without a selection deals with it
        if self.wants(job.class_name, job_id):
            return True
        self._learn(lane, job.class_name, job.method)
        return False

    def _learn(self, lane: str, class_name: str, method: str) -> None:
        """Close the lane of a pair that is not allowed, so that not each of its jobs has to be opened."""
        is_in_id = lane == lane_of(class_name, method)
        if is_in_id and lane not in self._shared and len(self._learned) < MOST_LEARNED:
            self._learned.add(lane)
            self.closed |= {lane}
