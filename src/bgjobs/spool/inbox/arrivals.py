"""Choose which files in `incoming/` are imported next: the oldest first, of several users in turn.

A file that cannot be taken stays where it is and is reported once: its owner has no room for it, we may not read it, or
it is a directory. Any user may add names to a shared `incoming/`, so it is scanned in short steps, and only a few names
of each user are kept.
"""

from __future__ import annotations

import math
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from bgjobs import clock, disk, files, system
from bgjobs.events import LeftAlone
from bgjobs.spool import layout
from bgjobs.spool.cached_listing import CachedListing
from bgjobs.spool.inbox import accounts
from bgjobs.spool.line1 import MOST_LINE_1
from bgjobs.throttle import Once, Throttle

if TYPE_CHECKING:
    from collections.abc import Generator

    from bgjobs.events import Emit
    from bgjobs.spool.inbox.accounts import Accounts
    from bgjobs.spool.layout import Layout


class DeferredError(Exception):
    """The file has to go back to `incoming/`: its owner has no room, or keeps us from reading it."""


class Arrivals:
    """The files in `incoming/` of a spool of one user."""

    def __init__(self, path: str) -> None:
        """List nothing yet."""
        self._path = path
        self._listing = CachedListing(path)
        self._names: list[str] = []  # listed and not taken yet, the next one last
        self._deferred: set[str] = set()

    def next(self, most: int) -> list[str]:
        """Return the names of at most so many files to take now. Raises OSError."""
        if not self._names and self._listing.is_stale():
            names = [name for name in self._listing.read() if layout.is_incoming(name)]
            names.sort(key=lambda name: (_changed_ns(os.path.join(self._path, name)), name), reverse=True)
            self._names = names
        chosen = self._names[: -most - 1 : -1]
        del self._names[-most:]
        return chosen

    def defer(self, name: str) -> None:
        """Do not return a file that could not be taken before `retry_deferred` is called."""
        self._deferred.add(name)

    def retry_deferred(self) -> None:
        """Return the deferred files again."""
        self._names += self._deferred
        self._deferred.clear()

    def peek(self, path: str) -> bytes:
        """Return what is in a file that was not taken yet. Raises OSError, StrangeFileError."""
        return files.read(path, MOST_LINE_1)

    def read(self, path: str, _job_id: str, _name: str) -> tuple[bytes, str | None]:
        """Return what is in a file that was taken, and which other user handed it in: here none may.

        Raises OSError, StrangeFileError, or DeferredError.
        """
        return files.read(path, MOST_LINE_1), None

    def close(self) -> None:
        """Close what was kept open."""


def _changed_ns(path: str) -> int:
    try:
        return disk.lstat(path).st_mtime_ns
    except OSError:
        return 0  # it is gone, or taking it reports the error


SLICE, SLICE_S = 64, 0.1
MOST_IN_QUEUE = 1024
MOST_REPORTED, REPORT_AGAIN_S = 10, 3600.0
AGAIN_S = 1.0
TIMES_ITS_COST = 5
SKIP_TIMES_SCAN, MOST_SKIP_S = 20, 30.0  # a file that stays is not tested again for so many times what a scan takes
MOST_SKIPPED = 200_000
PAUSE_S = 5.0
OURS = -1
NOBODY = -2  # stands for the owner of a directory, which is not asked for: a mount there may not answer


class Arrival(NamedTuple):
    """A file that can be taken. Sorts by age."""

    changed_ns: int
    name: str
    size: int
    key: int


class SharedArrivals:
    """The files in `incoming/` of a shared spool, by owner, as of the last scan."""

    def __init__(self, paths: Layout, accounts: Accounts, emit: Emit) -> None:
        """List nothing yet."""
        self._path = paths.incoming
        self._accounts = accounts
        self._emit = emit
        self._listing = CachedListing(paths.incoming)
        self._scan: Generator[None] | None = None
        self._queues: dict[int, list[Arrival]] = {}  # the next one last
        self._has_deferred = False  # whether a file may be taken later without any change to the directory
        self._scanning = Throttle(TIMES_ITS_COST)
        self._retry_at = self._scan_s = self._slowest_scan_s = 0.0
        self._skipped: dict[int, tuple[float, int]] = {}  # by hash of the name: until when, and the owner
        self._paused_until: dict[int, float] = {}
        self._user_names: dict[int, str] = {}
        self._reported: dict[int, tuple[float, Once]] = {}  # by owner: since when, and which names
        self._reported_full: set[int] = set()  # users whose lack of room was reported
        self._users_without_room: set[int] = set()  # nor any job that is about to make room

    def next(self, most: int) -> list[str]:
        """Return the names of at most so many files to take now, of each owner in turn. Raises OSError."""
        if self._scan is not None or (not any(self._queues.values()) and self._scan_is_due()):
            self._scan_on()
        chosen: list[str] = []
        room: dict[int, tuple[int, int]] = {}
        try:
            while len(chosen) < most and any(self._queues.values()):
                for uid in [uid for uid, queue in self._queues.items() if queue]:
                    if len(chosen) < most:
                        arrival = self._queues[uid].pop()
                        if uid == OURS or self._fits(uid, arrival, room):
                            chosen.append(arrival.name)
        except OSError:
            self._has_deferred = True  # the next scan finds the chosen files again
            raise
        return chosen

    def defer(self, _name: str) -> None:
        """Note that a file could not be taken: a later scan finds it again."""
        self._has_deferred = True

    def retry_deferred(self) -> None:
        """Do nothing: a scan that is due finds deferred files."""

    def peek(self, path: str) -> bytes:
        """Return what is in a file that was not taken yet. Raises OSError, StrangeFileError."""
        data, _ = accounts.read(path)
        return data

    def read(self, path: str, job_id: str, name: str) -> tuple[bytes, str | None]:
        """Return what is in a file that was taken, and which other user handed it in.

        Raises OSError, StrangeFileError, or DeferredError.
        """
        state = accounts.state_if_foreign(path)
        if state is None:
            return accounts.read(path)
        uid = state.st_uid
        if not self._accounts.charge(uid, job_id, accounts.charged_size(state)):
            self._has_deferred = True
            raise DeferredError
        try:
            return accounts.read(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            # Its owner holds a lease on it, or has just changed its mode: such a file must not delay the others.
            self._accounts.uncharge(uid, job_id)
            self._paused_until[uid] = time.monotonic() + PAUSE_S
            self._report_once(uid, name, f"cannot be read: {error.strerror}")
            raise DeferredError from error

    def has_importable(self) -> bool:
        """Tell whether there is a file that will be taken before long."""
        try:
            return any(
                layout.is_incoming(name) and not is_directory and self._is_importable(name)
                for name, is_directory in disk.scandir(self._path)
            )
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close what was kept open."""
        if self._scan is not None:
            self._scan.close()

    # Room

    def _fits(self, uid: int, arrival: Arrival, room: dict[int, tuple[int, int]]) -> bool:
        jobs, most = room[uid] if uid in room else self._accounts.room(uid, arrival.size)
        if jobs >= 1 and arrival.size <= most:
            room[uid] = jobs - 1, most - arrival.size
            self._users_without_room.discard(uid)
            return True
        self._skip(uid, arrival.key)
        for other in self._queues[uid]:  # they are not older
            self._skip(uid, other.key)
        self._queues[uid].clear()
        if not self._accounts.will_have_room(uid):
            self._users_without_room.add(uid)
        if uid not in self._reported_full:
            self._reported_full.add(uid)
            reason = (
                f"user {self._user_names[uid]} has {self._accounts.count(uid)} files in the spool and no room for more "
                "(max_queued_per_user, max_bytes_per_user): the others wait"
            )
            self._emit(LeftAlone(f"incoming/{arrival.name}", reason, clock.now()))
        return False

    def _report_once(self, uid: int, name: str, reason: str) -> None:
        """Report that a file stays where it is; of each user only a few, however many there are."""
        since, names = self._reported.get(uid, (-math.inf, Once()))
        if time.monotonic() - since > REPORT_AGAIN_S:
            names = Once(MOST_REPORTED)
            self._reported[uid] = time.monotonic(), names
        if not names.first(name):
            return
        of = f"of user {self._user_names[uid]}: " if uid in self._user_names else ""
        more = "; further ones are not named for now" if len(names) == MOST_REPORTED else ""
        self._emit(LeftAlone(f"incoming/{name}", f"{of}{reason}{more}", clock.now()))

    # Scanning

    def _scan_is_due(self) -> bool:
        now = time.monotonic()
        return self._scanning.is_due(now) and (
            self._listing.is_stale() or (self._has_deferred and now >= self._retry_at)
        )

    def _scan_on(self) -> None:
        """Scan `incoming/` for one slice of time. Files found so far can be taken."""
        begun = time.monotonic()
        if self._scan is None:
            self._listing.mark_read()
            self._has_deferred, self._scan_s = False, 0.0
            self._scan = self._scanned()
        try:
            for _ in self._scan:
                if time.monotonic() - begun >= SLICE_S:
                    break
            else:
                self._scan = None
        except OSError:
            self._scan, self._has_deferred = None, True
            raise
        finally:
            now = time.monotonic()
            self._scan_s += now - begun
            self._scanning.ran(now, self._scan_s)
            self._retry_at = now + AGAIN_S
            self._sort()

    def _sort(self) -> None:
        for uid, queue in self._queues.items():
            queue.sort(reverse=True)
            if uid != OURS and len(queue) > MOST_IN_QUEUE:
                for arrival in queue[:-MOST_IN_QUEUE]:
                    self._skip(uid, arrival.key)
                del queue[:-MOST_IN_QUEUE]

    def _skip(self, uid: int, key: int) -> None:
        """Leave a file where it is. If scans take long, it is not tested again in each of them."""
        self._has_deferred = True
        if len(self._skipped) < MOST_SKIPPED:
            skip_s = min(SKIP_TIMES_SCAN * max(self._scan_s, self._slowest_scan_s), MOST_SKIP_S)
            self._skipped[key] = time.monotonic() + skip_s, uid

    def _scanned(self) -> Generator[None]:
        seen: set[int] = set()
        for count, (name, is_directory) in enumerate(disk.scandir(self._path), start=1):
            if is_directory and layout.is_incoming(name):
                self._report_once(NOBODY, name, "a directory is no job: remove it")
            elif layout.is_incoming(name):
                self._enqueue(name, seen)
            if not count % SLICE:
                yield
        self._reported_full &= seen
        self._slowest_scan_s = max(self._scan_s, self._slowest_scan_s / 2)
        now = time.monotonic()
        self._skipped = {key: known for key, known in self._skipped.items() if known[0] > now}

    def _enqueue(self, name: str, seen: set[int]) -> None:
        """Put one file into the queue of its owner, unless it cannot be taken now."""
        key = hash(name)
        until, uid = self._skipped.get(key, (0.0, NOBODY))
        if until > time.monotonic():
            self._has_deferred = True
            seen.add(uid)
            return
        try:
            state = disk.lstat(os.path.join(self._path, name))
        except OSError:
            self._has_deferred = True  # gone, most likely
            return
        uid = OURS if system.is_mine(state) else state.st_uid
        seen.add(uid)
        if uid not in self._user_names:
            self._user_names[uid] = system.user_of(state)
        obstacle = self._obstacle(state)
        if obstacle:
            self._skip(uid, key)
            self._report_once(uid, name, obstacle)
        elif self._paused_until.get(uid, 0.0) > time.monotonic():
            self._skip(uid, key)
        else:
            arrival = Arrival(state.st_mtime_ns, name, accounts.charged_size(state), key)
            self._queues.setdefault(uid, []).append(arrival)

    def _obstacle(self, state: os.stat_result) -> str:
        """Return why another user's file cannot be taken, as far as its metadata tells, or nothing."""
        if system.is_mine(state):
            return ""
        if stat.S_ISREG(state.st_mode) and not system.may_read(state):
            return f"we may not read it (mode {stat.S_IMODE(state.st_mode):04o}): chmod g+r it"
        if accounts.charged_size(state) > self._accounts.most_bytes:
            return f"{state.st_size} bytes, more than max_bytes_per_user: remove it"
        return ""

    def _is_importable(self, name: str) -> bool:
        try:
            state = disk.lstat(os.path.join(self._path, name))
        except OSError:
            return False
        return state.st_uid not in self._users_without_room and not self._obstacle(state)
