"""What a worker knows of the directories in `pending/`: which names were there, and whether that may have changed."""

from __future__ import annotations

import os
import time
from bisect import bisect_right, insort

from bgjobs.spool import files, layout

UNSURE_NS = 20_000_000  # a change this close to a listing may not show in the directory's time
COARSE_NS = 2_020_000_000  # the same where the disk keeps whole seconds (ext3, small inodes), or every other (FAT)
SECOND_NS = 1_000_000_000
RELIST_S = 30.0
CHEAP, CHEAP_S = 50, 0.001


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
        """Tell whether a new look could show something new; now and then also where the disk notes no changes."""
        return time.perf_counter() - self._listed_at > RELIST_S or self.changed()

    def changed(self) -> bool:
        """Tell whether the directory has changed, or may have, since the last look."""
        changed = files.changed_ns(self.path)
        unsure = changed is not None and changed > self._listed_ns - (UNSURE_NS if changed % SECOND_NS else COARSE_NS)
        return changed != self._seen_ns or (unsure and time.time_ns() - self._listed_ns > UNSURE_NS)

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
        # Delayed jobs and those that came back can be older than the ones that are known of the same bucket.
        self._may_gain_older = not self.at_once or self.is_own
        self._listing = Listing(path)
        self._has_more = False

    def fill(self, most: int) -> None:
        """Look for more names, and keep the oldest `most`, when none are known, or older ones may have come."""
        if self.names:
            if not (self._may_gain_older and self._listing.cheap() and self._listing.changed()):
                return
        elif not (self._has_more or self._listing.stale()):
            return
        names: list[str] = []
        self._has_more = False
        for name in sorted(self._listing.look()):
            if not layout.PENDING_NAME.fullmatch(name):
                self.strange.append(os.path.join(self.path, name))
                continue
            if len(names) == most:
                self._has_more = True  # to be listed again when these are used up
                break
            names.append(name)
        names.reverse()
        self.names = names

    @property
    def head(self) -> str | None:
        """The oldest name."""
        return self.names[-1] if self.names else None

    def is_due(self, name: str, now_ms: int) -> bool:
        """Tell whether the job of this name may start."""
        return self.at_once or int(name[:13]) <= now_ms

    def drained(self, now_ms: int) -> bool:
        """Tell whether nothing is left of a minute that nobody submits to any more."""
        return not self.names and self.start_ms + layout.DRAINED_AFTER_MS < now_ms


class Closed:
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
