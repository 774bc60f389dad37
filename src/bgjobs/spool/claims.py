"""A worker's place in a spool: claim jobs, store what became of them, and stay alive in the eyes of the others."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, disk, system
from bgjobs.backend import Begin, Claim
from bgjobs.errors import ClaimLostError, SessionLostError, SpoolError
from bgjobs.ids import ID, id_ms, new_id
from bgjobs.job import State, milliseconds, moment
from bgjobs.spool import files, layout, locks, moves, prune, record
from bgjobs.spool.cursor import Cursor
from bgjobs.spool.incoming import Importer
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.spool.recovery import Recovery, dissolve, remove_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime, timedelta

    from filelock import FileLock

    from bgjobs.backend import Selection, WorkerInfo
    from bgjobs.job import Job, Progress
    from bgjobs.lifecycle import Policy
    from bgjobs.spool.layout import Layout
    from bgjobs.spool.spool_queue import SpoolQueue

SOON_S = 0.1
MOST_PASSED_OVER = 100_000


class SpoolSession:
    """From join to leave. While it lives it holds `alive.lock`, by which all others know that it does."""

    def __init__(self, spool: SpoolQueue, info: WorkerInfo, selection: Selection, age_boost: timedelta) -> None:
        """Make a place of our own: directory, lock, then `ready`, so that nobody takes us for a dead worker."""
        self.id = new_id()
        self._spool = spool
        self._paths: Layout = spool.paths
        self._log = spool.log
        self._info = info
        self._boot = system.boot_id()
        self._selection = selection
        self._version = disk.stat(self._paths.version).st_ino
        with suppress(OSError):
            prune.sweep_tmp(self._paths)
        self._alive = self._enter()
        self._claim_lock = locks.ClaimLock(self._paths.claim_lock)
        self._new_cursor = partial(Cursor, self._paths, min_priority=selection.min_priority, age_boost=age_boost)
        self._cursor = self._new_cursor()
        self._mover = moves.Mover(self._paths, self.id, sync=spool.settings.finish_fsync)
        self._importer = Importer(spool, self.id)
        self._recovery = Recovery(spool, me=self.id, inherit=self._importer.inherit)
        self._taken: list[str] = []  # claimed, but not looked into yet
        self._passed_over: dict[str, None] = {}
        self._noted: set[str] = set()
        self._dropped = 0
        self._progressing: set[str] = set()
        self._wished: set[str] = set()
        self.bell = system.Doorbell(self._paths.doorbell)

    def _enter(self) -> FileLock:
        directory = self._paths.worker(self.id)
        files.make_directory(directory)
        lock = locks.hold_for_life(os.path.join(directory, "alive.lock"))
        self._alive_inode = disk.stat(os.path.join(directory, "alive.lock")).st_ino
        about = {
            "boot": system.boot_id(),
            "birth": system.birth(self._info.pid),
            "worker": msgspec.to_builtins(self._info),
        }
        files.create(os.path.join(directory, "info"), msgspec.json.encode(about), sync=False)
        files.make_directory(self._paths.claims_of(self.id))
        files.create(os.path.join(directory, "ready"), b"", sync=False)
        return lock

    # Claiming

    def claim(self, most: int, *, above: int = -1) -> list[Claim]:
        """Take at most so many due jobs of a priority higher than `above`: by priority, then by age."""
        claims, trouble = self._open_taken()
        more = True
        while more and len(claims) < most:
            try:
                more = self._take(most - len(claims), above)
            except OSError as error:
                trouble, more = error, False
            found, unreadable = self._open_taken()
            claims += found
            trouble = unreadable or trouble
        for path in self._cursor.strange():
            self._quarantine(path, "not a job file's name")
        for path, reason in self._cursor.unreadable().items():
            self._leave_alone(path, reason)
        if trouble is not None and not claims:
            raise trouble
        return claims

    def _take(self, most: int, above: int) -> bool:
        """Move so many jobs into our hands; return whether there were as many."""
        with self._claim_lock.held(SOON_S):
            claims, count = self._paths.claims_of(self.id), 0
            for candidate in self._cursor.candidates(clock.now_ms(), above=above):
                source = f"{self._paths.bucket(candidate.priority, candidate.bucket)}{os.sep}{candidate.name}"
                if self._selection.classes is not None and not self._selected(source, candidate.name):
                    continue
                target = f"{claims}{os.sep}{layout.claimed_name(candidate.priority, candidate.name)}"
                try:
                    files.move(source, target)
                except FileNotFoundError:
                    continue  # another worker was faster, or somebody cancelled it
                except OSError as error:
                    if error.errno not in files.UNREADABLE:
                        self._cursor = self._new_cursor()  # the old one would not name this job again for a while
                        raise
                    self._leave_alone(os.path.dirname(source), error)
                    continue  # what lies elsewhere may be ours to move
                if target in self._taken:
                    continue  # a copy of a job that we just took, from another bucket
                self._taken.append(target)
                count += 1
                if count == most:
                    return True
        return False

    def _open_taken(self) -> tuple[list[Claim], OSError | None]:
        """Look into what was moved into our hands; what cannot be read now is looked into the next time."""
        claims, trouble = [], None
        taken, self._taken = self._taken, []
        for path in taken:
            try:
                claim = self._opened(path)
            except FileNotFoundError:
                continue  # it is not ours any more
            except OSError as error:
                self._taken.append(path)
                if error.errno in files.UNREADABLE:
                    self._leave_alone(path, error)
                else:
                    trouble = error
                continue
            if claim is not None:
                claims.append(claim)
        return claims, trouble

    def _selected(self, path: str, name: str) -> bool:
        """Look into a pending file to see whether its class is one that this worker takes."""
        if name in self._passed_over:
            return False
        try:
            parsed = layout.parse_pending(name)
            data = files.read(path, record.MOST_BYTES)
            job_id = parsed.job_id if parsed else ""
            job = record.decode(data, job_id=job_id, state=State.QUEUED, priority=0, not_before_ms=None)
        except (OSError, files.StrangeFileError, CorruptError, NewerFormatError):
            return False  # a worker without a selection sorts it out
        if self._selection.classes is not None and job.class_name in self._selection.classes:
            return True
        if len(self._passed_over) > MOST_PASSED_OVER:
            self._passed_over.clear()
        self._passed_over[name] = None
        return False

    def _opened(self, path: str) -> Claim | None:
        """Read a file that we claimed. What is not a job file goes to `corrupt/`."""
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
            self._quarantine(path, str(error))
            return None
        except NewerFormatError:
            self._put_aside(path, priority, not_before_ms, job_id)
            return None
        if job.finished_at is not None:
            self._finish_move(path, job_id, data)
            return None
        return Claim(job, path, full=len(data) > record.FULL_BYTES)

    def _finish_move(self, path: str, job_id: str, data: bytes) -> None:
        """Move a job on that has ended already: a power cut undid the moves after that, but not the last line."""
        for event in reversed(record.events(data)):
            if isinstance(event, record.End) and event.state in layout.ENDED_DIRECTORIES:
                with suppress(ClaimLostError):
                    self._mover.to_ended(path, job_id, event.state, moment(event.at))
                return
        self._quarantine(path, "it has ended in an unknown state")

    def _quarantine(self, path: str, reason: str) -> None:
        try:
            moves.quarantine(self._paths, path, reason)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_alone(path, error, f"{reason}; ")
            return
        self._log.corrupt(os.path.basename(path), reason, clock.now())

    def _leave_alone(self, path: str, error: OSError, reason: str = "") -> None:
        """Say, once, that something stays where it is. Nothing else may suffer from that."""
        if path not in self._noted:
            self._noted.add(path)
            self._log.left_alone(os.path.relpath(path, self._paths.root), f"{reason}{error.strerror}", clock.now())

    def _put_aside(self, path: str, priority: int, not_before_ms: int, job_id: str) -> None:
        """Put back a job that a newer bgjobs wrote, for a newer worker, and look at it again in a minute."""
        later = clock.now_ms() + layout.MINUTE_MS
        self._mover.to_pending(path, priority, max(later, not_before_ms), job_id, at_once=False)
        if job_id not in self._noted:
            self._noted.add(job_id)
            self._log.left_alone(job_id, "written by a newer bgjobs", clock.now())

    # Running

    def begin(self, claim: Claim, *, slot: int, pid: int, birth: str) -> Begin:
        """Return the `start` line that the runner appends right before it runs the job."""
        start = record.Start(
            at=0,
            wid=self.id,
            number=len(claim.job.attempts) + 1,
            worker=self._info.name,
            slot=slot,
            pid=pid,
            birth=birth,
            boot=self._boot,
        )
        head, at, tail = record.encoded(start).decode().partition('"at":0')
        return Begin(claim.place, head + at[:-1], tail)

    def has_begun(self, claim: Claim) -> bool:
        """Tell whether the runner got as far as writing the `start` line of this attempt."""
        try:
            recorded = record.events(files.read(claim.place, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return True  # nobody knows: the safe side is to count the attempt
        starts = sum(isinstance(event, record.Start) for event in recorded)
        return starts > len(claim.job.attempts)

    def output_path(self, claim: Claim) -> str:
        """Return where the output of the attempt that begins now is to be kept."""
        hour = layout.hour(moment(id_ms(claim.job.id)))
        return self._paths.output(hour, claim.job.id, len(claim.job.attempts) + 1)

    def runner_lock(self, slot: int) -> str:
        """Return the lock that the runner in this slot holds for life."""
        return self._paths.worker(self.id, f"r{slot}.lock")

    def runner_output(self, slot: int) -> str:
        """Return the path of the file in which the runner in this slot collects output."""
        return self._paths.worker(self.id, f"r{slot}.out")

    def keep_output(self, slot: int, path: str) -> None:
        """Keep at `path` what the dead runner of this slot had collected."""
        moves.keep_output(self.runner_output(slot), path)

    def limit_output(self, slot: int, most: int) -> None:
        """Cut what the runner of this slot collects, if it has grown far beyond so many bytes.

        The runner counts what Python prints. C code and subprocesses write without being counted, and append: cutting
        the file under them keeps it bounded.
        """
        files.limit(self.runner_output(slot), most + 1)  # one more: so that the runner sees that something was cut

    def runner_started(self, slot: int, pid: int, birth: str) -> None:
        """Note which process the runner in this slot is, so that a recoverer can end it."""
        about = {"pid": pid, "birth": birth, "boot": system.boot_id()}
        files.replace_content(self._paths.worker(self.id, f"r{slot}.pid"), msgspec.json.encode(about))

    # Finishing

    def finish(self, claim: Claim, job: Job) -> None:
        """Store what became of a claimed job. Raises ClaimLostError when it is no longer ours."""
        if claim.leftover:
            self._recovery.finish(claim, job)
            return
        self._mover.finish(claim.place, claim.job, job)
        if job.id in self._progressing:
            self._progressing.discard(job.id)
            files.discard(self._paths.worker(self.id, f"progress-{job.id}"))
        if not job.state.ended:
            self._after_return(job.id)
        elif job.id in self._wished:
            self._wished.discard(job.id)
            files.discard(self._paths.worker(self.id, f"cancel-{job.id}"))

    def put_aside(self, claim: Claim, reason: str) -> None:
        """Put a claimed file that cannot be a job of its own into `corrupt/`."""
        self._quarantine(claim.place, reason)

    def give_back(self, claim: Claim) -> None:
        """Put back a claimed job that was not begun: it is not charged."""
        job = claim.job
        self._mover.to_pending(claim.place, job.priority, milliseconds(job.not_before), job.id, at_once=True)
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
                wish = self._paths.worker(self.id, f"cancel-{job_id}")
                by = files.read_note(wish)
                if by is not None:
                    self._spool.cancel(job_id, by)
                    files.remove(wish)
        except (OSError, SpoolError):
            return False
        return True

    # Living

    def renew(self, progress: Mapping[str, Progress]) -> dict[str, str]:
        """Check that our place is still ours, store progress, and return who asked to cancel which job."""
        self._check_place()
        for job_id, state in progress.items():
            self._progressing.add(job_id)
            with suppress(OSError):  # a full disk
                files.replace_content(self._paths.worker(self.id, f"progress-{job_id}"), msgspec.json.encode(state))
        self._tell_dropped()
        wishes = {}
        for job_id in self._wishes():
            by = files.read_note(self._paths.worker(self.id, f"cancel-{job_id}"))
            if by is not None:
                wishes[job_id] = by
        self._grant(self._late(self._wished.intersection(wishes)))
        self._wished = set(wishes)
        return wishes

    def _tell_dropped(self) -> None:
        """Let others see how many lines the logs had no room for."""
        if self._log.dropped != self._dropped:
            with suppress(OSError):  # perhaps the same full disk: the next round tries again
                files.replace_content(self._paths.worker(self.id, "dropped"), f"{self._log.dropped}\n".encode())
                self._dropped = self._log.dropped

    def _wishes(self) -> set[str]:
        """Return the ids of the jobs that somebody asked us to cancel."""
        names = [name.partition("-") for name in files.names(self._paths.worker(self.id))]
        return {job_id for kind, _, job_id in names if kind == "cancel" and ID.fullmatch(job_id)}

    def _late(self, wishes: set[str]) -> set[str]:
        """Return the wishes that came when their job was just leaving our hands: nobody else would look for them."""
        if not wishes:
            return wishes
        claimed = [layout.parse_claimed(name) for name in files.names(self._paths.claims_of(self.id))]
        return wishes - {parts[2] for parts in claimed if parts}

    def _check_place(self) -> None:
        for path, inode in (
            (self._paths.version, self._version),
            (self._paths.worker(self.id, "alive.lock"), self._alive_inode),
        ):
            try:
                same = disk.stat(path).st_ino == inode
            except (FileNotFoundError, NotADirectoryError):
                same = False
            if not same:
                raise SessionLostError(f"{path} is gone or was replaced", hint="was the spool moved or unmounted?")

    def recover(self) -> Iterator[Claim]:
        """Take over what dead workers left. Each claim given out must be finished before the next is asked for."""
        return self._recovery.run()

    def import_jobs(self, policy_of: Callable[[str, str], Policy]) -> int:
        """Make jobs of the files in `incoming/`, some at a time; return how many."""
        return self._importer.run(policy_of)

    def tidy(self, *, keep_done: timedelta, keep_failed: timedelta) -> int:
        """Delete ended jobs older than this, and leftovers of crashes; return how many jobs went."""
        return prune.tidy(self._paths, keep_done=keep_done, keep_failed=keep_failed, now=clock.now())

    def mend(self) -> list[str]:
        """Mend what a worker's rounds do not, as far as it is safe while others work; return what, in words."""
        from bgjobs.spool.repair import Repair  # noqa: PLC0415 - workers do without

        return Repair(self._paths, self._log).run()

    def next_due(self) -> datetime | None:
        """Return when the next delayed job may start, as far as is known, or None."""
        ms = self._cursor.next_ms(clock.now_ms())
        return None if ms is None else moment(ms)

    def leave(self) -> None:
        """Give up the place."""
        self._recovery.close()
        self._claim_lock.close()
        self.bell.close()
        self._importer.close()
        # With claims left, because something went wrong, our place has to stay: another worker recovers them from it.
        empty = self._grant(self._late(self._wishes())) and dissolve(self._paths, self.id)
        self._alive.release()
        if empty:
            remove_place(self._paths, self.id)
