"""A worker's place in a spool: claim jobs, store what became of them, and stay alive in the eyes of the others."""

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
from bgjobs.spool.claim import Taker
from bgjobs.spool.inbox.importer import Importer
from bgjobs.spool.recover import Recovery
from bgjobs.spool.transitions import Transitions
from bgjobs.spool.worker_dir import Workplace
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
GROUND_S = 1.0  # how often to look for directories that somebody has removed


class SpoolSession:
    """From join to leave. While it lives it holds `alive.lock`, by which all others know that it does."""

    def __init__(
        self, spool: SpoolHandle, submitter: Submitter, control: Control, info: WorkerInfo, selection: Selection
    ) -> None:
        """Make a place of our own."""
        self.id = new_id()
        self._control = control
        self._paths = spool.paths
        self._info = info
        self._boot = system.boot_id()
        self._place = Workplace(self._paths, self.id)
        with suppress(OSError):
            prune.sweep_tmp(self._paths)
        self._place.enter(info)
        self.slots = Slots(self._paths.worker(self.id))
        self._transitions = Transitions(self._paths, self.id, sync=spool.settings.finish_fsync)
        self._taker = Taker(spool, self.id, selection, self._transitions)
        self._importer = Importer(spool, submitter, self.id)
        self._recovery = Recovery(spool, me=self.id, inherit=self._importer.inherit, cancel=control.cancel)
        self._wished: set[str] = set()
        self.bell = system.Doorbell(self._paths.doorbell)
        self._ground_due = 0.0
        # Who has to sync the end of a job writes it: that is the worker.
        self._success = None if spool.settings.finish_fsync else record.success_template(self.id)
        self._start_lines: dict[tuple[int, int, int, str], tuple[str, str]] = {}

    # Claiming

    def claim(self, most: int, *, above: int = -1) -> list[Claim]:
        """Take at most so many due jobs of a priority higher than `above`: by priority, then by age."""
        return self._taker.claim(most, above=above)

    def next_due(self) -> datetime | None:
        """Return when the next delayed job may start, as far as is known, or None."""
        return self._taker.next_due()

    # Running

    def begin(self, claim: Claim, *, slot: int, pid: int, birth: str) -> Begin:
        """Return the `start` line that the runner appends right before it runs the job."""
        asked = len(claim.job.attempts) + 1, slot, pid, birth
        if asked not in self._start_lines:
            if len(self._start_lines) > MOST_START_LINES:
                self._start_lines.clear()
            self._start_lines[asked] = self._start_line(*asked)
        head, tail = self._start_lines[asked]
        return Begin(claim.place, f"\n{head}" if claim.torn else head, tail, self._success)

    def _start_line(self, number: int, slot: int, pid: int, birth: str) -> tuple[str, str]:
        """Return a `start` line, up to its moment and from there on."""
        start = record.Start(
            at=0, wid=self.id, number=number, worker=self._info.name, slot=slot, pid=pid, birth=birth, boot=self._boot
        )
        head, at, tail = record.encoded(start).decode().partition('"at":0')
        return head + at[:-1], tail

    def attempt(self, claim: Claim) -> AttemptRecord:
        """Return how far the attempt has come whose runner has died, by the lines that it has appended."""
        try:
            recorded = record.events(files.read(claim.place, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return AttemptRecord(begun=True)  # nobody knows: the safe side is to count the attempt
        starts = sum(isinstance(event, record.Start) for event in recorded)
        last = recorded[-1] if recorded else None
        has_succeeded = isinstance(last, record.End) and last.wid == self.id and last.state is State.DONE
        return AttemptRecord(starts > len(claim.job.attempts), last.at if last is not None and has_succeeded else None)

    def output_path(self, claim: Claim) -> str:
        """Return where the output of the attempt that begins now is to be kept."""
        job = claim.job
        return self._paths.output(layout.hour_of(job.id), job.id, len(job.attempts) + 1)

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
            self._let_go(claim)
            if isinstance(verdict, Ended):
                self._drop_cancel_request(claim.job.id)
            else:
                self._after_return(claim.job.id)
        except (BgjobsError, OSError) as error:
            return error
        return None

    def _let_go(self, claim: Claim) -> None:
        self._taker.forget(claim.place)
        self._place.forget_progress(claim.job.id)

    def _drop_cancel_request(self, job_id: str) -> None:
        if job_id in self._wished:
            self._wished.discard(job_id)
            self._place.discard_wish(job_id)

    def put_aside(self, claim: Claim, reason: str) -> None:
        """Put a claimed file that cannot be a job of its own into `corrupt/`."""
        self._taker.quarantine(claim.place, reason)
        self._taker.forget(claim.place)

    def release(self, claim: Claim) -> None:
        """Put back a claimed job that was not begun: it is not charged."""
        job = claim.job
        self._transitions.to_pending(claim.place, job.priority, milliseconds(job.not_before), job.id, at_once=True)
        self._taker.forget(claim.place)
        self._after_return(job.id)

    def _after_return(self, job_id: str) -> None:
        """Honour a cancel that came while the job was on its way back to the queue, where nobody looks for it."""
        self._grant({job_id})
        disk.ring(self._paths.doorbell)

    def _grant(self, wishes: Iterable[str]) -> bool:
        """Cancel these jobs, wherever they are now, if somebody asked for it; return whether that is done.

        The wish goes last: what we do not get done is tried again, at last by whoever takes over from us.
        """
        try:
            for job_id in wishes:
                by = self._place.wish(job_id)
                if by is not None:
                    self._control.cancel(job_id, by)
                    self._place.remove_wish(job_id)
        except (OSError, SpoolError):
            return False
        return True

    # Living

    def renew(self, progress: Mapping[str, Progress], *, stale: bool = False, dropped: int = 0) -> dict[str, str]:
        """Check that our place is still ours, store progress, and return who asked to cancel which job."""
        self._place.check()
        if time.monotonic() >= self._ground_due:  # `git clean` takes empty directories, under a worker too
            directories.restore(self._paths)
            self._place.restore()
            self._ground_due = time.monotonic() + GROUND_S
        for job_id, state in progress.items():
            self._place.tell_progress(job_id, state)
        self._place.tell_dropped(dropped)
        self._place.tell_stale(stale)
        wishes = {}
        for job_id in self._place.wishes():
            by = self._place.wish(job_id)
            if by is not None:
                wishes[job_id] = by
        self._grant(self._place.late(self._wished.intersection(wishes)))
        self._wished = set(wishes)
        return wishes

    def stop_requests(self) -> int:
        """Return how often somebody has asked this worker to stop since the last call."""
        return self._place.stop_requests()

    def recover(self) -> Iterator[Claim]:
        """Take over what dead workers left; go through the claims whose attempts were lost with them."""
        return self._recovery.run()

    def import_jobs(self, policy_of: Callable[[str, str], Policy]) -> int:
        """Make jobs of the files in `incoming/`, some at a time; return how many."""
        return self._importer.run(policy_of)

    def tidy(self, *, keep_done: timedelta, keep_failed: timedelta) -> Iterator[int]:
        """Delete ended jobs older than this, and leftovers of crashes, in short steps; give how many jobs each took."""
        return prune.tidy(self._paths, keep_done=keep_done, keep_failed=keep_failed, now=clock.now())

    def leave(self) -> None:
        """Give up the place."""
        self._recovery.close()
        self._taker.close()
        self.bell.close()
        self._importer.close()
        # With claims left, because something went wrong, our place has to stay: another worker recovers them from it.
        self._place.leave(empty=self._grant(self._place.late(self._place.wishes())))
