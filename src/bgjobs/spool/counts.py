"""How many jobs lie in a directory: counted once, and not again before something changes there.

What was counted is left in the file `counted` for the next process. It is good for looking at alone. A count is trusted
if its directory is the same one and has the same time of change as then, and if that time had been over for two seconds
before the count (else a change right after it may not show). And not for ever: not every disk keeps that time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from bgjobs import clock, files
from bgjobs.ids import new_id
from bgjobs.spool import layout

if TYPE_CHECKING:
    from bgjobs.job import State
    from bgjobs.spool.layout import Layout

SETTLED_NS = 2_020_000_000  # the coarsest time of change is FAT's, of two seconds
GOOD_FOR_MS = 10 * layout.MINUTE_MS
MANY = 10_000  # counting so many takes as long as reading the file
MOST_BYTES = 64 * 1024 * 1024


class Count(Struct, frozen=True, array_like=True):
    """What was seen in a directory: how many names, and the first and the last moment that a job's name begins with.

    `inode` and `changed_ns` are those of the directory before it was looked into.
    """

    inode: int
    changed_ns: int
    names: int
    first_ms: int | None = None
    last_ms: int | None = None


class Kept(Struct, frozen=True):
    """The content of the file: since when it has been kept, and what was counted, by the directory's path in the spool.

    No path is ever made of these: a directory that is there is looked up in them.
    """

    since_ms: int
    counts: dict[str, Count]


class Bucket(NamedTuple):
    """How many jobs of a bucket may start: `due` of `names`. The oldest job in it has waited since `first_ms`."""

    names: int
    due: int
    first_ms: int | None


class Tally:
    """Counts the jobs of one spool. What cannot be looked into counts for nothing."""

    def __init__(self, paths: Layout) -> None:
        """Count nothing yet."""
        self._paths = paths
        self._since_ms = 0
        self._known: dict[str, Count] | None = None
        self._looked_at = 0

    def pending(self, now_ms: int) -> list[Bucket]:
        """Return what waits in each bucket."""
        shelves = [self._paths.priority(number) for number in range(10)]
        buckets = [os.path.join(shelf, name) for shelf in shelves for name in files.readable_names(shelf)]
        return [_bucket(path, count, now_ms) for path, count in self._counted(self._paths.pending, buckets)]

    def ended(self, state: State) -> int:
        """Return how many jobs have ended in this state."""
        above = self._paths.ended(state)
        hours = [os.path.join(above, hour) for hour in files.readable_names(above)]
        return sum(count.names for _, count in self._counted(above, hours))

    def keep(self) -> None:
        """Leave what was counted for others, if that was much."""
        if self._looked_at < MANY:
            return
        self._looked_at = 0
        fresh = f"{self._paths.tmp}/counted.{new_id()}"
        with suppress(OSError):  # the next one counts for itself
            files.create(fresh, msgspec.json.encode(Kept(self._since_ms, self._remembered())), sync=False)
            files.replace(fresh, self._paths.counted)

    def _counted(self, above: str, paths: list[str]) -> list[tuple[str, Count]]:
        """Return the count of each of these directories, which are all that there are below the one above."""
        known, root = self._remembered(), len(self._paths.root) + 1
        found = [(path, self._count(path, known.get(path[root:]))) for path in paths]
        others = {path: count for path, count in known.items() if not path.startswith(above[root:] + os.sep)}
        self._known = others | {path[root:]: count for path, count in found if count.changed_ns}
        return found

    def _count(self, path: str, known: Count | None) -> Count:
        """Count the names in a directory, if that is not known. One that has just changed gets no time of change."""
        state, begun_ns = _state(path), clock.now_ms() * 1_000_000
        if known is not None and (known.inode, known.changed_ns) == state:
            return known
        names = files.readable_names(path)
        self._looked_at += len(names)
        inode, changed_ns = (0, 0) if state is None else state
        return _count_of(names, inode, changed_ns if begun_ns - changed_ns > SETTLED_NS else 0)

    def _remembered(self) -> dict[str, Count]:
        """Return what is known, at first from the file; nothing once that is old."""
        now_ms = clock.now_ms()
        if self._known is None:
            kept = _read(self._paths.counted)
            self._since_ms, self._known = kept.since_ms, kept.counts
        if not 0 <= now_ms - self._since_ms <= GOOD_FOR_MS:
            self._since_ms, self._known = now_ms, {}
        return self._known


def _state(path: str) -> tuple[int, int] | None:
    try:
        return files.directory_state(path)
    except OSError as error:
        if error.errno in files.UNREADABLE:
            return None
        raise


def _read(path: str) -> Kept:
    try:
        found = files.decoded(files.read(path, MOST_BYTES), Kept)
    except (OSError, files.StrangeFileError):
        found = None
    return found or Kept(0, {})


def _count_of(names: list[str], inode: int, changed_ns: int) -> Count:
    first, last = min(names, default=""), max(names, default="")
    if not (layout.PENDING_NAME.fullmatch(first) and layout.PENDING_NAME.fullmatch(last)):
        jobs = [name for name in names if layout.PENDING_NAME.fullmatch(name)]  # what is strange has no moment
        if not jobs:
            return Count(inode, changed_ns, len(names))
        first, last = min(jobs), max(jobs)
    return Count(inode, changed_ns, len(names), int(first[:13]), int(last[:13]))


def _bucket(path: str, count: Count, now_ms: int) -> Bucket:
    name = os.path.basename(path)
    if name.startswith("now-"):
        due = count.names
    elif _is_ahead(name, now_ms) or count.first_ms is None or count.last_ms is None or count.first_ms > now_ms:
        due = 0
    elif count.last_ms <= now_ms:
        due = count.names
    else:  # its minute is the present one
        due = sum(
            int(found[:13]) <= now_ms for found in files.readable_names(path) if layout.PENDING_NAME.fullmatch(found)
        )
    return Bucket(count.names, due, count.first_ms)


def _is_ahead(bucket: str, now_ms: int) -> bool:
    """Tell whether no worker opens a delayed bucket yet, whatever lies in it."""
    start_ms = layout.bucket_start_ms(bucket)
    return start_ms is None or start_ms > now_ms


def count_pending(paths: Layout) -> int:
    """Count the jobs that wait for their turn or their moment."""
    tally = Tally(paths)
    jobs = sum(bucket.names for bucket in tally.pending(clock.now_ms()))
    tally.keep()
    return jobs
