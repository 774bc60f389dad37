"""Import the files that other programs put into `incoming/`: each becomes exactly one job, also after a crash.

The rename that takes a file out of `incoming/` also gives it the id of its job. So a second import, after a crash or an
error, makes the same job, and can see whether the first one did. The steps: docs/internals/spool.md.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from bgjobs import clock, files
from bgjobs.errors import SpoolError
from bgjobs.events import Corrupt, LeftAlone, Submitted
from bgjobs.ids import new_id
from bgjobs.job import MILLISECOND, milliseconds
from bgjobs.spool import find, layout, transitions
from bgjobs.spool.inbox import request_file
from bgjobs.spool.inbox.accounts import Accounts
from bgjobs.spool.inbox.arrivals import Arrivals, DeferredError, SharedArrivals
from bgjobs.spool.line1 import CorruptError
from bgjobs.throttle import Once

if TYPE_CHECKING:
    from collections.abc import Collection

    from bgjobs.job import Job
    from bgjobs.spool.handle import SpoolHandle
    from bgjobs.spool.inbox.request_file import PolicyOf, SignedIds
    from bgjobs.spool.submit import Submitter

MOST_AT_ONCE = 256
MOST_TO_RETRY = 64  # if so many files cannot be imported, the reason is not in each of them: take no more
AGAIN_S = 1.0
MOST_MOVES = 10


class Taken(Struct, frozen=True):
    """A file that this worker imports, and its name in `incoming/`, if this worker took it.

    After an import was `begun`, its job may be stored. If the job is known to be `stored`, only the file is removed.
    """

    name: str = ""
    begun: bool = False
    stored: bool = False


class Importer:
    """Imports files for the worker `me`. A file that fails raises nothing: it is tried again later."""

    def __init__(self, spool: SpoolHandle, submitter: Submitter, me: str) -> None:
        """Make `incoming/` in a spool of an older bgjobs, which has none."""
        self._spool = spool
        self._submitter = submitter
        self._paths = spool.paths
        self._me = me
        self._arrivals = self._arrivals_of(spool)
        self._to_retry: dict[str, Taken] = {}
        self._retry_at = self._take_at = 0.0
        self._reported = Once()
        if not files.exists(self._paths.incoming):
            files.make_directory(self._paths.incoming)
            self._sync(self._paths.root)

    def _arrivals_of(self, spool: SpoolHandle) -> Arrivals | SharedArrivals:
        settings = spool.settings
        if not settings.shared_with:
            return Arrivals(self._paths.incoming)
        accounts = Accounts(self._paths, settings.max_queued_per_user, settings.max_bytes_per_user)
        shared = SharedArrivals(self._paths, accounts, spool.emit)
        spool.has_importable = shared.has_importable
        return shared

    def run(self, policy_of: PolicyOf) -> int:
        """Take some files and publish their jobs; return how many."""
        batch = self._retries_due() | self._take()
        if not batch or not self._sync_taken(batch):
            return 0
        first: list[Job] = []
        again: list[Job] = []
        for job_id in self._not_stored(batch):
            job = self._read(job_id, batch[job_id], policy_of)
            if job is not None:
                (again if batch[job_id].begun else first).append(job)
        # Those that failed before are published one by one: one of them may be the reason for all.
        groups = [first, *([job] for job in again)]
        return sum(self._publish(group, batch) for group in groups if group)

    def take_over(self, path: str, job_id: str) -> None:
        """Continue the import of a file that a dead worker had begun. Raises OSError."""
        files.move(path, self._paths.imported(self._me, job_id))
        self._to_retry[job_id] = Taken(begun=True)

    def close(self) -> None:
        """Put files that could not be imported back into `incoming/`, named after the ids that they were given."""
        self._arrivals.close()
        try:
            names = files.names(self._paths.claims_of(self._me))
            left = {job_id: Taken(begun=True) for job_id in map(layout.parse_imported, names) if job_id}
            for job_id in self._not_stored(left):
                self._put_back(job_id)
        except OSError:
            return  # they stay in our directory, and the worker that recovers it imports them

    # Taking

    def _retries_due(self) -> dict[str, Taken]:
        """Return the files that are due for another try; offer again those in `incoming/` that could not be taken."""
        if time.monotonic() < self._retry_at:
            return {}
        self._arrivals.retry_deferred()
        due, self._to_retry = self._to_retry, {}
        return due

    def _take(self) -> dict[str, Taken]:
        """Take files by renaming them. The rename decides which worker gets a file, and the id of its job."""
        taken: dict[str, Taken] = {}
        if len(self._to_retry) >= MOST_TO_RETRY or time.monotonic() < self._take_at:
            return taken
        try:
            names = self._arrivals.next(MOST_AT_ONCE)
        except OSError as error:
            self._pause_taking("incoming/", error)
            return taken
        for name in names:
            try:
                job_id = self._id_for(name, taken)
                files.move(os.path.join(self._paths.incoming, name), self._paths.imported(self._me, job_id))
            except FileNotFoundError:
                continue  # another worker was faster, or its program took it back
            except OSError as error:
                self._arrivals.defer(name)
                self._retry_at = time.monotonic() + AGAIN_S
                self._report_once(name, error)
            else:
                self._reported.forget(name)
                taken[job_id] = Taken(name)
        return taken

    def _id_for(self, name: str, taken: Collection[str]) -> str:
        """Return the id of the job that a file becomes. Raises OSError.

        The lane in it is that of the class and method that the file names. Where jobs are signed all of the id follows
        from what the file holds, so that a copy becomes the same job and is known by that. What is no job, or not
        signed well, gets any id. The file may change before it is taken, so all is checked again afterwards.
        """
        try:
            data = self._arrivals.peek(os.path.join(self._paths.incoming, name))
            signed = self._signed_ids(data)
        except (files.StrangeFileError, CorruptError):
            return new_id()
        except OSError as error:
            if self._spool.keyring is not None or isinstance(error, FileNotFoundError):
                raise
            return new_id()  # the reason is reported after it was taken
        if signed is None:
            return new_id(lane=request_file.lane_in(data))
        return new_id() if signed.job_id in taken or signed.job_id in self._to_retry else signed.job_id

    def _signed_ids(self, data: bytes) -> SignedIds | None:
        """Return the ids that follow from a file where jobs are signed, else None. Raises CorruptError."""
        keyring, configured = self._spool.keyring, self._spool.settings
        if keyring is None:
            return None
        kept_ms = min(configured.keep_done, configured.keep_failed) // MILLISECOND
        return request_file.signed_ids(data, keyring, now_ms=clock.now_ms(), kept_ms=kept_ms)

    def _sync_taken(self, batch: dict[str, Taken]) -> bool:
        """Sync the renames, so that no power cut puts a file back into `incoming/` while its job exists."""
        try:
            self._sync(self._paths.claims_of(self._me), self._paths.claimed, self._paths.incoming)
        except OSError as error:
            # After a failed sync a second one could succeed without effect: put the files back, and rename them anew.
            self._pause_taking("incoming/", error)
            for job_id, taken in batch.items():
                if taken.begun or not self._put_back(job_id):
                    self._retry_later(job_id, taken)
            return False
        return True

    def _pause_taking(self, name: str, error: OSError) -> None:
        """Take no files for a while."""
        self._take_at = time.monotonic() + AGAIN_S
        self._report_once(name, error)

    def _put_back(self, job_id: str) -> bool:
        try:
            files.move(self._paths.imported(self._me, job_id), os.path.join(self._paths.incoming, f"{job_id}.json"))
        except FileNotFoundError:
            return True  # another worker has it, or it was removed
        except OSError:
            return False
        return True

    # Importing

    def _not_stored(self, batch: dict[str, Taken]) -> list[str]:
        """Finish those whose job is stored already, by us or by a worker that has died; return the others."""
        begun = [job_id for job_id, taken in batch.items() if taken.begun and not taken.stored]
        try:
            absent = find.missing(self._paths, begun, clock.now_ms())
        except OSError as error:
            for job_id in begun:
                self._retry_later(job_id, batch[job_id], error)
            absent = set()
        others = sorted(job_id for job_id, taken in batch.items() if job_id in absent or not taken.begun)
        for job_id in batch.keys() - self._to_retry.keys() - set(others):
            self._finish(job_id, batch[job_id])
        return others

    def _read(self, job_id: str, taken: Taken, policy_of: PolicyOf) -> Job | None:
        path = self._paths.imported(self._me, job_id)
        try:
            try:
                data, from_user = self._arrivals.read(path, job_id, taken.name or f"{job_id}.json")
                self._refuse_copy(self._signed_ids(data), job_id)
                return request_file.job_of(data, job_id, policy_of, from_user=from_user)
            except DeferredError:
                if not self._put_back(job_id):
                    self._retry_later(job_id, taken)
            except (files.StrangeFileError, CorruptError) as error:
                name = f"incoming/{taken.name}" if taken.name else os.path.basename(path)
                transitions.quarantine(self._paths, path, f"{name}: {error}")
                self._spool.emit(Corrupt(name, str(error), clock.now()))
        except FileNotFoundError:
            pass  # somebody has removed it
        except OSError as error:
            self._retry_later(job_id, taken, error)
        return None

    def _refuse_copy(self, signed: SignedIds | None, job_id: str) -> None:
        """Where jobs are signed, refuse a file that is a job already, or of which another copy is being imported."""
        if signed is None:
            return
        if job_id not in signed:  # an older bgjobs that died may have taken it, and left it under its id
            raise CorruptError("replayed: a copy of a file that is being imported, or it changed meanwhile")
        if any(find.elsewhere(self._paths, each, clock.now_ms()) for each in signed):
            raise CorruptError("replayed: its job is being run, or has ended")

    def _publish(self, jobs: list[Job], batch: dict[str, Taken]) -> int:
        """Publish the jobs as any submission, and remove their files last; return how many."""
        try:
            for job in jobs:
                if batch[job.id].begun:
                    # The first try may have left its half of a file there, and the name follows from the id.
                    files.remove(self._paths.fresh(milliseconds(job.not_before), job.id))
            self._submitter.submit(jobs)
        except (OSError, SpoolError) as error:
            for job in jobs:
                # Of several, another one may have failed: each is reported when it fails alone.
                self._retry_later(job.id, Taken(batch[job.id].name, begun=True), error if len(jobs) == 1 else None)
            return 0
        for job in jobs:
            self._spool.emit(Submitted(job, job.submitted_at))
            self._remove(job.id)
        return len(jobs)

    def _finish(self, job_id: str, taken: Taken) -> None:
        """Remove a file whose job is stored, after that is durable."""
        try:
            self._make_durable(job_id)
        except OSError as error:
            self._retry_later(job_id, Taken(taken.name, begun=True, stored=True), error)
        else:
            self._remove(job_id)

    def _make_durable(self, job_id: str) -> None:
        """Sync a job whose importer may have died, or failed, before the sync. Raises OSError."""
        for room in reversed(range(MOST_MOVES if self._spool.durable else 0)):
            location = find.locate(self._paths, job_id, clock.now_ms())
            if location is None:
                return  # it was there, and has been pruned since
            directory = os.path.dirname(location.path)
            try:
                files.sync(location.path)
                self._sync(directory, os.path.dirname(directory))
            except FileNotFoundError:
                if not room:
                    raise
                continue  # it moved meanwhile
            return

    def _remove(self, job_id: str) -> None:
        try:
            files.remove(self._paths.imported(self._me, job_id))
        except OSError as error:
            self._retry_later(job_id, Taken(begun=True, stored=True), error)

    def _retry_later(self, job_id: str, taken: Taken, error: Exception | None = None) -> None:
        """Try to import this file again later."""
        self._to_retry[job_id] = taken
        self._retry_at = time.monotonic() + AGAIN_S
        if error is not None:
            self._report_once(taken.name or f"in.{job_id}.json", error)

    def _report_once(self, name: str, error: Exception) -> None:
        if self._reported.first(name):
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            self._spool.emit(LeftAlone(name, f"cannot be imported: {reason}", clock.now()))

    def _sync(self, *directories: str) -> None:
        for directory in directories if self._spool.durable else ():
            files.sync_directory(directory)
