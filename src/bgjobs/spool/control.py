"""Cancel, start now or delete single jobs, wherever these are. No lock: a rename decides."""

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
    from bgjobs.spool.find import Location
    from bgjobs.spool.handle import SpoolHandle
    from bgjobs.store import CancelResult, DeleteResult, RunNowResult

TRIES = 100


class Control:
    """Changes single jobs of one spool. `read` returns the job at a location, or None when it has moved or is none."""

    def __init__(self, spool: SpoolHandle, read: Callable[[Location], Job | None]) -> None:
        """Choose the suffix of our own buckets: one bucket for each priority and minute, however many jobs it gets."""
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
        for location in self._locations(job_id):
            if location is None:
                return "unknown"
            if location.state.ended:
                # A quick worker may have cancelled it before we could see whether our request reached it.
                return "cancelled" if asked and location.state is State.CANCELLED else "too late"
            asked = asked or location.state is State.RUNNING
            done = (
                self._request_cancel(location, by)
                if location.state is State.RUNNING
                else self._cancel_pending(location, by)
            )
            if done is not None:
                return done
        raise _too_fast(job_id)

    def run_now(self, job_id: str, by: str) -> RunNowResult:
        """Let a delayed job start as soon as a worker has time for it. Raises SpoolError."""
        with self._spool.reported_errors():
            return self._run_now(job_id, by)

    def _run_now(self, job_id: str, by: str) -> RunNowResult:
        for location in self._locations(job_id):
            if location is None:
                return "unknown"
            if location.state.ended:
                return "too late"
            if location.state is State.RUNNING:
                return "running"
            if location.state is State.QUEUED:
                return "already due"
            job = self._read(location)  # before the move: a worker may claim it right after
            if self._move_to_now(location):
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
        for location in self._locations(job_id):
            if location is None:
                return "unknown"
            if not location.state.ended:
                return "not ended"
            if prune.delete(self._paths, location):
                return "deleted"
        raise _too_fast(job_id)

    def _locations(self, job_id: str) -> Iterator[Location | None]:
        """Find the job, again each time that it has moved before anything could be done."""
        for _ in range(TRIES):
            yield find.locate(self._paths, job_id, clock.now_ms())

    def _cancel_pending(self, location: Location, by: str) -> CancelResult | None:
        """Take the job out of the queue by one move, which decides; None when somebody else was faster."""
        now = clock.now()
        try:
            target = self._transitions.end(
                location.path, location.job_id, cancelled(by), milliseconds(now), claimed=False
            )
        except ClaimLostError:
            return None
        with suppress(OSError):  # somebody deleted the cancelled job at once
            job = self._read(location._replace(path=target, state=State.CANCELLED))
            if job is not None:
                self._spool.emit(Cancelled(job, now, by))
        return "cancelled"

    def _request_cancel(self, location: Location, by: str) -> CancelResult | None:
        """Ask the worker that holds the job to stop it; None when it does not hold the job any more."""
        request = self._paths.worker(location.holder, f"cancel-{location.job_id}")
        try:
            files.create(request, by.encode("utf-8", "replace"), sync=False)
        except FileExistsError:
            if files.read_note(request) is None:  # the first one to ask died while writing it, or the disk was full
                files.replace_content(request, by.encode("utf-8", "replace"))
        except FileNotFoundError:
            return None
        disk.ring(self._paths.doorbell)
        # The worker may have put the job back just before it could see the request: then nobody would act on it.
        if files.exists(location.path):
            return "requested"
        files.remove(request)
        return None

    def _move_to_now(self, location: Location) -> bool:
        """Move a delayed job to a bucket of jobs that may start; return False when somebody else was faster."""
        assert location.priority is not None  # noqa: S101 - whatever lies in pending/ has one
        now_ms = clock.now_ms()
        bucket = f"{layout.bucket(now_ms, at_once=True)}.{self._suffix}"
        directory = self._paths.bucket(location.priority, bucket)
        files.make_directory(directory)
        try:
            files.move(location.path, os.path.join(directory, layout.pending_name(now_ms, location.job_id)))
        except FileNotFoundError:
            return False  # the job is elsewhere, or a worker whose clock is ahead took the empty bucket away
        return True


def _too_fast(job_id: str) -> SpoolError:
    return SpoolError(f"job {job_id} keeps changing state", hint="try again")
