"""Recover the claims of dead workers: end their runners, finish their half-done moves, hand out the lost attempts.

A worker is dead when its `alive.lock` can be taken, whatever its pid says. Whoever holds that lock owns the dead
worker's claims. Every step can be repeated: when the recovering worker dies half-way, the kernel frees the lock, and
the next one continues.

What has not begun goes back uncharged. A lost attempt is given out as a claim, and ends as crashed with its worker
(`worker/duties/recover.py`): `lifecycle.after` queues the job again, or fails it after `max_crashes` losses.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, disk, files, locks, slots, system
from bgjobs.errors import SpoolError, why
from bgjobs.events import Cancelled, Corrupt, LeftAlone
from bgjobs.ids import ID
from bgjobs.job import Attempt, State, milliseconds
from bgjobs.lifecycle import Ended, cancelled
from bgjobs.slots import Slots
from bgjobs.spool import find, layout, record, worker_dir
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.spool.transitions import Transitions, quarantine
from bgjobs.store import Claim
from bgjobs.throttle import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from datetime import datetime

    from bgjobs.events import Emit
    from bgjobs.job import Job
    from bgjobs.spool.handle import SpoolHandle
    from bgjobs.spool.layout import Layout
    from bgjobs.store import Finish
    from bgjobs.system.facts import Marked


UNREADY_S = 600
LOST_PLACE_S = 5.0


class OtherWorkers:
    """Finds which workers, except `me`, are dead. Their lock files stay open: a check costs one system call each."""

    def __init__(self, paths: Layout, me: str) -> None:
        """Know no other worker yet."""
        self._paths = paths
        self._me = me
        self.retained: set[str] = set()  # dead workers whose locks we keep: some of their claims are being finished
        self._no_lock_since: dict[str, float] = {}
        self._probes: dict[str, locks.Probe] = {}

    def dead(self) -> Generator[str, None, None]:
        """Go through the dead workers. We hold the lock of each until the next one is asked for.

        We keep it for longer if the worker is in `retained` then.
        """
        others = {*files.names(self._paths.workers), *files.names(self._paths.claimed)} - {self._me}
        for gone in self._probes.keys() - others:
            self._probes.pop(gone).close()
        self._no_lock_since = {wid: since for wid, since in self._no_lock_since.items() if wid in others}
        for wid in sorted(others):
            if layout.WORKER_NAME.fullmatch(wid) and self._is_dead(wid):
                try:
                    yield wid
                finally:
                    if wid not in self.retained:
                        self._close(wid)

    def release(self, wid: str) -> None:
        """Release the lock of a dead worker whose directory is about to be removed.

        Its file is closed too: on older Windows an open file keeps its directory from being removed.
        """
        self._close(wid)

    def close(self) -> None:
        """Close what was kept open."""
        for wid in list(self._probes):
            self._close(wid)

    def _close(self, wid: str) -> None:
        probe = self._probes.pop(wid, None)  # None if `close` came while somebody was still going through the dead
        if probe is not None:
            probe.close()

    def _is_dead(self, wid: str) -> bool:
        """Tell whether the worker is dead; if so, we hold its lock now."""
        if wid not in self._probes:
            if not self._has_a_lock(wid):
                return False
            try:
                self._probes[wid] = locks.Probe(self._paths.worker(wid, "alive.lock"))
            except OSError:
                return False
        is_dead = self._probes[wid].take()
        if self._probes[wid].is_stale:
            self._probes.pop(wid).close()
        return is_dead

    def _has_a_lock(self, wid: str) -> bool:
        """Tell whether the worker has a lock to try; make one for a worker that is gone and left none."""
        lock = self._paths.worker(wid, "alive.lock")
        if files.exists(lock) and files.exists(self._paths.worker(wid, "ready")):
            return True
        # It has just started, or died while starting, or its files were deleted. While its process lives it keeps its
        # claims.
        since = self._no_lock_since.setdefault(wid, time.monotonic())
        waited = time.monotonic() - since > self._unready_s(wid)
        if process_lives(self._paths, wid) or not (waited or is_old(self._paths, wid)):
            return False
        files.make_directory(self._paths.worker(wid))
        if not files.exists(lock):
            disk.close(disk.open_create_append(lock))
        return True

    def _unready_s(self, wid: str) -> float:
        """Return how long to wait: a worker has its lock within moments of its start, and claims nothing before."""
        return LOST_PLACE_S if files.names(self._paths.claims_of(wid)) else UNREADY_S


def is_old(paths: Layout, wid: str) -> bool:
    """Tell whether the worker's directory has not changed for so long that no worker can be about to start there."""
    changed = files.changed_ns(paths.worker(wid))
    return changed is not None and time.time_ns() - changed > UNREADY_S * 1_000_000_000


def process_lives(paths: Layout, wid: str) -> bool:
    """Tell whether the process lives that the worker named when it started."""
    about = _about(paths, wid)
    worker = about.get("worker")
    pid = worker.get("pid") if isinstance(worker, dict) else None
    if not isinstance(pid, int) or about.get("boot") != system.boot_id() or "birth" not in about:
        return False
    try:
        return system.birth(pid) == about["birth"]
    except OverflowError:
        return False  # no system has such a pid


def has_rebooted(paths: Layout, wid: str) -> bool:
    """Tell whether the machine was rebooted after the worker had started."""
    # A worker writes its boot id before it claims anything, without a sync: a power cut can leave an empty file, or
    # one full of zeros.
    written = files.exists(paths.worker(wid, "info"))
    return written and _about(paths, wid).get("boot") != system.boot_id()


def _about(paths: Layout, wid: str) -> dict[str, object]:
    """Return what the worker wrote about itself when it started."""
    text = files.read_note(paths.worker(wid, "info")) or ""
    return files.decoded(text.encode("utf-8", "replace"), dict[str, object]) or {}


LEFTOVER_PATIENCE_S = 0.5


class Orphans:
    """Ends what dead workers left running; remembers for which workers that failed."""

    def __init__(self, paths: Layout, emit: Emit) -> None:
        """Know of none yet."""
        self._paths = paths
        self._emit = emit
        self._unkillable: set[str] = set()

    def end(self, wid: str) -> bool:
        """End what is left of the dead worker's runners and jobs; return whether all of it is gone."""
        directory = self._paths.worker(wid)
        held = slots.locks_in(directory)
        # A killed process that hangs in a system call dies when the call returns. Trying again takes seconds each time.
        if wid in self._unkillable and any(map(_is_held, held)):
            return False
        for process in slots.processes_in(directory):
            system.kill_orphan(process.pid, process.birth, self._paths.root)
        deadline = time.monotonic() + LEFTOVER_PATIENCE_S
        while any(map(_is_held, held)):
            if time.monotonic() > deadline:
                self._report_once(wid, "a runner of this dead worker cannot be killed")
                return False
            time.sleep(0.005)
        return self._end_escaped(wid)

    def _end_escaped(self, wid: str) -> bool:
        """End what jobs of the dead worker have started in other sessions; return whether all of it is gone."""
        is_left = self._left_by(wid)
        if wid in self._unkillable and any(map(is_left, system.marked(self._paths.root))):
            return False
        left = system.kill_marked_where(self._paths.root, is_left)
        if left:
            self._report_once(wid, f"process {left[0]}, which a job of this dead worker has started, cannot be killed")
        return not left

    def _left_by(self, wid: str) -> Callable[[Marked], bool]:
        """Return a test for processes that the dead worker's runners, or their jobs, have started."""
        jobs, begun = self._jobs(wid), dict[str, bool]()

        def is_left(one: Marked) -> bool:
            if one.job_id in jobs or one.runner.startswith(f"{wid}-"):
                return True
            if one.runner or not ID.fullmatch(one.job_id) or system.runners_above(one.process.pid):
                return False
            # A process that a job's module started serves later jobs too, and may outlive the job. If there is a runner
            # above it, or its mark names one, it belongs to a worker that lives.
            if one.job_id not in begun:
                begun[one.job_id] = self._has_begun(wid, one.job_id)
            return begun[one.job_id]

        return is_left

    def _has_begun(self, wid: str, job_id: str) -> bool:
        """Tell whether the worker has begun an attempt of the job, by the job's record if there is one."""
        try:
            location = find.locate(self._paths, job_id, clock.now_ms())
            recorded = [] if location is None else record.events(files.read(location.path, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return False
        return any(isinstance(event, record.Start) and event.wid == wid for event in recorded)

    def _jobs(self, wid: str) -> frozenset[str]:
        parts = map(layout.parse_claimed, files.names(self._paths.claims_of(wid)))
        return frozenset(found[2] for found in parts if found is not None)

    def forget(self, wid: str) -> None:
        """Forget a worker whose directory is about to be removed."""
        self._unkillable.discard(wid)

    def _report_once(self, wid: str, what: str) -> None:
        if wid not in self._unkillable:
            self._unkillable.add(wid)
            self._emit(LeftAlone(f"workers/{wid}", f"{what}; its jobs wait until it is gone", clock.now()))


def _is_held(lock: str) -> bool:
    """Tell whether a runner holds the lock. Raises OSError for one that cannot be tried: it may be held."""
    try:
        return locks.is_held(lock)
    except OSError as error:
        if error.errno in {*files.LINKS, errno.EISDIR}:
            return False  # not a file that a runner made
        raise


class Recovery:
    """Recovers other workers' claims on behalf of the worker `me`."""

    def __init__(
        self,
        spool: SpoolHandle,
        *,
        me: str,
        take_over_import: Callable[[str, str], object],
        cancel: Callable[[str, str], object],
    ) -> None:
        """Know no other worker yet.

        `take_over_import` continues the import of a file; `cancel` cancels a job in the name of a person.
        """
        self._paths: Layout = spool.paths
        self._spool = spool
        self._take_over_import = take_over_import
        self._cancel = cancel
        self._reported = Once()
        self._emit = spool.emit
        self._other_workers = OtherWorkers(self._paths, me)
        self._orphans = Orphans(self._paths, self._emit)
        self._transitions_of: dict[str, Transitions] = {}
        self._handed_out: dict[str, set[str]] = {}  # by worker: the paths of the claims that are being finished

    def run(self) -> Iterator[Claim]:
        """Check every other worker; hand out the claims whose attempts were lost with a dead one."""
        with closing(self._other_workers.dead()) as dead:
            for wid in dead:
                try:
                    yield from self._take_over(wid)
                except OSError as error:
                    if error.errno not in files.UNREADABLE:
                        raise
                    self._report_once(self._paths.worker(wid), error)

    def finish(self, one: Finish) -> None:
        """Store what was decided about a claim that `run` handed out. If that fails, the next `run` does so again."""
        path, job = one.claim.place, one.claim.job
        wid = os.path.basename(os.path.dirname(path))
        try:
            self._transitions(wid).apply(path, job, one.verdict, one.at, progress=one.running.progress)
            if not isinstance(one.verdict, Ended):
                self._cancel_returned(wid, job.id)
        finally:
            self._take_back(wid, path)

    def _cancel_returned(self, wid: str, job_id: str) -> None:
        try:
            self._cancel_if_requested(wid, job_id)
        except (OSError, SpoolError) as error:  # the job is stored, and the next `run` tries again to cancel it
            self._report_once(self._paths.worker(wid, f"cancel-{job_id}"), error)

    def _hand_out(self, wid: str, path: str) -> None:
        self._handed_out.setdefault(wid, set()).add(path)
        self._other_workers.retained.add(wid)

    def _take_back(self, wid: str, path: str) -> None:
        handed_out = self._handed_out.get(wid, set())
        handed_out.discard(path)
        if not handed_out:
            self._handed_out.pop(wid, None)
            self._other_workers.retained.discard(wid)  # the next `run` recovers the rest of its claims

    def _return(self, wid: str, path: str, job: Job, not_before_ms: int, *, at_once: bool) -> None:
        self._transitions(wid).to_pending(path, job.priority, not_before_ms, job.id, at_once=at_once)
        self._cancel_if_requested(wid, job.id)

    def _cancel_if_requested(self, wid: str, job_id: str) -> None:
        """Cancel the job if the dead worker was asked to; the request may have come while the job was moved back."""
        by = self._canceller(wid, job_id)
        if by is not None:
            self._cancel(job_id, by)
        # Without this an idle worker, perhaps this one, would find the job only at its next regular check.
        disk.ring(self._paths.doorbell)

    def _transitions(self, wid: str) -> Transitions:
        """Return those in the dead worker's name: if we die half-way, the next worker finds events of the dead one."""
        sync = self._spool.settings.finish_fsync
        return self._transitions_of.setdefault(wid, Transitions(self._paths, wid, sync=sync))

    def close(self) -> None:
        """Close what was kept open."""
        self._other_workers.close()

    def _take_over(self, wid: str) -> Iterator[Claim]:
        blocked = not self._orphans.end(wid)
        complete = True
        for name in sorted(files.names(self._paths.claims_of(wid))):
            path = os.path.join(self._paths.claims_of(wid), name)
            if path in self._handed_out.get(wid, ()):
                continue
            try:
                for claim in self._resolve(wid, path, blocked=blocked):
                    if claim is None:
                        complete = False
                    else:
                        self._hand_out(wid, path)
                        yield claim
            except (OSError, SpoolError) as error:
                # This claim stays, and with it the dead worker's directory. The other claims are recovered.
                complete = False
                self._report_once(path, error)
        if wid in self._handed_out:
            return
        self._transitions_of.pop(wid, None)
        complete = self._cancel_requested(wid) and complete
        if complete and not blocked and worker_dir.clear(self._paths, wid):
            self._orphans.forget(wid)
            self._other_workers.release(wid)
            worker_dir.remove(self._paths, wid)

    def _cancel_requested(self, wid: str) -> bool:
        """Cancel jobs whose worker died between moving them back and cancelling them; return whether that is done."""
        for name in files.names(self._paths.worker(wid)):
            job_id = name.removeprefix("cancel-")
            if name != job_id and ID.fullmatch(job_id):
                try:
                    self._cancel_if_requested(wid, job_id)
                except (OSError, SpoolError) as error:
                    self._report_once(self._paths.worker(wid, name), error)
                    return False
        return True

    def _resolve(self, wid: str, path: str, *, blocked: bool) -> Iterator[Claim | None]:
        """Finish what the dead worker had begun with one claimed file; yield the claim if its attempt was lost.

        None stands for a file that is not done with in this round: it has to wait, or its job was just cancelled.
        """
        imported = layout.parse_imported(os.path.basename(path))
        if imported is not None:
            self._take_over_import(path, imported)
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
            self._transitions(wid).to_pending(path, priority, not_before_ms, job_id, at_once=True)
            return
        last = next(reversed(record.events(data)), None)
        yield from self._decide(wid, path, job, last, blocked=blocked)

    def _decide(
        self, wid: str, path: str, job: Job, last: record.AnyEvent | None, *, blocked: bool
    ) -> Iterator[Claim | None]:
        now = clock.now()
        ours = last is not None and last.wid == wid
        # The name is younger than the line: the move was made, and the same worker claimed the job again.
        is_moved = last is not None and milliseconds(job.not_before) >= last.at
        match last:
            case record.End(state=state, at=at) if state in layout.ENDED_DIRECTORIES:
                self._transitions(wid).end(path, job.id, Ended(state=state), at, written=True)
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
        if self._canceller(wid, job.id) is not None:
            self._finish_cancelled(wid, path, job, now)
        elif has_rebooted(self._paths, wid):
            # The machine went down, and the `start` line may have been lost with the page cache. The attempt counts as
            # begun: a job that brings the machine down must not be tried for ever.
            attempt = Attempt(number=len(job.attempts) + 1, started_at=now)
            begun = msgspec.structs.replace(job, attempts=(*job.attempts, attempt), charged=job.charged + 1)
            yield Claim(begun, path, leftover=True)
        else:
            self._return(wid, path, job, milliseconds(job.not_before), at_once=True)

    def _cancelled_or_lost(self, wid: str, path: str, job: Job, now: datetime) -> Claim | None:
        if self._canceller(wid, job.id) is None:
            return Claim(job, path, leftover=True)
        self._finish_cancelled(wid, path, job, now)
        return None

    def _finish_cancelled(self, wid: str, path: str, job: Job, now: datetime) -> None:
        by = self._canceller(wid, job.id) or ""
        is_running = bool(job.attempts) and not job.attempts[-1].outcome
        verdict = cancelled(by, outcome="cancelled" if is_running else "")
        self._transitions(wid).apply(path, job, verdict, now)
        self._emit(Cancelled(job, now, by))

    def _canceller(self, wid: str, job_id: str) -> str | None:
        return files.read_note(self._paths.worker(wid, f"cancel-{job_id}"))

    def _save_output(self, wid: str, job: Job, start: record.Start) -> None:
        hour = layout.hour_of(job.id)
        source = Slots(self._paths.worker(wid)).output(start.slot)
        slots.keep_output(source, self._paths.output(hour, job.id, start.number))

    def _report_once(self, path: str, error: OSError | SpoolError) -> None:
        if self._reported.first(path):
            reason = f"cannot be recovered: {why(error)}"
            self._emit(LeftAlone(os.path.basename(path), reason, clock.now()))

    def _quarantine(self, path: str, reason: str) -> None:
        quarantine(self._paths, path, reason)
        self._emit(Corrupt(os.path.basename(path), reason, clock.now()))
