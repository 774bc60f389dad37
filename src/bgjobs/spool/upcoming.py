"""Which job is next: what a worker knows of `pending/`.

A directory is listed only when the names known of it are used up and it has changed since, so that the cost of a claim
does not grow with the backlog. Delayed jobs lie in buckets that are not opened before their minute, and no bucket is
opened before those of an earlier minute are used up: of a million jobs a worker knows the names of a few thousand.

Of a closed lane no job is a candidate. Its jobs are told by their names and laid aside, in slices of some milliseconds,
and come back when the lane opens. No file is opened for that.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right, insort
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from bgjobs import files
from bgjobs.job import LATEST_MS
from bgjobs.spool import lanes, layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from datetime import timedelta

    from bgjobs.spool.layout import Layout


UNSURE_NS = 20_000_000  # a change this close to a listing may not show in the directory's time
COARSE_NS = 2_020_000_000  # the same where the disk keeps whole seconds (ext3, small inodes), or every other (FAT)
SECOND_NS = 1_000_000_000
RELIST_S, RELIST_COST = 30.0, 1000  # seconds, and times what the last look took: the longer of the two
CHEAP, CHEAP_S = 50, 0.001
NO_LANES: frozenset[str] = frozenset()


class Listing:
    """The names in one directory as of the last look, and whether they may have changed since."""

    def __init__(self, path: str) -> None:
        """Know nothing of the directory yet."""
        self.path = path
        self._seen_ns: int | None = -1
        self._listed_ns = 0
        self._listed_at = 0.0
        self._took_s, self._patience_s = 0.0, RELIST_S

    def stale(self) -> bool:
        """Tell whether a new look could show something new; now and then also where the disk notes no changes."""
        return time.perf_counter() - self._listed_at > self._patience_s or self.changed()

    def changed(self) -> bool:
        """Tell whether the directory has changed, or may have, since the last look."""
        changed = files.changed_ns(self.path)
        unsure = changed is not None and changed > self._listed_ns - (UNSURE_NS if changed % SECOND_NS else COARSE_NS)
        return changed != self._seen_ns or (unsure and time.time_ns() - self._listed_ns > UNSURE_NS)

    def look(self) -> list[str]:
        """Return the names that are there now."""
        seen_ns, listed_ns = files.changed_ns(self.path), time.time_ns()
        names = self.look_on()  # may fail, and then it was no look
        self._seen_ns, self._listed_ns = seen_ns, listed_ns
        return names

    def look_on(self) -> list[str]:
        """Return the names that are there now, to go on with the last look: what has changed since it is still new."""
        begun = time.perf_counter()
        names = files.names(self.path)
        self._listed_at = time.perf_counter()
        self._took_s = self._listed_at - begun
        self._patience_s = max(RELIST_S, RELIST_COST * self._took_s)
        return names

    def mark(self) -> None:
        """Take it for looked at: somebody is about to go through it name by name."""
        self._seen_ns, self._listed_ns = files.changed_ns(self.path), time.time_ns()
        self._listed_at = time.perf_counter()

    def cheap(self) -> bool:
        """Tell whether looking again now keeps the time for looking a small part of all."""
        return self._took_s < CHEAP_S or time.perf_counter() - self._listed_at > CHEAP * self._took_s


class ClosedLanes:
    """The lanes of which no job may be claimed for now."""

    def __init__(self, since: str) -> None:
        """Close none. Ids from `since` on tell the lane of their jobs."""
        self.closed = NO_LANES
        self._since = since
        self._steps, self._slice_ends = 0, 0.0

    def has(self, name: str) -> bool:
        """Tell whether the name of a pending job says that its lane is closed."""
        return name[lanes.IN_PENDING] in self.closed and name[lanes.ID_BEGINS :] >= self._since

    def begin_slice(self) -> None:
        """Begin to lay names aside."""
        self._steps, self._slice_ends = 0, time.perf_counter() + SLICE_S

    def is_late(self, steps: int) -> bool:
        """Tell whether this slice of time is over, after so many more steps."""
        self._steps += steps
        return self._steps > FEW_STEPS and time.perf_counter() > self._slice_ends


class Bucket:
    """The jobs of one minute: their names, oldest last, so that taking one is cheap. `head` is the oldest one known."""

    def __init__(self, path: str, name: str, start_ms: int) -> None:
        """Remember where it is."""
        self.name = name
        self.path = path
        self.start_ms = start_ms
        self.at_once = name.startswith("now-")
        self.names: list[str] = []
        self.strange: list[str] = []
        # Many may be of the same minute, and hardly anything comes into them later: those are looked at in turn.
        self.is_own = "." in name
        self.aside: dict[str, list[str]] = {}  # by closed lane
        self.aside_count = 0
        self.forgotten: set[str] = set()  # closed lanes of which not all names are kept
        # Delayed jobs and those that came back can be older than the ones that are known of the same bucket.
        self._may_gain_older = not self.at_once or self.is_own
        self._listing = Listing(path)
        self._has_more = False
        self._last = ""  # the last name that was looked at, if there are more

    def fill(self, most: int, closed: ClosedLanes, room: int) -> None:
        """Look for more names, and keep the oldest `most`, when none are known, or older ones may have come.

        At most `room` names of closed lanes are kept aside.
        """
        if self.names:
            if not (self._may_gain_older and self._listing.cheap() and self._listing.changed()):
                return
        elif not self._has_more:
            # While others work through the jobs of closed lanes, the directory changes all the time, and stays long.
            if closed.closed and not self._listing.cheap():
                return
            if not self._listing.stale():
                return
        if self._has_more and not self.names:
            # Not from the beginning: what could not be claimed is still there, and would be all that is found again.
            found = sorted(self._listing.look_on())
            found = found[bisect_right(found, self._last) :]
        else:
            found = sorted(self._listing.look())
            self.aside, self.aside_count, self.forgotten = {}, 0, set()
        self._keep(found, most, closed, room)

    def _keep(self, found: list[str], most: int, closed: ClosedLanes, room: int) -> None:
        names: list[str] = []
        is_any_closed = bool(closed.closed)
        self._has_more = False
        for name in found:
            if not layout.PENDING_NAME.fullmatch(name):
                self.strange.append(os.path.join(self.path, name))
            elif is_any_closed and closed.has(name):
                self.lay_aside(name, room)
            elif len(names) == most:
                self._has_more = True  # to be listed again when these are used up
                break
            else:
                names.append(name)
            self._last = name
        names.reverse()
        self.names = names

    def lay_aside(self, name: str, room: int) -> None:
        """Keep a name until its lane opens, or only that there was one of this lane, when there is no room."""
        lane = name[lanes.IN_PENDING]
        if self.aside_count >= room:
            self.forgotten.add(lane)
            return
        self.aside_count += 1
        if lane in self.aside:
            self.aside[lane].append(name)
        else:
            self.aside[lane] = [name]

    def reopen(self, opened: AbstractSet[str]) -> bool:
        """Take up again what was laid aside of lanes that have opened; return whether there was anything."""
        names = [name for lane in self.aside.keys() & opened for name in self.aside.pop(lane)]
        self.aside_count -= len(names)
        if names:
            self.names = sorted([*self.names, *names], reverse=True)
        return bool(names)

    @property
    def head(self) -> str | None:
        """The oldest name."""
        return self.names[-1] if self.names else None

    def is_due(self, name: str, now_ms: int) -> bool:
        """Tell whether the job of this name may start."""
        return self.at_once or int(name[:13]) <= now_ms

    def drained(self, now_ms: int) -> bool:
        """Tell whether nothing is left of a minute that nobody submits to any more."""
        return not self.names and not self.aside_count and self.is_over(now_ms)

    def is_over(self, now_ms: int) -> bool:
        """Tell whether its minute is long enough over for nobody to submit to it any more."""
        return self.start_ms + layout.DRAINED_AFTER_MS < now_ms


class Unopened:
    """Buckets that were not looked into yet, by their minute."""

    def __init__(self) -> None:
        """There are none."""
        self._starts: list[tuple[int, str]] = []

    def add(self, bucket: Bucket) -> None:
        """Add a bucket."""
        insort(self._starts, (bucket.start_ms, bucket.name))

    def remove(self, bucket: Bucket) -> None:
        """Take a bucket away, if it is there."""
        place = bisect_right(self._starts, (bucket.start_ms, bucket.name)) - 1
        if place >= 0 and self._starts[place] == (bucket.start_ms, bucket.name):
            del self._starts[place]

    def first(self) -> tuple[int, str] | None:
        """Return start and name of the bucket with the earliest minute."""
        return self._starts[0] if self._starts else None

    def count(self, start_ms: int) -> int:
        """Return how many there are of this minute."""
        return bisect_right(self._starts, (start_ms + 1, "")) - bisect_right(self._starts, (start_ms, ""))

    def next_ms(self, now_ms: int) -> int | None:
        """Return the start of the first minute that lies ahead."""
        place = bisect_right(self._starts, (now_ms + 1, ""))
        return self._starts[place][0] if place < len(self._starts) else None


MOST_NAMES = 65_536  # of one priority, if they lie in few buckets
LEAST_NAMES = 128  # of each bucket
MOST_ASIDE = 65_536  # names of closed lanes, of one priority
# So many steps are taken to lay aside what is of closed lanes, and more for so long: then others may have their turn.
# A name is one step, a bucket that is opened several.
FEW_STEPS, BUCKET_STEPS, SLICE_S = 256, 64, 0.005
LONGEST_PAUSE_S = 0.5  # between two looks into buckets that somebody made for jobs of theirs


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


class Backlog:
    """The jobs of one priority that wait: its buckets, and which job of them is next."""

    def __init__(self, path: str, priority: int, lanes: ClosedLanes) -> None:
        """Know no buckets yet."""
        self.priority = priority
        self.interrupted = False  # a slice is over, and there is more to lay aside
        self.buckets: dict[str, Bucket] = {}
        self.strange: list[str] = []
        self.unreadable: dict[str, OSError] = {}
        self._path = path
        self._listing = Listing(path)
        self._lanes = lanes
        self._aside_count = 0
        self._unopened, self._unopened_delayed = Unopened(), Unopened()
        self._common: dict[str, Bucket] = {}  # opened, and anybody may put a job into them
        # Opened, and hardly anything comes into them: made by somebody for jobs of theirs, or of a minute long over,
        # and there only for jobs of closed lanes.
        self._quiet: deque[Bucket] = deque()
        self._turn_at = 0.0
        self._used_up: list[Bucket] = []
        # Of each opened bucket the head, with the bucket's name: those that are due, and those that are not yet. What
        # has changed since is only noticed when it comes to the front.
        self._due: list[tuple[str, str]] = []
        self._later: list[tuple[str, str]] = []

    def refresh(self, now_ms: int) -> None:
        """Learn of new buckets, and of new names in those that are opened."""
        try:
            if self._listing.stale():
                self._look()
        except OSError as error:
            self._listing = Listing(self._path)  # it may have failed after the listing, which then has told nothing
            self.unreadable[self._path] = allowed(error)
        for bucket in list(self._common.values()):
            self._look_into(bucket, now_ms)
        if self._lanes.closed:
            self.interrupted = False
            self._part_quiet_ones(now_ms)
        self._look_into_quiet(now_ms)

    def _part_quiet_ones(self, now_ms: int) -> None:
        """Look from now on only in turn into buckets of long ago in which nothing is left but jobs of closed lanes."""
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
            bucket.lay_aside(first, before + MOST_ASIDE - self._aside_count)
            self._aside_count += bucket.aside_count - before
            if self._is_late(1):
                return None

    def _is_late(self, steps: int) -> bool:
        """Tell whether the slice of time is over, and note that there is more to do."""
        self.interrupted = self._lanes.is_late(steps)
        return self.interrupted

    def reopen(self, opened: AbstractSet[str]) -> bool:
        """Take up again what was laid aside of these lanes; return False if not all of it is known any more."""
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
        """Take the name away that `best` has returned; return its bucket."""
        bucket = self.buckets[heappop(self._due)[1]]
        bucket.names.pop()
        if bucket.names:
            self._place(bucket, None)
        else:
            self._used_up.append(bucket)  # and not looked into before the job of that name has been moved
        return bucket

    def next_ms(self, now_ms: int) -> int | None:
        """Return when the next delayed job of this priority may start, as far as is known."""
        later = _front(self._later, self.buckets)
        moments = (self._unopened_delayed.next_ms(now_ms), None if later is None else int(later[:13]))
        return min((ms for ms in moments if ms is not None and ms > now_ms), default=None)

    def _look(self) -> None:
        names = set(self._listing.look())
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
                self.strange.append(path)  # a link would have us clear away what lies elsewhere and is no job

    def _forget(self, bucket: Bucket) -> None:
        del self.buckets[bucket.name]
        self._aside_count -= bucket.aside_count
        self._common.pop(bucket.name, None)
        (self._unopened if bucket.at_once else self._unopened_delayed).remove(bucket)

    def _open_one(self, now_ms: int, before_ms: int | None) -> bool:
        """Look into a bucket that was not yet looked into, if an older job may be in it; return whether there was one.

        In a bucket there is no job from before its minute.
        """
        latest = before_ms if before_ms is not None else LATEST_MS
        for unopened, until in ((self._unopened, latest), (self._unopened_delayed, min(latest, now_ms))):
            first = unopened.first()
            if first is not None and first[0] <= until:
                bucket = self.buckets[first[1]]
                unopened.remove(bucket)
                if bucket.is_own:
                    self._quiet.append(bucket)
                else:
                    self._common[bucket.name] = bucket
                self._look_into(bucket, now_ms)
                return True
        return False

    def _look_into_quiet(self, now_ms: int) -> None:
        """Look into some of these buckets, so that the time for it stays a small part of all."""
        begun = time.perf_counter()
        if begun < self._turn_at:
            return
        for _ in range(len(self._quiet)):
            bucket = self._quiet.popleft()
            if self.buckets.get(bucket.name) is bucket and not self._look_into(bucket, now_ms):
                self._quiet.append(bucket)
            if time.perf_counter() - begun > CHEAP_S:
                break
        took = time.perf_counter() - begun
        # A process that was not running for a while has not looked for so long: jobs must not wait for that.
        pause = min(CHEAP * took, LONGEST_PAUSE_S)
        self._turn_at = begun if took < CHEAP_S / 10 else begun + pause

    def _look_into(self, bucket: Bucket, now_ms: int) -> bool:
        """Learn of new names; return whether the bucket is gone, because nothing will come into it any more."""
        self._fill(bucket, now_ms)
        if bucket.drained(now_ms) and files.remove_directory(bucket.path):
            self._forget(bucket)
            return True
        return False

    def _fill(self, bucket: Bucket, now_ms: int) -> None:
        """Look for more names in a bucket. One that cannot be read hides no other."""
        known, aside = bucket.names, bucket.aside_count
        alike = self._unopened.count(bucket.start_ms) + self._unopened_delayed.count(bucket.start_ms)
        most = max(LEAST_NAMES, MOST_NAMES // (len(self._quiet) + len(self._common) + alike + 1))
        try:
            bucket.fill(most, self._lanes, aside + MOST_ASIDE - self._aside_count)
        except OSError as error:
            self.unreadable[bucket.path] = allowed(error)
        if bucket.names is not known:
            self._aside_count += bucket.aside_count - aside
            self._place(bucket, now_ms)
        if bucket.strange:
            self.strange += bucket.strange
            bucket.strange = []

    def _place(self, bucket: Bucket, now_ms: int | None) -> None:
        """Let the head of a bucket take its place among the others. Without a moment, one that is not due waits."""
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


class Cursor:
    """One worker's view of what is next."""

    def __init__(
        self, paths: Layout, *, min_priority: int, age_boost: timedelta, since: str = lanes.NO_ID_TELLS
    ) -> None:
        """Look at the priorities from 9 down to the lowest that this worker takes. Ids tell lanes from `since` on."""
        self._paths = paths
        self._lanes = ClosedLanes(since)
        self._opens_ms: int | None = None
        self._backlogs = [self._backlog(priority) for priority in range(9, min_priority - 1, -1)]
        self._boost_ms = age_boost.total_seconds() * 1000

    def _backlog(self, priority: int) -> Backlog:
        return Backlog(self._paths.priority(priority), priority, self._lanes)

    def close_lanes(self, closed: frozenset[str], *, opens_ms: int | None = None) -> None:
        """Let jobs of these lanes, and of no others, wait from now on. `opens_ms` is when the first of them opens."""
        self._opens_ms = opens_ms
        if closed is self._lanes.closed:
            return
        opened, self._lanes.closed = self._lanes.closed - closed, closed
        for backlog in self._backlogs:
            backlog.interrupted = False
        if opened:
            kept = [(backlog, backlog.reopen(opened)) for backlog in self._backlogs]
            self._backlogs = [backlog if is_whole else self._backlog(backlog.priority) for backlog, is_whole in kept]

    def candidates(self, now_ms: int, *, above: int = -1) -> Iterator[Candidate]:
        """Go through the jobs of a priority higher than `above` that may start now, best first.

        Each is named once, until its directory changes. With closed lanes this may end early: then `next_ms` is now.
        """
        backlogs = [backlog for backlog in self._backlogs if backlog.priority > above]
        if self._lanes.closed:
            self._lanes.begin_slice()
        if self._boost_ms:
            yield from self._by_rank(backlogs, now_ms)
            return
        for backlog in backlogs:  # they stand in order of priority
            backlog.refresh(now_ms)
            while (name := backlog.best(now_ms)) is not None:
                yield Candidate(backlog.priority, backlog.take().name, name)
            if backlog.interrupted:
                return  # a job of a lower priority must not overtake what was not looked at yet

    def _by_rank(self, backlogs: list[Backlog], now_ms: int) -> Iterator[Candidate]:
        """Go through the jobs with ageing: the head of each priority competes with the others."""
        for backlog in backlogs:
            backlog.refresh(now_ms)
        while True:
            heads = [(backlog, name) for backlog in backlogs if (name := backlog.best(now_ms)) is not None]
            if not heads or any(backlog.interrupted for backlog in backlogs):
                return
            backlog, name = max(heads, key=lambda found: self._rank(found[0].priority, found[1], now_ms))
            yield Candidate(backlog.priority, backlog.take().name, name)

    def strange(self) -> list[str]:
        """Return, once, the paths in buckets that no job can have."""
        found = []
        for backlog in self._backlogs:
            found += backlog.strange
            backlog.strange = []
        return found

    def unreadable(self) -> dict[str, OSError]:
        """Return, once, the directories that could not be read, each with the reason."""
        found: dict[str, OSError] = {}
        for backlog in self._backlogs:
            found |= backlog.unreadable
            backlog.unreadable = {}
        return found

    def next_ms(self, now_ms: int) -> int | None:
        """Return when there is something to do next, as far as is known: a delayed job may start, or a lane opens.

        A job of a closed lane is nothing to do, however long it has been due.
        """
        if any(backlog.interrupted for backlog in self._backlogs):
            return now_ms
        moments = [self._opens_ms, *(backlog.next_ms(now_ms) for backlog in self._backlogs)]
        return min((ms for ms in moments if ms is not None), default=None)

    def _rank(self, priority: int, name: str, now_ms: int) -> tuple[int, int]:
        """Rank with ageing: a level per `age_boost` of waiting, then the older one."""
        waited = now_ms - int(name[:13])
        return min(9, priority + max(0, int(waited // self._boost_ms))), waited
