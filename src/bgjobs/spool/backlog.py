"""Keep track of the pending jobs of one priority: its buckets, and which of their jobs is the oldest.

A directory is listed only when the names known of it are used up and it has changed since, so that the cost of a claim
does not grow with the backlog. Delayed jobs lie in buckets that are not opened before their minute, and no bucket is
opened before those of an earlier minute are used up: of a million jobs a worker knows the names of a few thousand.
"""

from __future__ import annotations

import os
import time
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from bgjobs import files
from bgjobs.job import LATEST_MS
from bgjobs.spool import cached_listing, layout
from bgjobs.spool.bucket import Bucket, UnopenedBuckets
from bgjobs.spool.cached_listing import CachedListing
from bgjobs.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from bgjobs.spool.bucket import ClosedLanes

MOST_NAMES = 65_536  # of one priority, if they lie in few buckets
LEAST_NAMES = 128  # of each bucket
MOST_ASIDE = 65_536  # names of closed lanes, of one priority
BUCKET_STEPS = 64  # opening a bucket costs as much as setting aside so many names
LONGEST_PAUSE_S = 0.5  # between two listings of the quiet buckets


def unreadable_only(error: OSError) -> OSError:
    """Return an error that concerns one directory alone; raise any other."""
    if error.errno not in files.UNREADABLE:
        raise error
    return error


class Backlog:
    """Keep track of the pending jobs of one priority: its buckets, and which of their jobs is the oldest."""

    def __init__(self, path: str, priority: int, lanes: ClosedLanes) -> None:
        """Know no buckets yet."""
        self.priority = priority
        self.interrupted = False  # a slice of time is over, and there are more names to set aside
        self.buckets: dict[str, Bucket] = {}
        self.strange: list[str] = []
        self.unreadable: dict[str, OSError] = {}
        self._path = path
        self._listing = CachedListing(path)
        self._lanes = lanes
        self._aside_count = 0
        self._unopened, self._unopened_delayed = UnopenedBuckets(), UnopenedBuckets()
        self._common: dict[str, Bucket] = {}  # opened, and anybody may put a job into them
        # Opened, and hardly anything comes into them: private ones, and those of a minute long over that hold nothing
        # but jobs of closed lanes.
        self._quiet: deque[Bucket] = deque()
        self._quiet_throttle = Throttle(cached_listing.CHEAP, most_s=LONGEST_PAUSE_S)
        self._used_up: list[Bucket] = []
        # Of each opened bucket the head, with the bucket's name: those that are due, and those that are not yet. What
        # has changed since is only noticed when it comes to the front.
        self._due: list[tuple[str, str]] = []
        self._later: list[tuple[str, str]] = []

    def refresh(self, now_ms: int) -> None:
        """Find new buckets, and new names in those that are open."""
        try:
            if self._listing.is_stale():
                self._find_buckets()
        except OSError as error:
            self._listing = CachedListing(
                self._path
            )  # it may have failed after the names were read, and then they were not used
            self.unreadable[self._path] = unreadable_only(error)
        for bucket in list(self._common.values()):
            self._list_bucket(bucket, now_ms)
        if self._lanes.closed:
            self.interrupted = False
            self._move_old_to_quiet(now_ms)
        self._list_quiet(now_ms)

    def _move_old_to_quiet(self, now_ms: int) -> None:
        """Look less often into buckets of a minute long over in which nothing is left but jobs of closed lanes."""
        for bucket in list(self._common.values()):
            if not bucket.names and bucket.is_over(now_ms):
                del self._common[bucket.name]
                self._quiet.append(bucket)

    def best(self, now_ms: int) -> str | None:
        """Return the oldest name that is due, of a lane that is open. None also means that this is `interrupted`."""
        while True:
            while self._used_up:
                self._fill(self._used_up.pop(), now_ms)
            while (first := _front(self._later, self.buckets)) and int(first[:13]) <= now_ms:
                heappush(self._due, heappop(self._later))
            first = _front(self._due, self.buckets)
            while self._open_one(now_ms, None if first is None else int(first[:13])):
                if self._lanes.closed and self._is_late(BUCKET_STEPS):
                    return None
                first = _front(self._due, self.buckets)
            if not self._lanes.closed or first is None or not self._lanes.has(first):
                return first
            bucket = self.take()
            before = bucket.aside_count
            bucket.set_aside(first, before + MOST_ASIDE - self._aside_count)
            self._aside_count += bucket.aside_count - before
            if self._is_late(1):
                return None

    def _is_late(self, steps: int) -> bool:
        """Tell whether the slice of time is over, and note that there is more to do."""
        self.interrupted = self._lanes.is_late(steps)
        return self.interrupted

    def reopen(self, opened: AbstractSet[str]) -> bool:
        """Use again the names that were set aside for these lanes; return False if some of them were not kept."""
        for bucket in self.buckets.values():
            if bucket.forgotten & opened:
                return False
        for bucket in self.buckets.values():
            before = bucket.aside_count
            if bucket.reopen(opened):
                self._aside_count += bucket.aside_count - before
                self._place(bucket, None)
        return True

    def take(self) -> Bucket:
        """Remove the name that `best` has returned; return its bucket."""
        bucket = self.buckets[heappop(self._due)[1]]
        bucket.names.pop()
        if bucket.names:
            self._place(bucket, None)
        else:
            self._used_up.append(bucket)  # and not listed before the job of that name has been moved
        return bucket

    def next_ms(self, now_ms: int) -> int | None:
        """Return when the next delayed job of this priority may start, as far as is known."""
        later = _front(self._later, self.buckets)
        moments = (self._unopened_delayed.next_ms(now_ms), None if later is None else int(later[:13]))
        return min((ms for ms in moments if ms is not None and ms > now_ms), default=None)

    def _find_buckets(self) -> None:
        names = set(self._listing.read())
        for gone in self.buckets.keys() - names:
            self._forget(self.buckets[gone])
        for name in names - self.buckets.keys():
            start_ms, path = layout.bucket_start_ms(name), os.path.join(self._path, name)
            if start_ms is None:
                continue
            if files.is_directory(path):
                self.buckets[name] = bucket = Bucket(path, name, start_ms)
                (self._unopened if bucket.at_once else self._unopened_delayed).add(bucket)
            else:
                self.strange.append(path)  # through a link we would remove what lies elsewhere

    def _forget(self, bucket: Bucket) -> None:
        del self.buckets[bucket.name]
        self._aside_count -= bucket.aside_count
        self._common.pop(bucket.name, None)
        (self._unopened if bucket.at_once else self._unopened_delayed).remove(bucket)

    def _open_one(self, now_ms: int, before_ms: int | None) -> bool:
        """Open the next bucket, if an older job may be in it; return whether there was one.

        In a bucket there is no job from before its minute.
        """
        latest = before_ms if before_ms is not None else LATEST_MS
        for unopened, until in ((self._unopened, latest), (self._unopened_delayed, min(latest, now_ms))):
            first = unopened.first()
            if first is not None and first[0] <= until:
                bucket = self.buckets[first[1]]
                unopened.remove(bucket)
                if bucket.is_private:
                    self._quiet.append(bucket)
                else:
                    self._common[bucket.name] = bucket
                self._list_bucket(bucket, now_ms)
                return True
        return False

    def _list_quiet(self, now_ms: int) -> None:
        """List some of the quiet buckets, so that the time for it stays a small part of all."""
        begun = time.perf_counter()
        if not self._quiet_throttle.is_due(begun):
            return
        for _ in range(len(self._quiet)):
            bucket = self._quiet.popleft()
            if self.buckets.get(bucket.name) is bucket and not self._list_bucket(bucket, now_ms):
                self._quiet.append(bucket)
            if time.perf_counter() - begun > cached_listing.CHEAP_S:
                break
        took = time.perf_counter() - begun
        if took >= cached_listing.CHEAP_S / 10:
            # The pause has an upper bound: a process that was suspended meanwhile seems to have taken very long.
            self._quiet_throttle.ran(begun, took)

    def _list_bucket(self, bucket: Bucket, now_ms: int) -> bool:
        """List a bucket; remove it, and return True, if it is empty and nothing comes into it any more."""
        self._fill(bucket, now_ms)
        if bucket.is_drained(now_ms) and files.remove_directory(bucket.path):
            self._forget(bucket)
            return True
        return False

    def _fill(self, bucket: Bucket, now_ms: int) -> None:
        """List a bucket. One that cannot be read hides no other."""
        known, aside = bucket.names, bucket.aside_count
        alike = self._unopened.count(bucket.start_ms) + self._unopened_delayed.count(bucket.start_ms)
        most = max(LEAST_NAMES, MOST_NAMES // (len(self._quiet) + len(self._common) + alike + 1))
        try:
            bucket.fill(most, self._lanes, aside + MOST_ASIDE - self._aside_count)
        except OSError as error:
            self.unreadable[bucket.path] = unreadable_only(error)
        if bucket.names is not known:
            self._aside_count += bucket.aside_count - aside
            self._place(bucket, now_ms)
        if bucket.strange:
            self.strange += bucket.strange
            bucket.strange = []

    def _place(self, bucket: Bucket, now_ms: int | None) -> None:
        """Queue the head of a bucket among the other heads. Without a moment, a delayed one counts as later."""
        head = bucket.head
        if head is not None:
            is_due = bucket.at_once or (now_ms is not None and bucket.is_due(head, now_ms))
            heappush(self._due if is_due else self._later, (head, bucket.name))


def _front(heads: list[tuple[str, str]], opened: dict[str, Bucket]) -> str | None:
    """Return the oldest of the names that are still the head of their bucket."""
    while heads:
        name, bucket = heads[0]
        found = opened.get(bucket)
        if found is not None and found.head == name:
            return name
        heappop(heads)
    return None
