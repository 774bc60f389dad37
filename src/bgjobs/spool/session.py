"""A worker's session in a spool: claim jobs, store what became of them, keep the worker's directory alive."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import clock, disk, files, system
from bgjobs.errors import BgjobsError, SpoolError
from bgjobs.ids import new_id
from bgjobs.job import State, milliseconds
from bgjobs.lifecycle import Ended
from bgjobs.slots import Slots
from bgjobs.spool import directories, layout, prune, record
from bgjobs.spool.claim import Claimer
from bgjobs.spool.inbox.importer import Importer
from bgjobs.spool.recover import Recovery
from bgjobs.spool.transitions import Transitions
from bgjobs.spool.worker_dir import WorkerDir
from bgjobs.store import AttemptRecord, Begin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from bgjobs.job import Progress
    from bgjobs.lifecycle import Policy
    from bgjobs.spool.control import Control
    from bgjobs.spool.handle import SpoolHandle
    from bgjobs.spool.submit import Submitter
    from bgjobs.store import Claim, Finish, Selection, WorkerInfo


MOST_START_LINES = 1000
RESTORE_S = 1.0  # how often to look for directories that somebody has removed


class SpoolSession:
    """From join to leave. It holds `alive.lock`, by which all others know that this worker lives."""

    def __init__(
        self, spool: SpoolHandle, submitter: Submitter, control: Control, info: WorkerInfo, selection: Selection
    ) -> None:
        """Make the directories of this worker, and take its lock."""
        self.id = new_id()
        self._control = control
        self._paths = spool.paths
        self._info = info
        self._boot = system.boot_id()
        self._dir = WorkerDir(self._paths, self.id)
        with suppress(OSError):
            prune.sweep_tmp(self._paths)
        self._dir.make(info)
        self.slots = Slots(self._paths.worker(self.id))
        self._transitions = Transitions(self._paths, self.id, sync=spool.settings.finish_fsync)
        self._claimer = Claimer(spool, self.id, selection, self._transitions)
        self._importer = Importer(spool, submitter, self.id)
        self._recovery = Recovery(spool, me=self.id, take_over_import=self._importer.take_over, cancel=control.cancel)
        self._requested: set[str] = set()
        self.bell = system.Doorbell(self._paths.doorbell)
        self._restore_due = 0.0
        # With `finish_fsync` the worker itself writes the end of a job, and syncs it.
        self._success = None if spool.settings.finish_fsync else record.success_template(self.id)
        self._start_lines: dict[tuple[int, int, int, str], tuple[str, str]] = {}

    # Claiming

    def claim(self, most: int, *, above: int = -1) -> list[Claim]:
        """Take at most so many due jobs of a priority higher than `above`: by priority, then by age."""
        return self._claimer.claim(most, above=above)

    def next_due(self) -> datetime | None:
        """Return when the next delayed job may start, as far as is known, or None."""
        return self._claimer.next_due()

    # Running

    def begin(self, claim: Claim, *, slot: int, pid: int, birth: str) -> Begin:
        """Return the `start` line that the runner appends before it runs the job, and where to keep the output."""
        job_id, number = claim.job.id, len(claim.job.attempts) + 1
        asked = number, slot, pid, birth
        if asked not in self._start_lines:
            if len(self._start_lines) > MOST_START_LINES:
                self._start_lines.clear()
            self._start_lines[asked] = self._start_line(*asked)
        head, tail = self._start_lines[asked]
        output = self._paths.output(layout.hour_of(job_id), job_id, number)
        return Begin(claim.place, f"\n{head}" if claim.torn else head, tail, output, self._success)

    def _start_line(self, number: int, slot: int, pid: int, birth: str) -> tuple[str, str]:
        """Return a `start` line, up to its moment and from there on."""
        start = record.Start(
            at=0, wid=self.id, number=number, worker=self._info.name, slot=slot, pid=pid, birth=birth, boot=self._boot
        )
        head, at, tail = record.encoded(start).decode().partition('"at":0')
        return head + at[:-1], tail

    def attempt(self, claim: Claim) -> AttemptRecord:
        """Return how far the attempt of a dead runner came, by the lines that it has appended."""
        try:
            recorded = record.events(files.read(claim.place, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return AttemptRecord(begun=True)  # unknown: counting the attempt is the safe side
        starts = sum(isinstance(event, record.Start) for event in recorded)
        last = recorded[-1] if recorded else None
        has_succeeded = isinstance(last, record.End) and last.wid == self.id and last.state is State.DONE
        return AttemptRecord(starts > len(claim.job.attempts), last.at if last is not None and has_succeeded else None)

    # Finishing

    def finish(self, finishes: Sequence[Finish]) -> list[BgjobsError | OSError | None]:
        """Store what was decided about claimed jobs; return for each what kept it from being stored, or None."""
        return [self._finish(one) for one in finishes]

    def _finish(self, one: Finish) -> BgjobsError | OSError | None:
        claim, verdict = one.claim, one.verdict
        try:
            if claim.leftover:
                self._recovery.finish(one)
                return None
            if one.recorded and isinstance(verdict, Ended):
                self._transitions.end(claim.place, claim.job.id, verdict, milliseconds(one.at), written=True)
            else:
                self._transitions.apply(claim.place, claim.job, verdict, one.at, progress=one.running.progress)
            self._forget(claim)
            if isinstance(verdict, Ended):
                self._drop_cancel_request(claim.job.id)
            else:
                self._after_release(claim.job.id)
        except (BgjobsError, OSError) as error:
            return error
        return None

    def _forget(self, claim: Claim) -> None:
        self._claimer.forget(claim.place)
        self._dir.remove_progress(claim.job.id)

    def _drop_cancel_request(self, job_id: str) -> None:
        if job_id in self._requested:
            self._requested.discard(job_id)
            self._dir.discard_cancel_request(job_id)

    def put_aside(self, claim: Claim, reason: str) -> None:
        """Move a claimed file that cannot be a job of its own to `corrupt/`."""
        self._claimer.quarantine(claim.place, reason)
        self._claimer.forget(claim.place)

    def release(self, claim: Claim) -> None:
        """Put back a claimed job that was not begun: it is not charged."""
        job = claim.job
        self._transitions.to_pending(claim.place, job.priority, milliseconds(job.not_before), job.id, at_once=True)
        self._claimer.forget(claim.place)
        self._after_release(job.id)

    def _after_release(self, job_id: str) -> None:
        """Cancel the job if a request came while it was moved back to the queue: nobody else would see the request."""
        self._cancel_requested({job_id})
        disk.ring(self._paths.doorbell)

    def _cancel_requested(self, job_ids: Iterable[str]) -> bool:
        """Cancel these jobs, wherever they are now, if somebody asked for it; return whether that is done.

        A request is removed last: what fails is tried again, at last by the worker that recovers our claims.
        """
        try:
            for job_id in job_ids:
                by = self._dir.canceller(job_id)
                if by is not None:
                    self._control.cancel(job_id, by)
                    self._dir.remove_cancel_request(job_id)
        except (OSError, SpoolError):
            return False
        return True

    # Staying alive

    def renew(self, progress: Mapping[str, Progress], *, stale: bool = False, dropped: int = 0) -> dict[str, str]:
        """Check that the session is still ours, store progress, and return who asked to cancel which job."""
        self._dir.check()
        if time.monotonic() >= self._restore_due:  # `git clean` takes empty directories, under a worker too
            directories.restore(self._paths)
            self._dir.restore()
            self._restore_due = time.monotonic() + RESTORE_S
        for job_id, state in progress.items():
            self._dir.write_progress(job_id, state)
        self._dir.write_dropped(dropped)
        self._dir.write_stale(stale)
        requests = {}
        for job_id in self._dir.cancel_requests():
            by = self._dir.canceller(job_id)
            if by is not None:
                requests[job_id] = by
        self._cancel_requested(self._dir.not_held(self._requested.intersection(requests)))
        self._requested = set(requests)
        return requests

    def stop_requests(self) -> int:
        """Return how often somebody has asked this worker to stop since the last call."""
        return self._dir.stop_requests()

    def recover(self) -> Iterator[Claim]:
        """Recover the claims of dead workers; go through those whose attempts were lost."""
        return self._recovery.run()

    def import_jobs(self, policy_of: Callable[[str, str], Policy]) -> int:
        """Make jobs of the files in `incoming/`, some at a time; return how many."""
        return self._importer.run(policy_of)

    def tidy(self, *, keep_done: timedelta, keep_failed: timedelta) -> Iterator[int]:
        """Delete ended jobs older than this, and leftovers of crashes, in short steps; give how many jobs each took."""
        return prune.tidy(self._paths, keep_done=keep_done, keep_failed=keep_failed, now=clock.now())

    def leave(self) -> None:
        """End the session."""
        self._recovery.close()
        self._claimer.close()
        self.bell.close()
        self._importer.close()
        # If claims are left, because something failed, the directory stays: another worker recovers them from it.
        self._dir.leave(empty=self._cancel_requested(self._dir.not_held(self._dir.cancel_requests())))
