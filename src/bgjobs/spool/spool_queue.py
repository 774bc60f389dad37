"""The queue in a directory, as one `Backend`."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from bgjobs import clock, disk
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
from bgjobs.job import Job, State, milliseconds, moment
from bgjobs.spool import lookup, prune, setup
from bgjobs.spool.control import Control
from bgjobs.spool.layout import Layout
from bgjobs.spool.publish import Publisher
from bgjobs.spool.quota import Quota
from bgjobs.spool.reading import Reader
from bgjobs.values import FEWEST_FILES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from bgjobs.backend import Session
    from bgjobs.events import Log
    from bgjobs.settings import Settings

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
        self._quota = Quota(self.paths, settings.max_queued)
        self._reader = Reader(self.paths)
        self._control = Control(self.paths, log, self._reader.read)
        try:
            setup.open_or_set_up(self.paths)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

    # Producer

    def submit(self, jobs: Sequence[Job]) -> None:
        """Store new jobs; they are durable on return (see the `durability` setting). Raises SpoolError."""
        self._check_room()
        try:
            self._quota.refuse_beyond(len(jobs))
        except OSError as error:
            raise _unusable(self.paths.root, error) from error
        if self._publisher is None:
            self._publisher = Publisher(self.paths, durable=self.durable)
        try:
            self._publisher.publish(jobs)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error
        self._quota.add(len(jobs))

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
        return self._reader.get(job_id)

    def ids(self, suffix: str) -> list[str]:
        """Return the ids that end so."""
        places = lookup.everything(self.paths, frozenset(State), clock.now_ms())
        return sorted({place.job_id for place in places if place.job_id.endswith(suffix)})

    def jobs(self, where: Filter) -> Iterator[Job]:
        """Go through the jobs that meet the conditions, newest first."""
        return self._reader.jobs(where)

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        return lookup.counts(self.paths, clock.now_ms())

    def oldest_queued(self) -> datetime | None:
        """Return since when the oldest job that may start now has been able to, or None."""
        places = lookup.pending(self.paths, clock.now_ms())
        moments = [p.not_before_ms for p in places if p.state is State.QUEUED and p.not_before_ms is not None]
        return moment(min(moments)) if moments else None

    def unfinished(self, now: datetime) -> Unfinished:
        """Return whether there is work."""
        incoming = lookup.importable(self.paths)
        return Unfinished(*lookup.unfinished(self.paths, milliseconds(now)), incoming=incoming)

    def workers(self) -> list[WorkerView]:
        """Return all workers that left a trace, dead ones included."""
        from bgjobs.spool import workplace  # noqa: PLC0415 - filelock is slow to import

        return workplace.views(self.paths)

    def output(self, job: Job, attempt: int) -> Path | None:
        """Return the file with what an attempt printed, or None when it printed nothing."""
        return self._reader.output(job, attempt)

    # Control

    def stop(self, worker_id: str) -> bool:
        """Ask a worker to stop, as a signal does; return False when there is none of this id. Raises SpoolError."""
        from bgjobs.spool import workplace  # noqa: PLC0415 - filelock is slow to import

        try:
            return workplace.ask_to_stop(self.paths, worker_id)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error

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
        from bgjobs.spool.checks import fsck  # noqa: PLC0415 - filelock is slow to import

        return fsck.check(self.paths, quick=quick)

    def fitness(self) -> Fitness:
        """Try whether what the spool lies on can keep its promises: disk, locks, clock, room."""
        from bgjobs.spool.checks import fitness  # noqa: PLC0415 - rarely asked for

        return fitness.look(self.paths, self.settings)

    def open_to_others(self) -> list[Finding]:
        """Return where other users could change what is stored. A worker refuses to work there."""
        from bgjobs.spool.checks import fitness  # noqa: PLC0415 - rarely asked for

        return fitness.open_to_others(self.paths)

    def join(self, info: WorkerInfo, selection: Selection) -> Session:
        """Take a place as a worker. Raises SpoolError."""
        from bgjobs.spool.checks import fitness, repair  # noqa: PLC0415 - only workers need filelock
        from bgjobs.spool.claims import SpoolSession  # noqa: PLC0415 - only workers need filelock

        try:
            fitness.refuse_unfit(self.paths)
            for finding in fitness.open_to_others(self.paths):
                raise SpoolError(f"{finding.path} {finding.message}", code=finding.code)
            repair.make_ground(self.paths)
            return SpoolSession(self, info, selection, self.settings.age_boost)
        except OSError as error:
            raise _unusable(self.paths.root, error) from error


def _unusable(root: str, error: OSError) -> SpoolError:
    where = os.fsdecode(error.filename) if error.filename else root
    if error.errno in FULL:
        return SpoolError(f"no space left for {where}", hint="free some, or prune ended jobs", code="disk-full")
    return SpoolError(
        f"cannot use the spool {root}: {error.strerror} ({where})",
        hint="check its permissions, or name another with --spool",
    )
