"""Remember the names in a directory, and tell whether they may have changed since they were read."""

from __future__ import annotations

import time

from bgjobs import files

UNSURE_NS = 20_000_000  # a change this close to a listing may not show in the directory's time
COARSE_NS = 2_020_000_000  # the same where the disk keeps whole seconds (ext3, small inodes), or every other (FAT)
SECOND_NS = 1_000_000_000
RELIST_S, RELIST_COST = 30.0, 1000  # a listing is read anew after so many seconds, or times what reading it took
CHEAP, CHEAP_S = 50, 0.001  # reading is cheap after so many times its cost, or if it takes less


class CachedListing:
    """Lists one directory, and tells whether its names may have changed since."""

    def __init__(self, path: str) -> None:
        """Read nothing yet."""
        self.path = path
        self._seen_ns: int | None = -1
        self._listed_ns = 0
        self._listed_at = 0.0
        self._took_s, self._good_for_s = 0.0, RELIST_S

    def is_stale(self) -> bool:
        """Tell whether to read the names anew: they may have changed, or are old (not every disk notes changes)."""
        return time.perf_counter() - self._listed_at > self._good_for_s or self.has_changed()

    def has_changed(self) -> bool:
        """Tell whether the directory has changed, or may have, since its names were read."""
        changed = files.changed_ns(self.path)
        unsure = changed is not None and changed > self._listed_ns - (UNSURE_NS if changed % SECOND_NS else COARSE_NS)
        return changed != self._seen_ns or (unsure and time.time_ns() - self._listed_ns > UNSURE_NS)

    def read(self) -> list[str]:
        """Return the names that are there now."""
        seen_ns, listed_ns = files.changed_ns(self.path), time.time_ns()
        names = self.read_more()  # may fail, and then nothing was read
        self._seen_ns, self._listed_ns = seen_ns, listed_ns
        return names

    def read_more(self) -> list[str]:
        """Return the names that are there now, as a part of the last `read`: changes since that still count."""
        begun = time.perf_counter()
        names = files.names(self.path)
        self._listed_at = time.perf_counter()
        self._took_s = self._listed_at - begun
        self._good_for_s = max(RELIST_S, RELIST_COST * self._took_s)
        return names

    def mark_read(self) -> None:
        """Count the names as read: the caller is about to go through them one by one."""
        self._seen_ns, self._listed_ns = files.changed_ns(self.path), time.time_ns()
        self._listed_at = time.perf_counter()

    def is_cheap(self) -> bool:
        """Tell whether reading the names now keeps the time for that a small part of all."""
        return self._took_s < CHEAP_S or time.perf_counter() - self._listed_at > CHEAP * self._took_s
