"""Which files in `incoming/` come next.

What cannot be taken stays where it is, and is named once: what its owner has no room for, what we may not read, and
directories. That others make names here while we look is what this directory is for, so a look goes through it in
short steps, and keeps only a few names of each user.
"""

from __future__ import annotations

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
from bgjobs.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Generator

    from bgjobs.events import Emit
    from bgjobs.spool.inbox.accounts import Submitters
    from bgjobs.spool.layout import Layout


class HeldUpError(Exception):
    """The file has to go back to where it was: its owner keeps us from importing it."""


class Arrivals:
    """What has come into `incoming/`, as of the last look."""

    def __init__(self, path: str) -> None:
        """Look at nothing yet."""
        self._path = path
        self._listing = CachedListing(path)
        self._names: list[str] = []  # seen and not taken yet, the next one last
        self._stuck: set[str] = set()

    def next(self, most: int) -> list[str]:
        """Return the names of at most so many files to take now. Raises OSError."""
        if not self._names and self._listing.is_stale():
            names = [name for name in self._listing.read() if layout.is_incoming(name)]
            names.sort(key=lambda name: (_changed_ns(os.path.join(self._path, name)), name), reverse=True)
            self._names = names
        chosen = self._names[: -most - 1 : -1]
        del self._names[-most:]
        return chosen

    def put_off(self, name: str) -> None:
        """Name a file that cannot be taken only `again`."""
        self._stuck.add(name)

    def again(self) -> None:
        """Let those be taken that could not be before."""
        self._names += self._stuck
        self._stuck.clear()

    def look_into(self, path: str) -> bytes:
        """Return what is in a file that was not taken yet. Raises OSError, StrangeFileError."""
        return files.read(path, MOST_LINE_1)

    def read(self, path: str, _job_id: str, _name: str) -> tuple[bytes, str | None]:
        """Return what is in a file that was taken, and which other user handed it in: here none may.

        Raises OSError, StrangeFileError, or HeldUpError.
        """
        return files.read(path, MOST_LINE_1), None

    def close(self) -> None:
        """Close what was kept open."""


def _changed_ns(path: str) -> int:
    try:
        return disk.lstat(path).st_mtime_ns
    except OSError:
        return 0  # it is gone, or whoever takes it will see


SLICE, SLICE_S = 64, 0.1
MOST_IN_ROW = 1024
MOST_NAMED, NAME_AGAIN_S = 10, 3600.0
AGAIN_S = 1.0
TIMES_ITS_COST = 5
PATIENCE, MOST_PATIENCE_S = 20, 30.0  # times what a walk takes: for so long a file that stays is not looked at again
MOST_PASSED = 200_000
REST_S = 5.0
OURS = -1
NOBODY = -2  # whose a directory is nobody asks: something else may be mounted there, which answers when it likes


class Arrival(NamedTuple):
    """A file that can be taken. Sorts by age."""

    changed_ns: int
    name: str
    size: int
    key: int


class SharedArrivals:
    """What has come into `incoming/`, by owner, as of the last walk through it."""

    def __init__(self, paths: Layout, accounts: Submitters, emit: Emit) -> None:
        """Look at nothing yet."""
        self._path = paths.incoming
        self._accounts = accounts
        self._emit = emit
        self._listing = CachedListing(paths.incoming)
        self._walk: Generator[None] | None = None
        self._rows: dict[int, list[Arrival]] = {}  # the next one last
        self._left = False  # whether something stays that may be taken later, without any change to the directory
        self._walking = Throttle(TIMES_ITS_COST)
        self._again_at = self._took_s = self._slowest_s = 0.0
        self._passed: dict[
            int, tuple[float, int]
        ] = {}  # what was seen to stay: until when that is good, and whose it is
        self._resting: dict[int, float] = {}
        self._who: dict[int, str] = {}
        self._named: dict[int, tuple[float, set[str]]] = {}
        self._full: set[int] = set()  # who was told so
        self._blocked: set[int] = set()  # and will have no room soon

    def next(self, most: int) -> list[str]:
        """Return the names of at most so many files to take now, of each owner in turn. Raises OSError."""
        if self._walk is not None or (not any(self._rows.values()) and self._is_time()):
            self._look()
        chosen: list[str] = []
        left: dict[int, tuple[int, int]] = {}
        try:
            while len(chosen) < most and any(self._rows.values()):
                for uid in [uid for uid, row in self._rows.items() if row]:
                    if len(chosen) < most:
                        arrival = self._rows[uid].pop()
                        if uid == OURS or self._has_room(uid, arrival, left):
                            chosen.append(arrival.name)
        except OSError:
            self._left = True  # what was chosen is found again
            raise
        return chosen

    def put_off(self, _name: str) -> None:
        """A file cannot be taken: the next walk finds it again."""
        self._left = True

    def again(self) -> None:
        """Do nothing: there is a time of our own for that."""

    def look_into(self, path: str) -> bytes:
        """Return what is in a file that was not taken yet. Raises OSError, StrangeFileError."""
        data, _ = accounts.read(path)
        return data

    def read(self, path: str, job_id: str, name: str) -> tuple[bytes, str | None]:
        """Return what is in a file that was taken, and which other user handed it in.

        Raises OSError, StrangeFileError, or HeldUpError.
        """
        state = accounts.of_another(path)
        if state is None:
            return accounts.read(path)
        uid = state.st_uid
        if not self._accounts.charge(uid, job_id, accounts.size_of(state)):
            self._left = True
            raise HeldUpError
        try:
            return accounts.read(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            # A lease that its owner holds, a mode that was changed just now: such a file must not hold up the others.
            self._accounts.uncharge(uid, job_id)
            self._resting[uid] = time.monotonic() + REST_S
            self._name_once(uid, name, f"cannot be read: {error.strerror}")
            raise HeldUpError from error

    def waits(self) -> bool:
        """Tell whether there is a file that will be taken before long."""
        try:
            return any(
                layout.is_incoming(name) and not is_directory and self._will_be_taken(name)
                for name, is_directory in disk.scandir(self._path)
            )
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close what was kept open."""
        if self._walk is not None:
            self._walk.close()

    # Whose turn it is

    def _has_room(self, uid: int, arrival: Arrival, left: dict[int, tuple[int, int]]) -> bool:
        jobs, most = left[uid] if uid in left else self._accounts.left(uid, arrival.size)
        if jobs >= 1 and arrival.size <= most:
            left[uid] = jobs - 1, most - arrival.size
            self._blocked.discard(uid)
            return True
        self._pass_over(uid, arrival.key)
        for other in self._rows[uid]:  # they are not older
            self._pass_over(uid, other.key)
        self._rows[uid].clear()
        if not self._accounts.will_have_room(uid):
            self._blocked.add(uid)
        if uid not in self._full:
            self._full.add(uid)
            reason = (
                f"user {self._who[uid]} has {self._accounts.holds(uid)} files in the spool and no room for more "
                "(max_queued_per_user, max_bytes_per_user): the others wait"
            )
            self._emit(LeftAlone(f"incoming/{arrival.name}", reason, clock.now()))
        return False

    def _name_once(self, uid: int, name: str, reason: str) -> None:
        """Say that a file stays where it is; of each user only a few, however many there are."""
        since, told = self._named.get(uid, (0.0, set[str]()))
        if time.monotonic() - since > NAME_AGAIN_S or not told:
            since, told = time.monotonic(), set()
            self._named[uid] = since, told
        if name in told or len(told) >= MOST_NAMED:
            return
        told.add(name)
        of = f"of user {self._who[uid]}: " if uid in self._who else ""
        more = "; further ones are not named for now" if len(told) == MOST_NAMED else ""
        self._emit(LeftAlone(f"incoming/{name}", f"{of}{reason}{more}", clock.now()))

    # Looking

    def _is_time(self) -> bool:
        now = time.monotonic()
        return self._walking.is_due(now) and (self._listing.is_stale() or (self._left and now >= self._again_at))

    def _look(self) -> None:
        """Walk on through `incoming/`, for a moment. What was found so far can be taken."""
        begun = time.monotonic()
        if self._walk is None:
            self._listing.mark_read()
            self._left, self._took_s = False, 0.0
            self._walk = self._walked()
        try:
            for _ in self._walk:
                if time.monotonic() - begun >= SLICE_S:
                    break
            else:
                self._walk = None
        except OSError:
            self._walk, self._left = None, True
            raise
        finally:
            now = time.monotonic()
            self._took_s += now - begun
            self._walking.ran(now, self._took_s)
            self._again_at = now + AGAIN_S
            self._order()

    def _order(self) -> None:
        for uid, row in self._rows.items():
            row.sort(reverse=True)
            if uid != OURS and len(row) > MOST_IN_ROW:
                for arrival in row[:-MOST_IN_ROW]:
                    self._pass_over(uid, arrival.key)
                del row[:-MOST_IN_ROW]

    def _pass_over(self, uid: int, key: int) -> None:
        """Leave a file where it is. Where there are so many that a walk takes long, it is not asked about each time."""
        self._left = True
        if len(self._passed) < MOST_PASSED:
            patience = min(PATIENCE * max(self._took_s, self._slowest_s), MOST_PATIENCE_S)
            self._passed[key] = time.monotonic() + patience, uid

    def _walked(self) -> Generator[None]:
        seen: set[int] = set()
        for count, (name, is_directory) in enumerate(disk.scandir(self._path), start=1):
            if is_directory and layout.is_incoming(name):
                self._name_once(NOBODY, name, "a directory is no job: remove it")
            elif layout.is_incoming(name):
                self._line_up(name, seen)
            if not count % SLICE:
                yield
        self._full &= seen
        self._slowest_s = max(self._took_s, self._slowest_s / 2)
        now = time.monotonic()
        self._passed = {key: known for key, known in self._passed.items() if known[0] > now}

    def _line_up(self, name: str, seen: set[int]) -> None:
        """Put one file into the row of its owner, unless something is against it."""
        key = hash(name)
        until, uid = self._passed.get(key, (0.0, NOBODY))
        if until > time.monotonic():
            self._left = True
            seen.add(uid)
            return
        try:
            state = disk.lstat(os.path.join(self._path, name))
        except OSError:
            self._left = True  # gone, most likely
            return
        uid = OURS if system.is_mine(state) else state.st_uid
        seen.add(uid)
        if uid not in self._who:
            self._who[uid] = system.user_of(state)
        against = self._obstacle(state)
        if against:
            self._pass_over(uid, key)
            self._name_once(uid, name, against)
        elif self._resting.get(uid, 0.0) > time.monotonic():
            self._pass_over(uid, key)
        else:
            arrival = Arrival(state.st_mtime_ns, name, accounts.size_of(state), key)
            self._rows.setdefault(uid, []).append(arrival)

    def _obstacle(self, state: os.stat_result) -> str:
        """Return why another user's file cannot be taken, as far as can be seen from outside, or nothing."""
        if system.is_mine(state):
            return ""
        if stat.S_ISREG(state.st_mode) and not system.may_read(state):
            return f"we may not read it (mode {stat.S_IMODE(state.st_mode):04o}): chmod g+r it"
        if accounts.size_of(state) > self._accounts.most_bytes:
            return f"{state.st_size} bytes, more than max_bytes_per_user: remove it"
        return ""

    def _will_be_taken(self, name: str) -> bool:
        try:
            state = disk.lstat(os.path.join(self._path, name))
        except OSError:
            return False
        return state.st_uid not in self._blocked and not self._obstacle(state)
