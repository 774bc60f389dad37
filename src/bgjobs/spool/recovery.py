"""Take over what a dead worker left: finish its half-done moves, and hand out the jobs that it was running.

A worker is dead when its `alive.lock` can be taken, whatever any pid says. Whoever holds that lock owns the dead
worker's claims. Every step can be repeated: a recoverer that dies half-way frees the lock, and the next one goes on.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, disk, system
from bgjobs.backend import Claim
from bgjobs.ids import ID
from bgjobs.job import Attempt, State, milliseconds
from bgjobs.lifecycle import cancelled
from bgjobs.spool import files, layout, moves, record
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.spool.liveness import Others, has_rebooted
from bgjobs.spool.orphans import Orphans
from bgjobs.spool.workplace import dissolve, remove_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from bgjobs.events import Log
    from bgjobs.job import Job
    from bgjobs.spool.layout import Layout
    from bgjobs.spool.spool_queue import SpoolQueue


class Recovery:
    """Recovers other workers' claims on behalf of the worker `me`."""

    def __init__(self, spool: SpoolQueue, *, me: str, inherit: Callable[[str, str], object]) -> None:
        """Know no other worker yet. `inherit` takes over a file that a dead worker was importing."""
        self._paths: Layout = spool.paths
        self._spool = spool
        self._inherit = inherit
        self._told: set[str] = set()
        self._log: Log = spool.log
        self._others = Others(self._paths, me)
        self._orphans = Orphans(self._paths, self._log)
        self._movers: dict[str, moves.Mover] = {}

    def run(self) -> Iterator[Claim]:
        """Look at every other worker; give out the attempts that were lost with a dead one."""
        with closing(self._others.dead()) as dead:
            for wid in dead:
                try:
                    yield from self._take_over(wid)
                except OSError as error:
                    if error.errno not in files.UNREADABLE:
                        raise
                    self._tell_once(self._paths.worker(wid), error)

    def finish(self, claim: Claim, job: Job) -> None:
        """Store what became of a claim that `run` gave out."""
        wid = os.path.basename(os.path.dirname(claim.place))
        self._mover(wid).finish(claim.place, claim.job, job)
        if not job.state.ended:
            self._after_return(wid, job.id)

    def _return(self, wid: str, path: str, job: Job, not_before_ms: int, *, at_once: bool) -> None:
        self._mover(wid).to_pending(path, job.priority, not_before_ms, job.id, at_once=at_once)
        self._after_return(wid, job.id)

    def _after_return(self, wid: str, job_id: str) -> None:
        """Honour a cancel that was asked of the dead worker, also one that came while the job was on its way back."""
        by = self._wish(wid, job_id)
        if by is not None:
            self._spool.cancel(job_id, by)
        # An idle worker, perhaps this one itself, would otherwise find it only when it looks on its own.
        disk.ring(self._paths.doorbell)

    def _mover(self, wid: str) -> moves.Mover:
        """Return a mover in the dead worker's name: should we die half-way, the next recoverer finds events of its."""
        sync = self._spool.settings.finish_fsync
        return self._movers.setdefault(wid, moves.Mover(self._paths, wid, sync=sync))

    def close(self) -> None:
        """Close what was kept open."""
        self._others.close()

    def _take_over(self, wid: str) -> Iterator[Claim]:
        blocked = not self._orphans.end(wid)
        complete = True
        for name in sorted(files.names(self._paths.claims_of(wid))):
            path = os.path.join(self._paths.claims_of(wid), name)
            try:
                for claim in self._resolve(wid, path, blocked=blocked):
                    if claim is None:
                        complete = False
                    else:
                        yield claim
            except OSError as error:
                # This one stays, and with it the dead worker's place. The others must not suffer from that.
                complete = False
                self._tell_once(path, error)
        self._movers.pop(wid, None)
        complete = self._grant_wishes(wid) and complete
        if complete and not blocked and dissolve(self._paths, wid):
            self._orphans.forget(wid)
            self._others.release(wid)
            remove_place(self._paths, wid)

    def _grant_wishes(self, wid: str) -> bool:
        """Cancel what was put back by somebody who died before it could be cancelled; return whether that is done."""
        for name in files.names(self._paths.worker(wid)):
            job_id = name.removeprefix("cancel-")
            if name != job_id and ID.fullmatch(job_id):
                try:
                    self._after_return(wid, job_id)
                except OSError as error:
                    self._tell_once(self._paths.worker(wid, name), error)
                    return False
        return True

    def _resolve(self, wid: str, path: str, *, blocked: bool) -> Iterator[Claim | None]:
        """Finish what the dead worker had begun with one claimed file; give out the claim if its attempt was lost.

        None stands for a file that has to wait.
        """
        imported = layout.parse_imported(os.path.basename(path))
        if imported is not None:
            self._inherit(path, imported)
            return
        parts = layout.parse_claimed(os.path.basename(path))
        if parts is None:
            self._quarantine(path, "not a claimed job's name")
            return
        priority, not_before_ms, job_id = parts
        try:
            data = files.read(path, record.MOST_BYTES)
            job = record.decode(
                data, job_id=job_id, state=State.RUNNING, priority=priority, not_before_ms=not_before_ms
            )
        except FileNotFoundError:
            return
        except (files.StrangeFileError, CorruptError) as error:
            self._quarantine(path, str(error))
            return
        except NewerFormatError:
            self._mover(wid).to_pending(path, priority, not_before_ms, job_id, at_once=True)
            return
        last = next(reversed(record.events(data)), None)
        yield from self._decide(wid, path, job, last, blocked=blocked)

    def _decide(
        self, wid: str, path: str, job: Job, last: record.AnyEvent | None, *, blocked: bool
    ) -> Iterator[Claim | None]:
        now = clock.now()
        ours = last is not None and last.wid == wid
        # A name that is younger than the line: the move was made, and the same worker claimed the job once more.
        is_moved = last is not None and milliseconds(job.not_before) >= last.at
        match last:
            case record.End(state=state, at=at) if state in layout.ENDED_DIRECTORIES:
                self._mover(wid).to_ended(path, job.id, state, at)
            case record.Try(not_before=ms) | record.Lost(not_before=ms) if ours and not is_moved:
                self._return(wid, path, job, ms, at_once=ms <= milliseconds(now))
            case _ if blocked:
                yield None
            case record.Start() if ours:
                if last.boot == system.boot_id():
                    system.kill_orphan(last.pid, last.birth, self._paths.root)
                self._save_output(wid, job, last)
                yield self._cancelled_or_lost(wid, path, job, now)
            case _:
                yield from self._not_begun(wid, path, job, now)

    def _not_begun(self, wid: str, path: str, job: Job, now: datetime) -> Iterator[Claim]:
        if self._wish(wid, job.id) is not None:
            self._finish_cancelled(wid, path, job, now)
        elif has_rebooted(self._paths, wid):
            # The machine went down under it, and the `start` line may have been lost with the page cache: it counts
            # as begun, or a job that brings the machine down would do so for ever.
            attempt = Attempt(number=len(job.attempts) + 1, started_at=now)
            begun = msgspec.structs.replace(job, attempts=(*job.attempts, attempt), charged=job.charged + 1)
            yield Claim(begun, path, leftover=True)
        else:
            self._return(wid, path, job, milliseconds(job.not_before), at_once=True)

    def _cancelled_or_lost(self, wid: str, path: str, job: Job, now: datetime) -> Claim | None:
        if self._wish(wid, job.id) is None:
            return Claim(job, path, leftover=True)
        self._finish_cancelled(wid, path, job, now)
        return None

    def _finish_cancelled(self, wid: str, path: str, job: Job, now: datetime) -> None:
        by = self._wish(wid, job.id) or ""
        if job.attempts and not job.attempts[-1].outcome:
            last = msgspec.structs.replace(job.attempts[-1], finished_at=now, outcome="cancelled")
            job = msgspec.structs.replace(job, attempts=(*job.attempts[:-1], last))
        self._mover(wid).finish(path, job, cancelled(job, by, now))
        self._log.cancelled(job, now, by)

    def _wish(self, wid: str, job_id: str) -> str | None:
        return files.read_note(self._paths.worker(wid, f"cancel-{job_id}"))

    def _save_output(self, wid: str, job: Job, start: record.Start) -> None:
        hour = layout.hour_of(job.id)
        moves.keep_output(self._paths.worker(wid, f"r{start.slot}.out"), self._paths.output(hour, job.id, start.number))

    def _tell_once(self, path: str, error: OSError) -> None:
        if path not in self._told:
            self._told.add(path)
            reason = f"cannot be recovered: {error.strerror}"
            self._log.left_alone(os.path.basename(path), reason, clock.now())

    def _quarantine(self, path: str, reason: str) -> None:
        moves.quarantine(self._paths, path, reason)
        self._log.corrupt(os.path.basename(path), reason, clock.now())
