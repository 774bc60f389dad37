"""Which pending job is next: by priority, then by age.

A directory is listed only when the names known of it are used up and it has changed since, so that the cost of a claim
does not grow with the backlog. Delayed jobs lie in buckets that are not opened before their minute.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from bgjobs.spool import files, layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from bgjobs.spool.layout import Layout

MOST_NAMES = 65_536
UNSURE_NS = 20_000_000  # a change this close to a listing may not show in the directory's time
COARSE_NS = 2_020_000_000  # the same where the disk keeps whole seconds (ext3, small inodes), or every other (FAT)
SECOND_NS = 1_000_000_000
RELIST_S = 30.0
CHEAP, CHEAP_S = 50, 0.001


def allowed(error: OSError) -> OSError:
    """Return an error that says something of one place alone; raise any other."""
    if error.errno not in files.UNREADABLE:
        raise error
    return error


class Candidate(NamedTuple):
    """A pending job that may start: another worker may still be faster."""

    priority: int
    bucket: str
    name: str


class Listing:
    """The names in one directory as of the last look, and whether they may have changed since."""

    def __init__(self, path: str) -> None:
        """Know nothing of the directory yet."""
        self.path = path
        self._seen_ns: int | None = -1
        self._listed_ns = 0
        self._listed_at = 0.0
        self._took_s = 0.0

    def stale(self) -> bool:
        """Tell whether a new look could show something new."""
        changed = files.changed_ns(self.path)
        unsure = changed is not None and changed > self._listed_ns - (UNSURE_NS if changed % SECOND_NS else COARSE_NS)
        return (
            changed != self._seen_ns
            or (unsure and time.time_ns() - self._listed_ns > UNSURE_NS)
            or time.perf_counter() - self._listed_at > RELIST_S
        )

    def look(self) -> list[str]:
        """Return the names that are there now."""
        seen_ns, listed_ns, begun = files.changed_ns(self.path), time.time_ns(), time.perf_counter()
        names = files.names(self.path)  # may fail, and then it was no look
        self._seen_ns, self._listed_ns, self._listed_at = seen_ns, listed_ns, time.perf_counter()
        self._took_s = self._listed_at - begun
        return names

    def mark(self) -> None:
        """Take it for looked at: somebody is about to go through it name by name."""
        self._seen_ns, self._listed_ns = files.changed_ns(self.path), time.time_ns()
        self._listed_at = time.perf_counter()

    def cheap(self) -> bool:
        """Tell whether looking again now keeps the time for looking a small part of all."""
        return self._took_s < CHEAP_S or time.perf_counter() - self._listed_at > CHEAP * self._took_s


class Bucket:
    """The jobs of one minute: their names, oldest last, so that taking one is cheap."""

    def __init__(self, path: str, name: str, start_ms: int) -> None:
        """Remember where it is."""
        self.name = name
        self.path = path
        self.start_ms = start_ms
        self.at_once = name.startswith("now-")
        self.names: list[str] = []
        self.strange: list[str] = []
        # Delayed jobs and those that came back can be older than the ones that are known of the same bucket.
        self._may_gain_older = not self.at_once or "." in name
        self._listing = Listing(path)

    def opens(self, now_ms: int) -> bool:
        """Tell whether jobs in it may be due."""
        return self.at_once or self.start_ms <= now_ms

    def fill(self, now_ms: int) -> None:
        """Look for more names when none of the known ones is due."""
        known = self.head(now_ms) is not None
        if (known and not (self._may_gain_older and self._listing.cheap())) or not self._listing.stale():
            return
        found = [name for name in self._listing.look() if layout.PENDING_NAME.fullmatch(name) or self._is_strange(name)]
        found.sort()
        # The oldest first; the rest is listed again when these are used up.
        if len(found) > MOST_NAMES:
            del found[MOST_NAMES:]
            self._listing = Listing(self.path)
        found.reverse()
        self.names = found

    def head(self, now_ms: int) -> str | None:
        """Return the oldest name if it is due."""
        if not self.names:
            return None
        name = self.names[-1]
        return name if self.at_once or int(name[:13]) <= now_ms else None

    def drained(self, now_ms: int) -> bool:
        """Tell whether nothing is left of a minute that nobody submits to any more."""
        return not self.names and self.start_ms + layout.DRAINED_AFTER_MS < now_ms

    def _is_strange(self, name: str) -> bool:
        self.strange.append(os.path.join(self.path, name))
        return False


class Shelf:
    """The buckets of one priority."""

    def __init__(self, path: str, priority: int) -> None:
        """Know no buckets yet."""
        self.priority = priority
        self.buckets: dict[str, Bucket] = {}
        self.strange: list[str] = []
        self.unreadable: dict[str, OSError] = {}
        self._path = path
        self._listing = Listing(path)

    def refresh(self, now_ms: int) -> None:
        """Learn of new buckets, and of new names in those that are used up."""
        try:
            if self._listing.stale():
                self._look()
        except OSError as error:
            self._listing = Listing(self._path)  # it may have failed after the listing, which then has told nothing
            self.unreadable[self._path] = allowed(error)
        for bucket in list(self.buckets.values()):
            if bucket.opens(now_ms):
                self.fill(bucket, now_ms)
                if bucket.drained(now_ms) and files.remove_directory(bucket.path):
                    del self.buckets[bucket.name]

    def fill(self, bucket: Bucket, now_ms: int) -> None:
        """Look for more names in a bucket. One that cannot be read hides no other."""
        try:
            bucket.fill(now_ms)
        except OSError as error:
            self.unreadable[bucket.path] = allowed(error)

    def _look(self) -> None:
        names = set(self._listing.look())
        for gone in self.buckets.keys() - names:
            del self.buckets[gone]
        for name in names - self.buckets.keys():
            start_ms, path = layout.bucket_start_ms(name), os.path.join(self._path, name)
            if start_ms is None:
                continue
            if files.is_directory(path):
                self.buckets[name] = Bucket(path, name, start_ms)
            else:
                self.strange.append(path)  # a link would have us clear away what lies elsewhere and is no job

    def best(self, now_ms: int) -> tuple[str, Bucket] | None:
        """Return the oldest name that is due, with its bucket."""
        best: tuple[str, Bucket] | None = None
        for bucket in self.buckets.values():
            if bucket.opens(now_ms):
                name = bucket.head(now_ms)
                if name is not None and (best is None or name < best[0]):
                    best = name, bucket
        return best

    def next_ms(self, now_ms: int) -> int | None:
        """Return when the next delayed job of this priority may start, as far as is known."""
        soonest: int | None = None
        for bucket in self.buckets.values():
            if bucket.at_once:
                continue
            ms = int(bucket.names[-1][:13]) if bucket.names else bucket.start_ms
            if ms > now_ms and (soonest is None or ms < soonest):
                soonest = ms
        return soonest


class Cursor:
    """One worker's view of what is next."""

    def __init__(self, paths: Layout, *, min_priority: int, age_boost: timedelta) -> None:
        """Look at the priorities from 9 down to the lowest that this worker takes."""
        self._shelves = [Shelf(paths.priority(p), p) for p in range(9, min_priority - 1, -1)]
        self._boost_ms = age_boost.total_seconds() * 1000

    def candidates(self, now_ms: int, *, above: int = -1) -> Iterator[Candidate]:
        """Go through the jobs of a priority higher than `above` that may start now, best first.

        Each is named once, until its directory changes.
        """
        shelves = [shelf for shelf in self._shelves if shelf.priority > above]
        for shelf in shelves:
            shelf.refresh(now_ms)
        while (best := self._best(shelves, now_ms)) is not None:
            shelf, (name, bucket) = best
            bucket.names.pop()
            yield Candidate(shelf.priority, bucket.name, name)
            if not bucket.names:
                shelf.fill(bucket, now_ms)

    def strange(self) -> list[str]:
        """Return, once, the paths in buckets that no job can have."""
        found = []
        for shelf in self._shelves:
            places: list[Shelf | Bucket] = [shelf, *shelf.buckets.values()]
            for place in places:
                found += place.strange
                place.strange = []
        return found

    def unreadable(self) -> dict[str, OSError]:
        """Return, once, the directories that could not be read, each with the reason."""
        found: dict[str, OSError] = {}
        for shelf in self._shelves:
            found |= shelf.unreadable
            shelf.unreadable = {}
        return found

    def next_ms(self, now_ms: int) -> int | None:
        """Return when the next delayed job may start, as far as is known."""
        moments = [shelf.next_ms(now_ms) for shelf in self._shelves]
        return min((ms for ms in moments if ms is not None), default=None)

    def _best(self, shelves: list[Shelf], now_ms: int) -> tuple[Shelf, tuple[str, Bucket]] | None:
        heads = ((shelf, shelf.best(now_ms)) for shelf in shelves)
        present = ((shelf, head) for shelf, head in heads if head is not None)
        if not self._boost_ms:
            return next(present, None)  # the shelves stand in order of priority
        return max(present, key=lambda found: self._rank(found[0].priority, found[1][0], now_ms), default=None)

    def _rank(self, priority: int, name: str, now_ms: int) -> tuple[int, int]:
        """Rank with ageing: a level per `age_boost` of waiting, then the older one."""
        waited = now_ms - int(name[:13])
        return min(9, priority + max(0, int(waited // self._boost_ms))), waited
