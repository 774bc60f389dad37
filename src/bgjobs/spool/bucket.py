"""Keep the names in one bucket of pending jobs, and tell which of them is the oldest.

Jobs of a closed lane may not be claimed for now. They are known by their names, are set aside in slices of some
milliseconds, and come back when the lane opens. No file is opened for that.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from bgjobs.spool import lanes, layout
from bgjobs.spool.cached_listing import CachedListing

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

NO_LANES: frozenset[str] = frozenset()
# So many names are set aside without a look at the clock, and more for so long: then other workers may have their turn.
FEW_STEPS, SLICE_S = 256, 0.005


class ClosedLanes:
    """The lanes of which no job may be claimed for now."""

    def __init__(self, since: str) -> None:
        """Close none. Ids from `since` on hold the lane of their jobs."""
        self.closed = NO_LANES
        self._since = since
        self._steps, self._slice_ends = 0, 0.0

    def has(self, name: str) -> bool:
        """Tell whether the name of a pending job says that its lane is closed."""
        return name[lanes.IN_PENDING] in self.closed and name[lanes.ID_BEGINS :] >= self._since

    def begin_slice(self) -> None:
        """Begin a slice of time in which names are set aside."""
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
        # One group of jobs, or those that one process put back: of a minute there may be many such buckets, and hardly
        # anything comes into them later. They are looked into in turn.
        self.is_private = "." in name
        self.aside: dict[str, list[str]] = {}  # by closed lane
        self.aside_count = 0
        self.forgotten: set[str] = set()  # closed lanes of which not all names are kept
        # Delayed jobs and those that came back can be older than the ones that are known of the same bucket.
        self._may_gain_older = not self.at_once or self.is_private
        self._listing = CachedListing(path)
        self._has_more = False
        self._last = ""  # the last name that was gone through, if there are more

    def fill(self, most: int, closed: ClosedLanes, room: int) -> None:
        """List the bucket, if no names are known or older ones may have come, and keep the oldest `most`.

        At most `room` names of closed lanes are set aside.
        """
        if self.names:
            if not (self._may_gain_older and self._listing.is_cheap() and self._listing.has_changed()):
                return
        elif not self._has_more:
            # While others work through the jobs of closed lanes, the directory changes all the time, and stays long.
            if closed.closed and not self._listing.is_cheap():
                return
            if not self._listing.is_stale():
                return
        if self._has_more and not self.names:
            # Not from the beginning: what could not be claimed is still there, and would be all that is found again.
            found = sorted(self._listing.read_more())
            found = found[bisect_right(found, self._last) :]
        else:
            found = sorted(self._listing.read())
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
                self.set_aside(name, room)
            elif len(names) == most:
                self._has_more = True  # to be listed again when these are used up
                break
            else:
                names.append(name)
            self._last = name
        names.reverse()
        self.names = names

    def set_aside(self, name: str, room: int) -> None:
        """Keep a name until its lane opens; without room for it, remember only that there was one of this lane."""
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
        """Use again the names that were set aside for lanes that are open now; return whether there were any."""
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

    def is_drained(self, now_ms: int) -> bool:
        """Tell whether the bucket is empty and nobody submits to its minute any more."""
        return not self.names and not self.aside_count and self.is_over(now_ms)

    def is_over(self, now_ms: int) -> bool:
        """Tell whether its minute is long enough over for nobody to submit to it any more."""
        return self.start_ms + layout.DRAINED_AFTER_MS < now_ms


class UnopenedBuckets:
    """Buckets that were not listed yet, by their minute."""

    def __init__(self) -> None:
        """There are none."""
        self._starts: list[tuple[int, str]] = []

    def add(self, bucket: Bucket) -> None:
        """Add a bucket."""
        insort(self._starts, (bucket.start_ms, bucket.name))

    def remove(self, bucket: Bucket) -> None:
        """Take a bucket away, if it is there."""
        index = bisect_right(self._starts, (bucket.start_ms, bucket.name)) - 1
        if index >= 0 and self._starts[index] == (bucket.start_ms, bucket.name):
            del self._starts[index]

    def first(self) -> tuple[int, str] | None:
        """Return start and name of the bucket with the earliest minute."""
        return self._starts[0] if self._starts else None

    def count(self, start_ms: int) -> int:
        """Return how many there are of this minute."""
        return bisect_right(self._starts, (start_ms + 1, "")) - bisect_right(self._starts, (start_ms, ""))

    def next_ms(self, now_ms: int) -> int | None:
        """Return the start of the first minute that lies ahead."""
        index = bisect_right(self._starts, (now_ms + 1, ""))
        return self._starts[index][0] if index < len(self._starts) else None
