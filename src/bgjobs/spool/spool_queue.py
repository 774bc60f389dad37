"""The queue in a directory, as one `Backend`."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, disk, system
from bgjobs.backend import (
    CancelResult,
    DeleteResult,
    Filter,
    Finding,
    Fitness,
    RunNowResult,
    Selection,
    Unfinished,
    WorkerInfo,
    WorkerView,
)
from bgjobs.errors import SpoolError
from bgjobs.ids import id_ms, new_id
from bgjobs.job import Job, Progress, State, milliseconds, moment
from bgjobs.settings import FEWEST_FILES
from bgjobs.spool import files, layout, lookup, prune, record
from bgjobs.spool.control import Control
from bgjobs.spool.layout import Layout
from bgjobs.spool.line1 import FORMAT, CorruptError, NewerFormatError
from bgjobs.spool.publish import Publisher

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from bgjobs.backend import Session
    from bgjobs.events import Log
    from bgjobs.settings import Settings
    from bgjobs.spool.lookup import Place

TRIES = 100
SET_UP_S = 10.0
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class SpoolQueue:
    """Jobs as files in directories named after their state. See docs/spool.md for the protocol."""

    def __init__(self, settings: Settings, log: Log) -> None:
        """Open the spool, or set it up where there is none. Raises SpoolError."""
        self.paths = Layout(settings.spool)
        self.log = log
        self.settings = settings
        self.durable = settings.durability == "full"
        self._publisher: Publisher | None = None
        self._control = Control(self.paths, log, self._read)
        try:
            self._open()
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

    def _open(self) -> None:
        try:
            data = files.read(self.paths.version, 1024)
        except FileNotFoundError:
            self._set_up()
            return
        except files.StrangeFileError as error:
            raise SpoolError(f"{self.paths.version} is {error}", hint="use another spool") from None
        try:
            version = msgspec.json.decode(data, type=dict[str, object]).get("format")
        except msgspec.DecodeError:
            version = None
        if version != FORMAT:
            raise SpoolError(
                f"the spool {self.paths.root} has format {version!r}, this bgjobs knows {FORMAT}",
                hint="use the bgjobs that made it, or another --spool",
            )

    def _set_up(self) -> None:
        root = self.paths.root
        files.make_directories(root)
        network = system.network_filesystem(root)
        if network:
            raise SpoolError(
                f"the spool {root} is on a network file system ({network})",
                hint="locks do not hold there: use a local one",
            )
        from bgjobs.spool import locks  # noqa: PLC0415 - slow to import, and a spool is set up once

        files.make_directory(os.path.dirname(self.paths.claim_lock))
        setting_up = locks.ClaimLock(self.paths.claim_lock)
        with closing(setting_up), setting_up.held(SET_UP_S):
            if not files.exists(self.paths.version):  # or somebody else was faster
                self._fill()

    def _fill(self) -> None:
        if any(files.names(os.path.join(self.paths.root, *name.split("/"))) for name in layout.IN_USE):
            hint = "restore it, or use another --spool"
            raise SpoolError(f"the spool {self.paths.root} has lost its VERSION file", hint=hint)
        for directory in self.paths.directories():
            files.make_directory(directory)
        from bgjobs.spool import fitness  # noqa: PLC0415 - a spool is set up once

        fitness.refuse_unfit(self.paths)
        self._publish_version()

    def _publish_version(self) -> None:
        if not files.exists(self.paths.doorbell):
            files.create(self.paths.doorbell, b"\n", sync=False)
        about = msgspec.json.encode({"format": FORMAT, "uuid": new_id()})
        fresh = os.path.join(self.paths.tmp, f"VERSION.{new_id()}")
        files.create(fresh, about + b"\n", sync=True)
        # All that a spool has must be on the disk before the file that says so: nobody makes a directory again later.
        for parent in (self.paths.pending, self.paths.tmp, self.paths.root):
            files.sync_directory(parent)
        files.move(fresh, self.paths.version)
        files.sync_directory(self.paths.root)

    # Producer

    def submit(self, jobs: Sequence[Job]) -> None:
        """Store new jobs; they are durable on return (see the `durability` setting). Raises SpoolError."""
        self._check_room()
        if self._publisher is None:
            self._publisher = Publisher(self.paths, durable=self.durable)
        try:
            self._publisher.publish(jobs)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

    def _check_room(self) -> None:
        """Refuse new jobs while there is still room for what becomes of those that are there."""
        least = self.settings.min_free
        if not least:
            return
        try:
            room, files_left = disk.free_space(self.paths.root)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error
        if room < least or (files_left is not None and files_left < FEWEST_FILES):
            left = f"{room} bytes are left" if room < least else f"{files_left} files are left"
            raise SpoolError(
                f"the disk of {self.paths.root} is nearly full: {left}",
                hint="free some, prune ended jobs, or lower min_free",
                code="disk-full",
            )

    # Inspection

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None when there is none."""
        for _ in range(TRIES):
            place = lookup.locate(self.paths, job_id, _now_ms())
            if place is None:
                return None
            job = self._read(place)
            if job is not None:
                return job
            reason = self._unreadable(place)
            if reason:
                raise SpoolError(f"the file of job {job_id} is no valid job file: {reason}", hint=f"see {place.path}")
        raise SpoolError(f"job {job_id} moves faster than it can be read", hint="try again")

    def _read(self, place: Place) -> Job | None:
        """Read a job, or return None when it has moved or is not a valid job file."""
        try:
            data = files.read(place.path, record.MOST_BYTES)
            job = record.decode(
                data,
                job_id=place.job_id,
                state=place.state,
                priority=place.priority,
                not_before_ms=place.not_before_ms,
            )
        except (FileNotFoundError, files.StrangeFileError, CorruptError, NewerFormatError):
            return None
        return self._with_progress(job, place) if place.holder else job

    def _unreadable(self, place: Place) -> str:
        """Return why the file that lies there cannot be a job, or nothing if it has only moved."""
        try:
            record.decode(
                files.read(place.path, record.MOST_BYTES),
                job_id=place.job_id,
                state=place.state,
                priority=place.priority,
                not_before_ms=place.not_before_ms,
            )
        except FileNotFoundError:
            return ""
        except (files.StrangeFileError, CorruptError) as error:
            return str(error)
        except NewerFormatError:
            return "it was written by a newer bgjobs"
        return ""

    def _with_progress(self, job: Job, place: Place) -> Job:
        try:
            data = files.read(self.paths.worker(place.holder, f"progress-{job.id}"), 65_536)
            return msgspec.structs.replace(job, progress=msgspec.json.decode(data, type=Progress))
        except (OSError, files.StrangeFileError, msgspec.DecodeError):
            return job

    def ids(self, suffix: str) -> list[str]:
        """Return the ids that end so."""
        places = lookup.everything(self.paths, frozenset(State), _now_ms())
        return sorted({place.job_id for place in places if place.job_id.endswith(suffix)})

    def jobs(self, where: Filter) -> Iterator[Job]:
        """Go through the jobs that meet the conditions, newest first."""
        places = list(lookup.everything(self.paths, where.states, _now_ms()))
        places.sort(key=lambda place: place.job_id, reverse=True)
        seen: str | None = None
        for place in places:
            if place.job_id == seen or not _may_match(place, where):
                continue
            try:
                job = self._read(place) or self._moved(place)
            except OSError as error:
                if error.errno not in files.UNREADABLE:
                    raise
                continue  # the worker that meets it names it in the error log
            if job is not None and where.admits(job):
                seen = place.job_id
                yield job

    def _moved(self, place: Place) -> Job | None:
        return None if files.exists(place.path) else self.get(place.job_id)

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        return lookup.counts(self.paths, _now_ms())

    def oldest_queued(self) -> datetime | None:
        """Return since when the oldest job that may start now has been able to, or None."""
        places = lookup.pending(self.paths, _now_ms())
        moments = [p.not_before_ms for p in places if p.state is State.QUEUED and p.not_before_ms is not None]
        return moment(min(moments)) if moments else None

    def unfinished(self, now: datetime) -> Unfinished:
        """Return whether there is work."""
        incoming = lookup.importable(self.paths)
        return Unfinished(*lookup.unfinished(self.paths, milliseconds(now)), incoming=incoming)

    def workers(self) -> list[WorkerView]:
        """Return all workers that left a trace, dead ones included."""
        from bgjobs.spool import locks  # noqa: PLC0415 - filelock is slow to import

        found = []
        for wid in sorted(files.names(self.paths.workers)):
            try:
                about = msgspec.json.decode(files.read(self.paths.worker(wid, "info"), 65_536))
                info = msgspec.convert(about["worker"], WorkerInfo)
            except (OSError, files.StrangeFileError, msgspec.MsgspecError, KeyError, TypeError):
                continue
            alive = locks.is_held(self.paths.worker(wid, "alive.lock"))
            dropped = (files.read_note(self.paths.worker(wid, "dropped")) or "").strip()
            count = int(dropped) if dropped.isascii() and dropped.isdigit() else 0
            responsive = alive and not _stands_still(about)
            found.append(WorkerView(id=wid, info=info, alive=alive, responsive=responsive, dropped=count))
        return found

    def output(self, job: Job, attempt: int) -> Path | None:
        """Return the file with what an attempt printed, or None when it printed nothing."""
        kept = Path(self.paths.output(layout.hour(moment(id_ms(job.id))), job.id, attempt))
        if kept.exists():
            return kept
        place = lookup.locate(self.paths, job.id, _now_ms())
        if place is None or place.state is not State.RUNNING:
            return kept if kept.exists() else None
        return self._output_so_far(place, attempt)

    def _output_so_far(self, place: Place, attempt: int) -> Path | None:
        """Return where the runner that runs the job right now collects what it prints."""
        try:
            recorded = record.events(files.read(place.path, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return None
        last = next(reversed(recorded), None)
        if not isinstance(last, record.Start) or last.number != attempt or last.wid != place.holder:
            return None
        path = Path(self.paths.worker(last.wid, f"r{last.slot}.out"))
        return path if path.exists() else None

    # Control

    def cancel(self, job_id: str, by: str) -> CancelResult:
        """Cancel a job that has not begun, or ask for the end of a running one."""
        return self._control.cancel(job_id, by)

    def run_now(self, job_id: str, by: str = "") -> RunNowResult:
        """Let a delayed job start as soon as a worker has time for it. Raises SpoolError."""
        try:
            return self._control.run_now(job_id, by)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

    def delete(self, job_id: str) -> DeleteResult:
        """Delete an ended job with all that it printed. Raises SpoolError."""
        try:
            return self._control.delete(job_id)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

    def prune(self, states: Collection[State], before: datetime, *, dry_run: bool = False) -> int:
        """Delete the jobs in these states that ended before the moment; return how many. Raises SpoolError."""
        try:
            return prune.prune(self.paths, states, before, dry_run=dry_run)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

    # Health

    def findings(self, *, quick: bool = False) -> list[Finding]:
        """Hold the spool against its promises, while workers go on; `quick` leaves ended jobs unread."""
        from bgjobs.spool import fsck  # noqa: PLC0415 - filelock is slow to import

        return fsck.check(self.paths, quick=quick)

    def fitness(self) -> Fitness:
        """Try whether what the spool lies on can keep its promises: disk, locks, clock, room."""
        from bgjobs.spool import fitness  # noqa: PLC0415 - rarely asked for

        return fitness.look(self.paths, self.settings)

    def open_to_others(self) -> list[Finding]:
        """Return where other users could change what is stored. A worker refuses to work there."""
        from bgjobs.spool import fitness  # noqa: PLC0415 - rarely asked for

        return fitness.open_to_others(self.paths)

    def join(self, info: WorkerInfo, selection: Selection) -> Session:
        """Take a place as a worker. Raises SpoolError."""
        from bgjobs.spool import fitness, repair  # noqa: PLC0415 - only workers need filelock
        from bgjobs.spool.claims import SpoolSession  # noqa: PLC0415 - only workers need filelock

        try:
            fitness.refuse_unfit(self.paths)
            for finding in fitness.open_to_others(self.paths):
                raise SpoolError(f"{finding.path} {finding.message}", code=finding.code)
            repair.make_ground(self.paths)
            return SpoolSession(self, info, selection, self.settings.age_boost)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error


def _stands_still(about: dict[str, object]) -> bool:
    """Tell whether the process of a worker was stopped, by what it said of itself when it came."""
    worker, born = about["worker"], about.get("birth")
    pid = worker.get("pid") if isinstance(worker, dict) else None
    return isinstance(pid, int) and isinstance(born, str) and system.is_stopped(pid, born)


def _may_match(place: Place, where: Filter) -> bool:
    """Leave out by name alone what need not be opened."""
    submitted = moment(id_ms(place.job_id))
    slack = 1  # ms: the id holds whole ones
    return (
        (where.priority is None or place.priority in {None, where.priority})
        and (where.since is None or milliseconds(submitted) + slack >= milliseconds(where.since))
        and (where.until is None or submitted < where.until)
    )


def _unusable(root: str, error: OSError) -> SpoolError:
    where = os.fsdecode(error.filename) if error.filename else root
    if error.errno in FULL:
        return SpoolError(f"no space left for {where}", hint="free some, or prune ended jobs", code="disk-full")
    return SpoolError(
        f"cannot use the spool {root}: {error.strerror} ({where})",
        hint="check its permissions, or name another with --spool",
    )


def _now_ms() -> int:
    return clock.now_ms()
