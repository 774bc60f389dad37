"""Submit new jobs: refuse them where there is no room, note which jobs they retry, publish them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs import disk
from bgjobs.config.settings import FEWEST_FILES
from bgjobs.errors import SpoolError
from bgjobs.spool.publish import Publisher
from bgjobs.spool.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgjobs.job import Job
    from bgjobs.spool.handle import SpoolHandle


class Submitter:
    """Submits jobs to one spool, which is set up."""

    def __init__(self, spool: SpoolHandle) -> None:
        self._spool = spool
        self._publisher: Publisher | None = None
        self._quota = Quota(spool.paths, spool.settings.max_queued)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Store new jobs; they are durable on return (see the `durability` setting). Raises SpoolError."""
        spool = self._spool
        try:
            self._check_room()
            self._quota.refuse_beyond(len(jobs))
            if self._publisher is None:
                self._publisher = Publisher(spool.paths, durable=spool.durable)
            keys = None if spool.keyring is None else spool.keyring.keys()
            if any(job.retry_of is not None for job in jobs):
                self._note_retries(jobs)
            if len(jobs) > 1:
                self._restore_directories()  # before the first group: what was published cannot be published again
            try:
                self._publisher.publish(jobs, keys)
            except FileNotFoundError:
                if len(jobs) > 1 or not self._restore_directories():
                    raise
                self._publisher.publish(jobs, keys)
        except OSError as error:
            raise spool.unusable(error) from error
        self._quota.add(len(jobs))

    def _note_retries(self, jobs: Sequence[Job]) -> None:
        """Note which jobs these retry, before they are there: afterwards a crash would have them retried once more."""
        from bgjobs.spool import directories, retries  # noqa: PLC0415 - most jobs retry no other

        directories.restore_locks(self._spool.paths)
        retries.note(self._spool.paths, jobs)

    def _restore_directories(self) -> bool:
        from bgjobs.spool import directories  # noqa: PLC0415 - a single job rarely needs it

        return directories.restore_for_submit(self._spool.paths)

    def _check_room(self) -> None:
        """Refuse new jobs while there is still room for what becomes of those that are there."""
        least = self._spool.settings.min_free
        if not least:
            return
        root = self._spool.paths.root
        room, files_left = disk.free_space(root)
        if room < least or (files_left is not None and files_left < FEWEST_FILES):
            left = f"{room} bytes are left" if room < least else f"{files_left} files are left"
            raise SpoolError(
                f"the disk of {root} is nearly full: {left}",
                hint="free some, prune ended jobs, or lower min_free",
                code="disk-full",
            )
