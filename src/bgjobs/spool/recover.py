"""Take over what dead workers left: their runners, their half-done moves, the jobs that they were running.

A worker is dead when its `alive.lock` can be taken, whatever any pid says. Whoever holds that lock owns the dead
worker's claims. Every step can be repeated: a recoverer that dies half-way frees the lock, and the next one goes on.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, disk, files, locks, slots, system
from bgjobs.events import Cancelled, Corrupt, LeftAlone
from bgjobs.ids import ID
from bgjobs.job import Attempt, State, milliseconds
from bgjobs.lifecycle import Ended, cancelled
from bgjobs.slots import Slots
from bgjobs.spool import find, layout, record
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.spool.transitions import Transitions, quarantine
from bgjobs.spool.worker_dir import dissolve, remove_place
from bgjobs.store import Claim

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


class Others:
    """The workers beside the worker `me`. Their lock files stay open: to ask costs one system call each."""

    def __init__(self, paths: Layout, me: str) -> None:
        """Know no other worker yet."""
        self._paths = paths
        self._me = me
        self.kept: set[str] = set()  # the dead ones whose locks stay ours: some of their claims are being finished
        self._lacking_since: dict[str, float] = {}
        self._probes: dict[str, locks.Probe] = {}

    def dead(self) -> Generator[str, None, None]:
        """Go through those that are dead. Until the next is asked for, the lock of the last one is ours.

        It stays ours for longer if it is in `kept` then.
        """
        others = {*files.names(self._paths.workers), *files.names(self._paths.claimed)} - {self._me}
        for gone in self._probes.keys() - others:
            self._probes.pop(gone).close()
        self._lacking_since = {wid: since for wid, since in self._lacking_since.items() if wid in others}
        for wid in sorted(others):
            if layout.WORKER_NAME.fullmatch(wid) and self._is_dead(wid):
                try:
                    yield wid
                finally:
                    if wid not in self.kept:
                        self._close(wid)

    def release(self, wid: str) -> None:
        """Give back the lock of a dead worker whose place is about to go.

        The file with it: on older Windows one that somebody has open keeps its directory from going.
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
        """Tell whether the worker is dead; if so its lock is now ours."""
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
        """Tell whether the worker's lock can say if it lives; make one for a worker that left none and is gone."""
        lock = self._paths.worker(wid, "alive.lock")
        if files.exists(lock) and files.exists(self._paths.worker(wid, "ready")):
            return True
        # It has just begun, or died while it did, or somebody deleted its files. A process that lives keeps its claims.
        since = self._lacking_since.setdefault(wid, time.monotonic())
        waited = time.monotonic() - since > self._unready_s(wid)
        if process_lives(self._paths, wid) or not (waited or is_old(self._paths, wid)):
            return False
        files.make_directory(self._paths.worker(wid))
        if not files.exists(lock):
            disk.close(disk.open_create_append(lock))
        return True

    def _unready_s(self, wid: str) -> float:
        """Return how long to wait: a worker takes its place within moments, and claims nothing before."""
        return LOST_PLACE_S if files.names(self._paths.claims_of(wid)) else UNREADY_S


def is_old(paths: Layout, wid: str) -> bool:
    """Tell whether nothing has come or gone in the worker's place for so long that nobody is about to take it."""
    changed = files.changed_ns(paths.worker(wid))
    return changed is not None and time.time_ns() - changed > UNREADY_S * 1_000_000_000


def process_lives(paths: Layout, wid: str) -> bool:
    """Tell whether the process is there that the worker said it was."""
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
    """Tell whether the machine has started anew since the worker came."""
    # A worker writes which boot it is of before it claims anything, and does not sync that: an empty file, or one
    # full of zeros, is what a power cut makes of it.
    written = files.exists(paths.worker(wid, "info"))
    return written and _about(paths, wid).get("boot") != system.boot_id()


def _about(paths: Layout, wid: str) -> dict[str, object]:
    """Return what the worker said of itself when it came."""
    text = files.read_note(paths.worker(wid, "info")) or ""
    return files.decoded(text.encode("utf-8", "replace"), dict[str, object]) or {}


LEFTOVER_PATIENCE_S = 0.5


class Orphans:
    """The runners of dead workers, and which workers have some that cannot be ended."""

    def __init__(self, paths: Layout, emit: Emit) -> None:
        """Know of none yet."""
        self._paths = paths
        self._emit = emit
        self._hanging: set[str] = set()

    def end(self, wid: str) -> bool:
        """End what is left of the dead worker's runners and jobs; return whether nothing of that runs any more."""
        directory = self._paths.worker(wid)
        held = slots.locks_in(directory)
        # One that was killed and hangs in a system call dies when that ends. To try again takes seconds each time.
        if wid in self._hanging and any(map(_is_held, held)):
            return False
        for process in slots.processes_in(directory):
            system.kill_orphan(process.pid, process.birth, self._paths.root)
        deadline = time.monotonic() + LEFTOVER_PATIENCE_S
        while any(map(_is_held, held)):
            if time.monotonic() > deadline:
                self._tell_once(wid, "a runner of this dead worker cannot be killed")
                return False
            time.sleep(0.005)
        return self._end_escaped(wid)

    def _end_escaped(self, wid: str) -> bool:
        """End what jobs of the dead worker have started in sessions of their own; return whether it is gone."""
        is_left = self._left_by(wid)
        if wid in self._hanging and any(map(is_left, system.marked(self._paths.root))):
            return False
        left = system.kill_marked_where(self._paths.root, is_left)
        if left:
            self._tell_once(wid, f"process {left[0]}, which a job of this dead worker has started, cannot be killed")
        return not left

    def _left_by(self, wid: str) -> Callable[[Marked], bool]:
        """Return what tells whether a process is one that the dead worker's runners, or their jobs, have started."""
        jobs, begun = self._jobs(wid), dict[str, bool]()

        def is_left(one: Marked) -> bool:
            if one.job_id in jobs or one.runner.startswith(f"{wid}-"):
                return True
            if one.runner or not ID.fullmatch(one.job_id) or system.runners_above(one.process.pid):
                return False
            # What the module of a job has started serves later jobs too, and may be all that is left when that one has
            # ended. Under a runner it is that of a worker that lives; so it is if it names a runner.
            if one.job_id not in begun:
                begun[one.job_id] = self._has_begun(wid, one.job_id)
            return begun[one.job_id]

        return is_left

    def _has_begun(self, wid: str, job_id: str) -> bool:
        """Tell whether the worker has made an attempt of the job, as far as its record is there and says so."""
        try:
            place = find.locate(self._paths, job_id, clock.now_ms())
            recorded = [] if place is None else record.events(files.read(place.path, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return False
        return any(isinstance(event, record.Start) and event.wid == wid for event in recorded)

    def _jobs(self, wid: str) -> frozenset[str]:
        parts = map(layout.parse_claimed, files.names(self._paths.claims_of(wid)))
        return frozenset(found[2] for found in parts if found is not None)

    def forget(self, wid: str) -> None:
        """Forget a worker whose place is about to go."""
        self._hanging.discard(wid)

    def _tell_once(self, wid: str, what: str) -> None:
        if wid not in self._hanging:
            self._hanging.add(wid)
            self._emit(LeftAlone(f"workers/{wid}", f"{what}; its jobs wait until it is gone", clock.now()))


def _is_held(lock: str) -> bool:
    """Tell whether a runner holds the lock. Raises OSError: one that cannot be tried may be held."""
    try:
        return locks.is_held(lock)
    except OSError as error:
        if error.errno in {*files.LINKS, errno.EISDIR}:
            return False  # no runner made this
        raise


class Recovery:
    """Recovers other workers' claims on behalf of the worker `me`."""

    def __init__(
        self,
        spool: SpoolHandle,
        *,
        me: str,
        inherit: Callable[[str, str], object],
        cancel: Callable[[str, str], object],
    ) -> None:
        """Know no other worker yet.

        `inherit` takes over a file that a dead worker was importing, `cancel` cancels a job in the name of somebody.
        """
        self._paths: Layout = spool.paths
        self._spool = spool
        self._inherit = inherit
        self._cancel = cancel
        self._told: set[str] = set()
        self._emit = spool.emit
        self._others = Others(self._paths, me)
        self._orphans = Orphans(self._paths, self._emit)
        self._transitions_of: dict[str, Transitions] = {}
        self._given_out: dict[str, set[str]] = {}  # by worker: the paths of the claims that are being finished

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

    def finish(self, one: Finish) -> None:
        """Store what was decided about a claim that `run` gave out. What fails is given out again by the next `run`."""
        path, job = one.claim.place, one.claim.job
        wid = os.path.basename(os.path.dirname(path))
        try:
            self._transitions(wid).apply(path, job, one.verdict, one.at, progress=one.running.progress)
            if not isinstance(one.verdict, Ended):
                self._after_return(wid, job.id)
        finally:
            self._take_back(wid, path)

    def _give_out(self, wid: str, path: str) -> None:
        self._given_out.setdefault(wid, set()).add(path)
        self._others.kept.add(wid)

    def _take_back(self, wid: str, path: str) -> None:
        given_out = self._given_out.get(wid, set())
        given_out.discard(path)
        if not given_out:
            self._given_out.pop(wid, None)
            self._others.kept.discard(wid)  # the next `run` goes on with what is left of it

    def _return(self, wid: str, path: str, job: Job, not_before_ms: int, *, at_once: bool) -> None:
        self._transitions(wid).to_pending(path, job.priority, not_before_ms, job.id, at_once=at_once)
        self._after_return(wid, job.id)

    def _after_return(self, wid: str, job_id: str) -> None:
        """Honour a cancel that was asked of the dead worker, also one that came while the job was on its way back."""
        by = self._wish(wid, job_id)
        if by is not None:
            self._cancel(job_id, by)
        # An idle worker, perhaps this one itself, would otherwise find it only when it looks on its own.
        disk.ring(self._paths.doorbell)

    def _transitions(self, wid: str) -> Transitions:
        """Return those in the dead worker's name: should we die half-way, the next recoverer finds events of its."""
        sync = self._spool.settings.finish_fsync
        return self._transitions_of.setdefault(wid, Transitions(self._paths, wid, sync=sync))

    def close(self) -> None:
        """Close what was kept open."""
        self._others.close()

    def _take_over(self, wid: str) -> Iterator[Claim]:
        blocked = not self._orphans.end(wid)
        complete = True
        for name in sorted(files.names(self._paths.claims_of(wid))):
            path = os.path.join(self._paths.claims_of(wid), name)
            if path in self._given_out.get(wid, ()):
                continue
            try:
                for claim in self._resolve(wid, path, blocked=blocked):
                    if claim is None:
                        complete = False
                    else:
                        self._give_out(wid, path)
                        yield claim
            except OSError as error:
                # This one stays, and with it the dead worker's place. The others must not suffer from that.
                complete = False
                self._tell_once(path, error)
        if wid in self._given_out:
            return
        self._transitions_of.pop(wid, None)
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
            self._transitions(wid).to_pending(path, priority, not_before_ms, job_id, at_once=True)
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
        is_running = bool(job.attempts) and not job.attempts[-1].outcome
        verdict = cancelled(by, outcome="cancelled" if is_running else "")
        self._transitions(wid).apply(path, job, verdict, now)
        self._emit(Cancelled(job, now, by))

    def _wish(self, wid: str, job_id: str) -> str | None:
        return files.read_note(self._paths.worker(wid, f"cancel-{job_id}"))

    def _save_output(self, wid: str, job: Job, start: record.Start) -> None:
        hour = layout.hour_of(job.id)
        place = Slots(self._paths.worker(wid))
        slots.keep_output(place.output(start.slot), self._paths.output(hour, job.id, start.number))

    def _tell_once(self, path: str, error: OSError) -> None:
        if path not in self._told:
            self._told.add(path)
            reason = f"cannot be recovered: {error.strerror}"
            self._emit(LeftAlone(os.path.basename(path), reason, clock.now()))

    def _quarantine(self, path: str, reason: str) -> None:
        quarantine(self._paths, path, reason)
        self._emit(Corrupt(os.path.basename(path), reason, clock.now()))
