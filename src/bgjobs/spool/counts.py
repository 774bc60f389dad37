"""Count the jobs in each state, without opening one; a directory is counted again only after it has changed.

The numbers are saved in the file `counted` for the next process. They are shown to people, and nothing else depends on
them. A number is used again if its directory is the same one (by inode) and has the same time of change, and if that
time was two seconds past when it was counted: a change right after the count may not show otherwise. After ten minutes
it is counted anew in any case: not every disk keeps that time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from bgjobs import clock, files
from bgjobs.ids import new_id
from bgjobs.job import State
from bgjobs.spool import layout

if TYPE_CHECKING:
    from bgjobs.spool.layout import Layout

SETTLED_NS = 2_020_000_000  # the coarsest time of change is FAT's, of two seconds
GOOD_FOR_MS = 10 * layout.MINUTE_MS
MANY = 10_000  # counting so many takes as long as reading the file
MOST_BYTES = 64 * 1024 * 1024


class DirectoryCount(Struct, frozen=True, array_like=True):
    """How many names a directory held, and the first and the last moment that a job's name there begins with.

    `inode` and `changed_ns` are those of the directory before it was listed.
    """

    inode: int
    changed_ns: int
    names: int
    first_ms: int | None = None
    last_ms: int | None = None


class CountsFile(Struct, frozen=True):
    """The content of the file `counted`: when it was begun, and the counts, by the directory's path in the spool.

    No path is ever built from these: directories that exist are looked up in them.
    """

    since_ms: int
    counts: dict[str, DirectoryCount]


class BucketCount(NamedTuple):
    """How many jobs of a bucket may start: `due` of `names`. The oldest job in it has waited since `first_ms`."""

    names: int
    due: int
    first_ms: int | None


class Counts:
    """Counts the jobs of one spool. A directory that cannot be read counts as empty."""

    def __init__(self, paths: Layout) -> None:
        """Count nothing yet."""
        self._paths = paths
        self._since_ms = 0
        self._known: dict[str, DirectoryCount] | None = None
        self._names_read = 0

    def by_state(self, now_ms: int) -> dict[State, int]:
        """Count the jobs in each state."""
        found = dict.fromkeys(State, 0)
        for bucket in self.pending(now_ms):
            found[State.QUEUED] += bucket.due
            found[State.SCHEDULED] += bucket.names - bucket.due
        found[State.RUNNING] = sum(
            layout.parse_imported(name) is None
            for holder in files.readable_names(self._paths.claimed)
            for name in files.readable_names(self._paths.claims_of(holder))
        )
        for state in layout.ENDED_DIRECTORIES:
            found[state] = self.ended(state)
        self.save()
        waiting = self._paths.waiting
        parents = files.readable_names(waiting)
        found[State.WAITING] = sum(len(files.readable_names(os.path.join(waiting, parent))) for parent in parents)
        found[State.CORRUPT] = sum(not name.endswith(".reason") for name in files.readable_names(self._paths.corrupt))
        return found

    def pending(self, now_ms: int) -> list[BucketCount]:
        """Return how many jobs each bucket holds."""
        shelves = [self._paths.priority(number) for number in range(10)]
        buckets = [os.path.join(shelf, name) for shelf in shelves for name in files.readable_names(shelf)]
        return [_bucket(path, count, now_ms) for path, count in self._counted(self._paths.pending, buckets)]

    def ended(self, state: State) -> int:
        """Return how many jobs have ended in this state."""
        above = self._paths.ended(state)
        hours = [os.path.join(above, hour) for hour in files.readable_names(above)]
        return sum(count.names for _, count in self._counted(above, hours))

    def save(self) -> None:
        """Save the counts for other processes, if counting took long."""
        if self._names_read < MANY:
            return
        self._names_read = 0
        fresh = f"{self._paths.tmp}/counted.{new_id()}"
        with suppress(OSError):  # the next process counts for itself
            files.create(fresh, msgspec.json.encode(CountsFile(self._since_ms, self._trusted())), sync=False)
            files.replace(fresh, self._paths.counted)

    def _counted(self, above: str, paths: list[str]) -> list[tuple[str, DirectoryCount]]:
        """Return the count of each of these directories, which are all that `above` holds."""
        known, root = self._trusted(), len(self._paths.root) + 1
        found = [(path, self._count(path, known.get(path[root:]))) for path in paths]
        others = {path: count for path, count in known.items() if not path.startswith(above[root:] + os.sep)}
        self._known = others | {path[root:]: count for path, count in found if count.changed_ns}
        return found

    def _count(self, path: str, known: DirectoryCount | None) -> DirectoryCount:
        """Count the names in a directory, if the known count may be wrong. After a recent change it is not saved."""
        state, begun_ns = _state(path), clock.now_ms() * 1_000_000
        if known is not None and (known.inode, known.changed_ns) == state:
            return known
        names = files.readable_names(path)
        self._names_read += len(names)
        inode, changed_ns = (0, 0) if state is None else state
        return _count_of(names, inode, changed_ns if begun_ns - changed_ns > SETTLED_NS else 0)

    def _trusted(self) -> dict[str, DirectoryCount]:
        """Return the counts that may be used again, at first from the file; none once they are old."""
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


def _read(path: str) -> CountsFile:
    try:
        found = files.decoded(files.read(path, MOST_BYTES), CountsFile)
    except (OSError, files.StrangeFileError):
        found = None
    return found or CountsFile(0, {})


def _count_of(names: list[str], inode: int, changed_ns: int) -> DirectoryCount:
    first, last = min(names, default=""), max(names, default="")
    if not (layout.PENDING_NAME.fullmatch(first) and layout.PENDING_NAME.fullmatch(last)):
        jobs = [name for name in names if layout.PENDING_NAME.fullmatch(name)]  # other names have no moment
        if not jobs:
            return DirectoryCount(inode, changed_ns, len(names))
        first, last = min(jobs), max(jobs)
    return DirectoryCount(inode, changed_ns, len(names), int(first[:13]), int(last[:13]))


def _bucket(path: str, count: DirectoryCount, now_ms: int) -> BucketCount:
    name = os.path.basename(path)
    if name.startswith("now-"):
        due = count.names
    elif _is_ahead(name, now_ms) or count.first_ms is None or count.last_ms is None or count.first_ms > now_ms:
        due = 0
    elif count.last_ms <= now_ms:
        due = count.names
    else:  # its minute is now
        due = sum(
            int(found[:13]) <= now_ms for found in files.readable_names(path) if layout.PENDING_NAME.fullmatch(found)
        )
    return BucketCount(count.names, due, count.first_ms)


def _is_ahead(bucket: str, now_ms: int) -> bool:
    """Tell whether no worker opens a delayed bucket yet, whatever lies in it."""
    start_ms = layout.bucket_start_ms(bucket)
    return start_ms is None or start_ms > now_ms


def count_pending(paths: Layout) -> int:
    """Count the pending jobs."""
    counts = Counts(paths)
    jobs = sum(bucket.names for bucket in counts.pending(clock.now_ms()))
    counts.save()
    return jobs
