"""Claim jobs: move the best pending ones to this worker's directory, read them, put aside what is no job."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from bgjobs import clock, files, locks, signing
from bgjobs.errors import ClaimLostError, RefusedError
from bgjobs.events import Corrupt, LeftAlone
from bgjobs.job import JobError, State, moment
from bgjobs.lifecycle import Ended
from bgjobs.spool import find, lanes, layout, record
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.spool.transitions import quarantine
from bgjobs.spool.upcoming import Upcoming
from bgjobs.store import Claim
from bgjobs.throttle import Once

if TYPE_CHECKING:
    from datetime import datetime

    from bgjobs.signing import Keyring
    from bgjobs.spool.handle import SpoolHandle
    from bgjobs.spool.transitions import Transitions
    from bgjobs.spool.upcoming import Candidate
    from bgjobs.store import Selection

SOON_S = 0.1
DUPLICATE = "duplicate: a job of this id is being run"
REPLAYED = "replayed: a job of this id is being run, or has ended"


class Claimer:
    """Claims jobs for the worker `wid`."""

    def __init__(self, spool: SpoolHandle, wid: str, selection: Selection, transitions: Transitions) -> None:
        """Know no pending job yet. `transitions` are those of this worker's claims."""
        self._spool = spool
        self._paths = spool.paths
        self._emit = spool.emit
        self._claims = spool.paths.claims_of(wid)
        self._transitions = transitions
        self._claim_lock = locks.ClaimLock(self._paths.claim_lock)
        since = lanes.ensure_first_with_lane(self._paths, clock.now_ms())
        self._classes = None
        if selection.classes is not None:
            self._classes = lanes.ClassFilter(selection.classes, selection.pairs, since)
        self._new_upcoming = partial(
            Upcoming,
            self._paths,
            min_priority=selection.min_priority,
            age_boost=spool.settings.age_boost,
            since=since,
        )
        self._upcoming = self._new_upcoming()
        self._is_interrupted = False
        self._unopened: list[str] = []  # paths that were claimed and not read yet
        self._held: set[str] = set()  # paths of all that this worker has claimed
        self._reported = Once()

    def claim(self, most: int, *, above: int) -> list[Claim]:
        """Take at most so many due jobs of a priority higher than `above`: by priority, then by age."""
        claims, failure = self._open_claimed()
        self._is_interrupted = False
        if self._classes is not None:
            self._classes.refresh()
            self._close_lanes()
        more = True
        while more and len(claims) < most:
            try:
                more = self._claim(most - len(claims), above)
            except OSError as error:
                failure, more = error, False
            found, unreadable = self._open_claimed()
            claims += found
            failure = unreadable or failure
        for path in self._upcoming.strange():
            self.quarantine(path, "not a job file's name")
        for path, reason in self._upcoming.unreadable().items():
            self._report_unreadable(path, reason)
        if failure is not None and not claims:
            raise failure
        return claims

    def next_due(self) -> datetime | None:
        """Return when the next delayed job may start, as far as is known, or None."""
        now_ms = clock.now_ms()
        ms = now_ms if self._is_interrupted else self._upcoming.next_ms(now_ms)
        return None if ms is None else moment(ms)

    def close(self) -> None:
        """Close what was kept open."""
        self._claim_lock.close()

    # Moving

    def _claim(self, most: int, above: int) -> bool:
        """Claim at most so many jobs; return whether there were as many."""
        count = 0
        with self._claim_lock.held(SOON_S):
            if self._classes is not None:
                self._classes.begin_slice()
            for candidate in self._upcoming.candidates(clock.now_ms(), above=above):
                if self._move(candidate):
                    count += 1
                    if count == most:
                        return True
                elif self._classes is not None and self._classes.is_late():
                    self._is_interrupted = True
                    break
        return False

    def _close_lanes(self) -> None:
        """Pass over the jobs that this worker does not take. Whatever else closes lanes belongs here."""
        if self._classes is not None:
            self._upcoming.close_lanes(self._classes.closed)

    def _move(self, candidate: Candidate) -> bool:
        """Claim one job; return whether this worker has one more now."""
        source = f"{self._paths.bucket(candidate.priority, candidate.bucket)}{os.sep}{candidate.name}"
        if self._classes is not None and not self._classes.takes(source, candidate.name):
            self._close_lanes()  # its file may have shown another lane to close
            return False
        target = f"{self._claims}{os.sep}{layout.claimed_name(candidate.priority, candidate.name)}"
        # Nobody else writes there, so the paths in `_held` are all that can be there.
        if target in self._held and files.exists(target):
            # A copy of a job that we hold: moved there, it would replace the record of a running job.
            self.quarantine(source, DUPLICATE if self._spool.keyring is None else REPLAYED)
            return False
        try:
            files.move(source, target)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and files.exists(self._claims):
                return False  # another worker was faster, or somebody cancelled it
            if error.errno not in files.UNREADABLE:
                self._upcoming = self._new_upcoming()  # the old one would not offer this job again for a while
                raise
            self._report_unreadable(os.path.dirname(source), error)
            return False  # others can still be claimed
        if target in self._held and target in self._unopened:
            return False  # somebody removed the file that we just claimed, and this is a copy from another bucket
        self._held.add(target)
        self._unopened.append(target)
        return True

    # Reading

    def _open_claimed(self) -> tuple[list[Claim], OSError | None]:
        """Read the files that were claimed; one that cannot be read now is read the next time."""
        claims, failure = [], None
        taken, self._unopened = self._unopened, []
        for path in taken:
            try:
                claim = self._open(path)
            except FileNotFoundError:
                self.forget(path)
                continue  # it is not ours any more
            except OSError as error:
                self._unopened.append(path)
                if error.errno in files.UNREADABLE:
                    self._report_unreadable(path, error)
                else:
                    failure = error
                continue
            if claim is None:
                self.forget(path)
            else:
                claims.append(claim)
        return claims, failure

    def forget(self, path: str) -> None:
        """Note that this worker does not hold this file any more."""
        self._held.discard(path)

    def _open(self, path: str) -> Claim | None:
        """Read a claimed file; return None if it is not to run. What is no job file goes to `corrupt/`."""
        parts = layout.parse_claimed(os.path.basename(path))
        if parts is None:
            return None
        priority, not_before_ms, job_id = parts
        try:
            data = files.read(path, record.MOST_BYTES)
            job = record.decode(
                data, job_id=job_id, state=State.RUNNING, priority=priority, not_before_ms=not_before_ms
            )
        except (files.StrangeFileError, CorruptError) as error:
            self.quarantine(path, str(error))
            return None
        except NewerFormatError:
            self._put_back(path, priority, not_before_ms, job_id)
            return None
        if self._classes is not None and not self._classes.wants(job.class_name, job_id):
            # Its id holds the lane of another class than its file names. It is remembered, and left for other workers.
            with suppress(ClaimLostError):
                self._transitions.to_pending(path, priority, not_before_ms, job_id, at_once=True)
            return None
        keyring = self._spool.keyring
        if keyring is not None and find.elsewhere(self._paths, job_id, clock.now_ms(), path):
            self.quarantine(path, REPLAYED)
            return None
        if job.finished_at is not None:
            self._finish_move(path, job_id, data)
            return None
        distrust = None if keyring is None else _distrust(keyring, data)
        return Claim(job, path, full=len(data) > record.FULL_BYTES, distrust=distrust, torn=not data.endswith(b"\n"))

    # Not a job that can run

    def quarantine(self, path: str, reason: str) -> None:
        """Move a file that cannot be a job, or not one of its own, to `corrupt/`."""
        try:
            quarantine(self._paths, path, reason)
        except FileNotFoundError:
            return
        except OSError as error:
            self._report_unreadable(path, error, f"{reason}; ")
            return
        self._emit(Corrupt(os.path.basename(path), reason, clock.now()))

    def _finish_move(self, path: str, job_id: str, data: bytes) -> None:
        """Move a job that has ended already to its directory: a power cut undid that move, but not its last line."""
        for event in reversed(record.events(data)):
            if isinstance(event, record.End) and event.state in layout.ENDED_DIRECTORIES:
                with suppress(ClaimLostError):
                    self._transitions.end(path, job_id, Ended(state=event.state), event.at, written=True)
                return
        self.quarantine(path, "it has ended in an unknown state")

    def _put_back(self, path: str, priority: int, not_before_ms: int, job_id: str) -> None:
        """Put a job that a newer bgjobs wrote back for a newer worker; this one looks at it again in a minute."""
        later = clock.now_ms() + layout.MINUTE_MS
        self._transitions.to_pending(path, priority, max(later, not_before_ms), job_id, at_once=False)
        if self._reported.first(job_id):
            self._emit(LeftAlone(job_id, "written by a newer bgjobs", clock.now()))

    def _report_unreadable(self, path: str, error: OSError, reason: str = "") -> None:
        """Report, once, a path that cannot be read or moved. It stays where it is, and the others go on."""
        if self._reported.first(path):
            name = os.path.relpath(path, self._paths.root)
            self._emit(LeftAlone(name, f"{reason}{error.strerror}", clock.now()))


def _distrust(keyring: Keyring, data: bytes) -> JobError | None:
    """Return what is wrong with the signature of line 1, over the bytes that were read, or None."""
    try:
        keyring.check(signing.JOB, data.partition(b"\n")[0])
    except RefusedError as error:
        return JobError(type=error.code, message=str(error))
    return None
