"""Limit how much each other user may have in a shared spool, and tell who handed in a file.

For each file that is taken from another user there is an empty file `submitters/UID/ID.BYTES`, made before its job is.
Those whose job has ended are removed when an account looks full, or has grown long. So importing a file does not need a
look at the queue, and a job counts while it is pending, runs, or lies in `corrupt/`, whichever worker took it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import clock, disk, files, system
from bgjobs.ids import ID_PATTERN
from bgjobs.spool import find
from bgjobs.spool.line1 import MOST_LINE_1
from bgjobs.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.layout import Layout

ENTRY = re.compile(rf"({ID_PATTERN})\.([0-9]{{1,20}})", re.ASCII)
ANY_ID = re.compile(ID_PATTERN, re.ASCII)
FRESH_S = 1.0
TIMES_ITS_COST = 100
MANY = 1000
NO_LIMIT = 2**63


class Account:
    """The files of one user in the spool, as of the last listing."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.entries: dict[str, int] = {}
        self.bytes = 0
        self.listing = Throttle(TIMES_ITS_COST, least_s=FRESH_S)
        self.swept_at = 0  # so many entries were left by the last sweep
        self.is_moving = True  # whether one of them could run then, and so make room

    def add(self, job_id: str, size: int) -> None:
        """Count one more file."""
        self.bytes += size - self.entries.get(job_id, 0)
        self.entries[job_id] = size

    def drop(self, job_id: str) -> int:
        """Count one less; return its size."""
        size = self.entries.pop(job_id)
        self.bytes -= size
        return size


class Accounts:
    """The accounts of the other users that hand in files. 0 stands for no limit."""

    def __init__(self, paths: Layout, most_jobs: int, most_bytes: int) -> None:
        """List no account yet."""
        self._paths = paths
        self._most_jobs = most_jobs or NO_LIMIT
        self.most_bytes = most_bytes or NO_LIMIT
        self._limited = bool(most_jobs or most_bytes)
        self._accounts: dict[int, Account] = {}
        self._sweeping = Throttle(TIMES_ITS_COST, least_s=FRESH_S)

    def room(self, uid: int, size: int) -> tuple[int, int]:
        """Return how many more files, and how many more bytes, may be taken from a user. Raises OSError.

        If that is not enough for one file of this size, entries of jobs that have ended are removed first.
        """
        if not self._limited:
            return NO_LIMIT, NO_LIMIT
        account = self._account(uid)
        full = len(account.entries) >= self._most_jobs or account.bytes + size > self.most_bytes
        grown = len(account.entries) >= account.swept_at + MANY
        if (full or grown) and self._sweeping.is_due(time.monotonic()):
            self._sweep()
        return self._most_jobs - len(account.entries), self.most_bytes - account.bytes

    def will_have_room(self, uid: int) -> bool:
        """Tell whether a user's full account will have room soon, because one of the jobs runs or may run."""
        return uid not in self._accounts or self._accounts[uid].is_moving

    def count(self, uid: int) -> int:
        """Return how many files of a user are in the spool, as of the last listing."""
        return len(self._accounts[uid].entries) if uid in self._accounts else 0

    def charge(self, uid: int, job_id: str, size: int) -> bool:
        """Count a file that was taken, or return False if its owner has no room for it. Raises OSError."""
        if not self._limited:
            return True
        account = self._account(uid)
        if job_id in account.entries:
            return True  # a worker charged it before, and died while importing it
        jobs, most = self.room(uid, size)
        if jobs < 1 or size > most:
            return False
        directory = self._paths.submitter(uid)
        for path in (self._paths.submitters, directory):
            files.make_directory(path)
        files.create(f"{directory}{os.sep}{job_id}.{size}", b"", sync=False)
        account.add(job_id, size)
        return True

    def uncharge(self, uid: int, job_id: str) -> None:
        """Take back what was counted for a file that stays with its owner after all."""
        account = self._accounts.get(uid)
        if account is not None and job_id in account.entries:
            files.discard(f"{self._paths.submitter(uid)}{os.sep}{job_id}.{account.drop(job_id)}")

    def _account(self, uid: int) -> Account:
        account = self._accounts.setdefault(uid, Account())
        begun = time.monotonic()
        if account.listing.is_due(begun):
            account.entries.clear()
            account.bytes = 0
            for name in files.names(self._paths.submitter(uid)):
                found = ENTRY.fullmatch(name)
                if found:
                    account.add(found[1], int(found[2]))
            account.listing.ran(now := time.monotonic(), now - begun)
        return account

    def _sweep(self) -> None:
        """Remove the entries of jobs that have ended from all accounts."""
        begun = time.monotonic()
        gone = {job_id for account in self._accounts.values() for job_id in account.entries}
        moving = set()
        for job_id, moves in self._in_the_spool():
            if job_id in gone:
                gone.discard(job_id)
                if moves:
                    moving.add(job_id)
        for uid, account in self._accounts.items():
            account.is_moving = not moving.isdisjoint(account.entries)
            for job_id in gone.intersection(account.entries):
                with suppress(OSError):
                    files.remove(f"{self._paths.submitter(uid)}{os.sep}{job_id}.{account.entries[job_id]}")
                    account.drop(job_id)
            account.swept_at = len(account.entries)
        self._sweeping.ran(now := time.monotonic(), now - begun)

    def _in_the_spool(self) -> Iterator[tuple[str, bool]]:
        """Go through the ids of what has not left the spool, and whether it runs or may.

        Pending jobs are listed twice: a job may go back there meanwhile.
        """
        yield from find.pending_ids(self._paths, clock.now_ms())
        for holder in files.names(self._paths.claimed):
            for name in files.names(self._paths.claims_of(holder)):
                yield from ((job_id, True) for job_id in ANY_ID.findall(name))
        yield from find.pending_ids(self._paths, clock.now_ms())
        for name in files.names(self._paths.corrupt):
            yield from ((job_id, False) for job_id in ANY_ID.findall(name))


# The file itself, after it was moved into a directory that only we can change


def charged_size(state: os.stat_result) -> int:
    """Return how many bytes a file is charged. A larger file than a job may be may have holes."""
    return min(state.st_size, MOST_LINE_1 + 1)


def read(path: str) -> tuple[bytes, str | None]:
    """Return what is in a file, and the name of the user who owns it, unless that is us.

    Raises OSError, or StrangeFileError for what nobody may hand in.
    """
    owners: list[str | None] = []

    def look(state: os.stat_result) -> None:
        """Test the open file itself, so that what is tested is what is read."""
        if system.is_mine(state):
            owners.append(None)
            return
        owners.append(system.user_of(state))
        if system.writable_by_others(state):
            raise files.StrangeFileError("others than its owner may write to it: chmod go-w it")

    data = files.read(path, MOST_LINE_1, look)
    return data, owners[-1]


def state_if_foreign(path: str) -> os.stat_result | None:
    """Return the state of a file that was taken, if another user owns it."""
    state = disk.lstat(path)
    return None if system.is_mine(state) else state
