"""What people do to single jobs wherever these are: cancel, drop the delay, delete. No lock: a rename decides."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import clock, disk, files
from bgjobs.errors import ClaimLostError, SpoolError
from bgjobs.events import Cancelled, Undelayed
from bgjobs.ids import new_id
from bgjobs.job import State, milliseconds
from bgjobs.lifecycle import cancelled
from bgjobs.spool import find, layout, prune
from bgjobs.spool.transitions import SUFFIX, Transitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job
    from bgjobs.spool.find import Place
    from bgjobs.spool.handle import SpoolHandle
    from bgjobs.store import CancelResult, DeleteResult, RunNowResult

TRIES = 100


class Control:
    """Acts on the jobs of one spool. `read` returns the job at a place, or None when it has moved or is none."""

    def __init__(self, spool: SpoolHandle, read: Callable[[Place], Job | None]) -> None:
        """Choose the buckets of our own: one for each priority and minute, however many jobs get into it."""
        self._spool = spool
        self._paths = spool.paths
        self._read = read
        self._transitions = Transitions(spool.paths)
        self._suffix = new_id()[-SUFFIX:]

    def cancel(self, job_id: str, by: str) -> CancelResult:
        """Cancel a job that has not begun, or ask for the end of a running one. Raises SpoolError."""
        with self._spool.reported_errors():
            return self._cancel(job_id, by)

    def _cancel(self, job_id: str, by: str) -> CancelResult:
        asked = False
        for place in self._places(job_id):
            if place is None:
                return "unknown"
            if place.state.ended:
                # A quick worker may have done as we asked before we could see whether it was still there to ask.
                return "cancelled" if asked and place.state is State.CANCELLED else "too late"
            asked = asked or place.state is State.RUNNING
            done = self._ask(place, by) if place.state is State.RUNNING else self._cancel_pending(place, by)
            if done is not None:
                return done
        raise _too_fast(job_id)

    def run_now(self, job_id: str, by: str) -> RunNowResult:
        """Let a delayed job start as soon as a worker has time for it. Raises SpoolError."""
        with self._spool.reported_errors():
            return self._run_now(job_id, by)

    def _run_now(self, job_id: str, by: str) -> RunNowResult:
        for place in self._places(job_id):
            if place is None:
                return "unknown"
            if place.state.ended:
                return "too late"
            if place.state is State.RUNNING:
                return "running"
            if place.state is State.QUEUED:
                return "already due"
            job = self._read(place)  # before the move: a worker may claim it right after
            if self._undelay(place):
                disk.ring(self._paths.doorbell)
                if job is not None:
                    self._spool.emit(Undelayed(job, clock.now(), by))
                return "now"
        raise _too_fast(job_id)

    def delete(self, job_id: str) -> DeleteResult:
        """Delete an ended job with all that it printed. Raises SpoolError."""
        with self._spool.reported_errors():
            return self._delete(job_id)

    def _delete(self, job_id: str) -> DeleteResult:
        for place in self._places(job_id):
            if place is None:
                return "unknown"
            if not place.state.ended:
                return "not ended"
            if prune.delete(self._paths, place):
                return "deleted"
        raise _too_fast(job_id)

    def _places(self, job_id: str) -> Iterator[Place | None]:
        """Say where the job is, again and again while it moves away before something could be done about it."""
        for _ in range(TRIES):
            yield find.locate(self._paths, job_id, clock.now_ms())

    def _cancel_pending(self, place: Place, by: str) -> CancelResult | None:
        """Take the job out of the queue by one move, which decides; None when somebody else was faster."""
        now = clock.now()
        try:
            target = self._transitions.end(place.path, place.job_id, cancelled(by), milliseconds(now), claimed=False)
        except ClaimLostError:
            return None
        with suppress(OSError):  # somebody deleted the cancelled job at once
            job = self._read(place._replace(path=target, state=State.CANCELLED))
            if job is not None:
                self._spool.emit(Cancelled(job, now, by))
        return "cancelled"

    def _ask(self, place: Place, by: str) -> CancelResult | None:
        """Ask the worker that holds the job to stop it; None when the job is not in its hands any more."""
        wish = self._paths.worker(place.holder, f"cancel-{place.job_id}")
        try:
            files.create(wish, by.encode("utf-8", "replace"), sync=False)
        except FileExistsError:
            if files.read_note(wish) is None:  # whoever wished first died over it, or the disk was full
                files.replace_content(wish, by.encode("utf-8", "replace"))
        except FileNotFoundError:
            return None
        disk.ring(self._paths.doorbell)
        # The worker may have put the job back just before it could see this: then nobody would ever act on it.
        if files.exists(place.path):
            return "requested"
        files.remove(wish)
        return None

    def _undelay(self, place: Place) -> bool:
        """Move a delayed job to where those lie that may start; return False when somebody else was faster."""
        assert place.priority is not None  # noqa: S101 - whatever lies in pending/ has one
        now_ms = clock.now_ms()
        bucket = f"{layout.bucket(now_ms, at_once=True)}.{self._suffix}"
        directory = self._paths.bucket(place.priority, bucket)
        files.make_directory(directory)
        try:
            files.move(place.path, os.path.join(directory, layout.pending_name(now_ms, place.job_id)))
        except FileNotFoundError:
            return False  # the job is elsewhere, or a worker whose clock is ahead took the empty bucket away
        return True


def _too_fast(job_id: str) -> SpoolError:
    return SpoolError(f"job {job_id} keeps changing state", hint="try again")
