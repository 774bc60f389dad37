"""The store of jobs in a directory: each call goes to the module that does it, most of them imported when needed."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from bgjobs import files, signing
from bgjobs.errors import SpoolError
from bgjobs.job import Job, State, milliseconds
from bgjobs.spool import setup
from bgjobs.spool.handle import SpoolHandle
from bgjobs.spool.submit import Submitter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from bgjobs.config.settings import Settings
    from bgjobs.events import Emit
    from bgjobs.signing import Keys
    from bgjobs.spool.control import Control
    from bgjobs.spool.reading import Reader
    from bgjobs.store import (
        CancelResult,
        DeleteResult,
        FileStore,
        Filter,
        Finding,
        Fitness,
        RunNowResult,
        Selection,
        Session,
        Unfinished,
        WorkerInfo,
        WorkerView,
    )

RETRY_LOCK_S = 60.0


class SpoolStore:
    """Jobs as files in directories named after their state. See docs/internals/spool.md for the protocol."""

    def __init__(self, settings: Settings, emit: Emit, *, make: bool = True) -> None:
        """Open the spool. Where there is none it is set up now, or without `make` by the first who submits or works.

        Raises SpoolError.
        """
        self.files: FileStore | None = self
        self.handle = SpoolHandle(settings, emit)
        self.paths = self.handle.paths
        self._submitter = Submitter(self.handle)
        self._is_open = False
        if make:
            self._make()

    def _make(self) -> None:
        """Open the spool, or set it up where there is none."""
        if not self._is_open:
            with self.handle.reported_errors():
                setup.open_or_set_up(self.paths)
            self._is_open = True

    def is_there(self) -> bool:
        """Tell whether there is a spool. A process that only reads makes none, and finds no jobs.

        Raises SpoolError where somebody named a spool, and there is none: a mistyped path is no empty queue.
        """
        if not self._is_open:
            with self.handle.reported_errors():
                self._is_open = setup.open_existing(self.paths)
        if not self._is_open and self.handle.settings.spool_from:
            raise SpoolError(
                f"there is no spool at {self.paths.root}",
                hint=f"check {self.handle.settings.spool_from}; to submit a job, or to start a worker, makes one",
                code="no-spool",
            )
        return self._is_open

    # Producer

    def submit(self, jobs: Sequence[Job]) -> None:
        """Store new jobs; they are durable on return (see the `durability` setting). Raises SpoolError."""
        self._make()
        self._submitter.submit(jobs)

    # Signing

    def refresh_keys(self) -> Keys | None:
        """Return the keys that sign and check, read again if their file has changed. Raises ConfigError."""
        if self.handle.keyring is None:
            return None
        self.handle.keyring.refresh()
        return self.handle.keyring.keys()

    def take_over(self, configured: Settings, keyring: signing.Keyring | None) -> None:
        """Use changed settings, and sign and check with the keys of this file, or not at all."""
        self.handle.settings = configured
        self.handle.keyring = keyring

    # Inspection

    @cached_property
    def _reader(self) -> Reader:
        from bgjobs.spool.reading import Reader  # noqa: PLC0415 - who only submits reads nothing

        return Reader(self.paths)

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None when there is none."""
        if not self.is_there():
            return None
        return self._reader.get(job_id)

    def verified(self, job_id: str) -> Job | None:
        """Return the job as `get` does. Where jobs are signed: raises RefusedError for one that is not, or not so."""
        if not self.is_there():
            return None
        self.refresh_keys()
        keyring = self.handle.keyring
        if keyring is None:
            return self._reader.get(job_id)
        return self._reader.get(job_id, lambda data: keyring.check(signing.JOB, data.partition(b"\n")[0]))

    def retried(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return which of these jobs a later job retries, each with the latest that does."""
        if not self.is_there():
            return {}
        return self._reader.retried(job_ids)

    @contextmanager
    def retrying(self) -> Iterator[None]:
        """Let nobody else retry jobs by condition meanwhile. Raises SpoolError if somebody does for too long."""
        if not self.is_there():
            yield
            return
        from bgjobs.locks import ClaimLock  # noqa: PLC0415 - filelock is slow to import
        from bgjobs.spool import directories  # noqa: PLC0415 - who only submits a job needs it rarely

        with self.handle.reported_errors():
            directories.restore_locks(self.paths)
            with closing(ClaimLock(self.paths.retry_lock)) as lock, lock.held(RETRY_LOCK_S) as is_ours:
                if not is_ours:
                    raise SpoolError("another `bgjobs retry --all` is at work", hint="try again when it has ended")
                yield

    def ids(self, suffix: str) -> list[str]:
        """Return the ids that end so."""
        if not self.is_there():
            return []
        return self._reader.ids(suffix)

    def jobs(self, where: Filter, *, before: str | None = None, limit: int = 0) -> Iterator[Job]:
        """Go through the jobs older than `before` that meet the conditions, newest first: at most `limit` (0: all)."""
        if not self.is_there():
            return iter(())
        return islice(self._reader.jobs(where, before), limit or None)

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        if not self.is_there():
            return dict.fromkeys(State, 0)
        return self._reader.counts()

    def oldest_queued(self) -> datetime | None:
        """Return since when the oldest job that may start now has been able to, or None."""
        if not self.is_there():
            return None
        return self._reader.oldest_queued()

    def unfinished(self, now: datetime) -> Unfinished:
        """Return whether there is work."""
        return self._reader.unfinished(milliseconds(now), self.handle.has_importable)

    def workers(self) -> list[WorkerView]:
        """Return all workers, and dead ones that were not recovered yet."""
        if not self.is_there() or not files.names(self.paths.workers):
            return []
        from bgjobs.spool import worker_dir  # noqa: PLC0415 - filelock is slow to import

        return worker_dir.views(self.paths)

    def read_output(self, job: Job, attempt: int, offset: int = 0) -> bytes:
        """Return what an attempt has printed so far, from this byte on. Raises SpoolError."""
        if not self.is_there():
            return b""
        return self._reader.read_output(job, attempt, offset)

    def output_file(self, job: Job, attempt: int) -> Path | None:
        """Return the file with what an attempt has printed so far, or None when it printed nothing."""
        if not self.is_there():
            return None
        return self._reader.output_file(job, attempt)

    # Control

    @cached_property
    def _control(self) -> Control:
        from bgjobs.spool.control import Control  # noqa: PLC0415 - who only submits does nothing else to jobs

        return Control(self.handle, self._reader.read)

    def stop(self, worker_id: str) -> bool:
        """Ask a worker to stop, as a signal does; return False when there is none of this id. Raises SpoolError."""
        if not self.is_there():
            return False
        from bgjobs.spool import worker_dir  # noqa: PLC0415 - filelock is slow to import

        with self.handle.reported_errors():
            return worker_dir.ask_to_stop(self.paths, worker_id)

    def cancel(self, job_id: str, by: str) -> CancelResult:
        """Cancel a job that has not begun, or ask for the end of a running one. Raises SpoolError."""
        if not self.is_there():
            return "unknown"
        return self._control.cancel(job_id, by)

    def run_now(self, job_id: str, by: str = "") -> RunNowResult:
        """Let a delayed job start as soon as a worker has time for it. Raises SpoolError."""
        if not self.is_there():
            return "unknown"
        return self._control.run_now(job_id, by)

    def delete(self, job_id: str) -> DeleteResult:
        """Delete an ended job with all that it printed. Raises SpoolError."""
        if not self.is_there():
            return "unknown"
        return self._control.delete(job_id)

    def prune(self, states: Collection[State], before: datetime, *, dry_run: bool = False) -> int:
        """Delete the jobs in these states that ended before the moment; return how many. Raises SpoolError."""
        if not self.is_there():
            return 0
        from bgjobs.spool import prune  # noqa: PLC0415 - who only submits deletes nothing

        with self.handle.reported_errors():
            return prune.prune(self.paths, states, before, dry_run=dry_run)

    # Health

    def findings(self, *, quick: bool = False) -> list[Finding]:
        """Check the spool against its rules, while workers go on; `quick` leaves ended jobs unread."""
        from bgjobs.spool.doctor import fsck, process_check  # noqa: PLC0415 - filelock is slow to import

        if not self.is_there():
            return [*process_check.inspect(self.paths)]  # `bgjobs run` needs no spool
        return fsck.check(self.paths, quick=quick)

    def fitness(self) -> Fitness:
        """Test what the spool lies on: disk, locks, clock, room."""
        from bgjobs.spool.doctor import fitness  # noqa: PLC0415 - rarely asked for

        if not self.is_there():
            return fitness.of_missing_spool(self.paths)
        return fitness.check(self.paths, self.handle.settings)

    def repair(self) -> list[str]:
        """Repair what workers do not, as far as that is safe while they work; return what was done, in words."""
        from bgjobs.spool.doctor.repair import Repair  # noqa: PLC0415 - rarely asked for

        return Repair(self.paths, self.handle.emit).run()

    def open_to_others(self) -> list[Finding]:
        """Return where other users could change what is stored. A worker refuses to work there."""
        if not self.is_there():
            return []
        from bgjobs.spool.doctor import fitness  # noqa: PLC0415 - rarely asked for

        return fitness.open_to_others(self.paths, self.handle.settings.shared_with)

    def join(self, info: WorkerInfo, selection: Selection) -> Session:
        """Begin the session of a worker. Raises SpoolError."""
        self._make()
        from bgjobs.spool import directories  # noqa: PLC0415 - only workers need filelock
        from bgjobs.spool.doctor import fitness  # noqa: PLC0415 - only workers need filelock
        from bgjobs.spool.inbox import group_access  # noqa: PLC0415 - only workers decide who may enter
        from bgjobs.spool.session import SpoolSession  # noqa: PLC0415 - only workers need filelock

        with self.handle.reported_errors():
            fitness.refuse_unfit(self.paths)
            _refuse(fitness.unsafe_directories(self.paths))  # before anything is made or opened there
            directories.restore(self.paths)
            group_access.apply(self.paths, self.handle.settings.shared_with)
            _refuse(fitness.open_to_others(self.paths, self.handle.settings.shared_with))
            self.refresh_keys()  # a worker that could not check a signature should not begin
            return SpoolSession(self.handle, self._submitter, self._control, info, selection)


def _refuse(findings: list[Finding]) -> None:
    for finding in findings:
        raise SpoolError(f"{finding.path} {finding.message}", code=finding.code)
