"""Put new jobs into `pending/`, durable when that returns (docs/internals/spool.md: the steps, and crashes)."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import clock, disk, files, signing, system
from bgjobs.ids import new_id
from bgjobs.job import milliseconds
from bgjobs.spool import layout, record, safe_remove
from bgjobs.spool.transitions import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgjobs.job import Job
    from bgjobs.signing import Keys
    from bgjobs.spool.layout import Layout

MOST_IN_GROUP = 4096


class Publisher:
    """Publishes jobs in one spool. `durable` means that they survive a power cut once `publish` has returned."""

    def __init__(self, paths: Layout, *, durable: bool) -> None:
        """Find out which order of syncs this file system needs."""
        self._paths = paths
        self._durable = durable
        self._one_sync = durable and system.one_fsync_is_safe(paths.root)
        self._known: set[str] = set()
        self._keys: Keys | None = None

    def publish(self, jobs: Sequence[Job], keys: Keys | None = None) -> None:
        """Publish the jobs, signed if there are keys: all, or none if a step fails (see `_publish_groups`).

        Raises OSError, or UsageError before anything is written, if one of them could not be read again.
        """
        self._keys = keys
        if len(jobs) == 1:
            self._publish_one(jobs[0].priority, _bucket(jobs[0]), jobs[0], self._line_1(jobs[0]))
        else:
            self._publish_groups([(job, self._line_1(job)) for job in jobs])

    def _ring(self) -> None:
        """Tell the workers. A job can run as soon as it is visible: they need not wait until it is synced as well."""
        disk.ring(self._paths.doorbell)

    def _publish_groups(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        """Write all groups beside the queue before the first becomes visible.

        A full disk shows while they are written, and then none is queued: of a batch of several priorities or minutes,
        no job may run of a submission that has failed, because the caller will submit it again.
        """
        members: dict[tuple[int, str], list[tuple[Job, bytes]]] = defaultdict(list)
        for job, line in jobs:
            members[job.priority, _bucket(job)].append((job, line))
        groups = [
            (priority, bucket, some[start : start + MOST_IN_GROUP])
            for (priority, bucket), some in members.items()
            for start in range(0, len(some), MOST_IN_GROUP)
        ]
        moves: list[tuple[str, str]] = []
        try:
            for priority, bucket, group in groups:
                suffix = new_id()[-SUFFIX:]
                fresh = os.path.join(self._paths.tmp, suffix)
                moves.append((fresh, self._paths.bucket(priority, f"{bucket}.{suffix}")))
                self._fill(fresh, group)
            if self._durable:
                _sync_content([fresh for fresh, _ in moves], self._paths.tmp)
            for fresh, target in moves:
                files.move(fresh, target)
            self._ring()
            if self._durable:
                for directory in sorted({os.path.dirname(target) for _, target in moves}):
                    files.sync_directory(directory)
        except OSError:
            for fresh, target in moves:
                _withdraw(fresh, target)
            raise

    def _line_1(self, job: Job) -> bytes:
        line = record.line_1(job)
        return line if self._keys is None else self._keys.sign(signing.JOB, line[:-1]) + b"\n"

    def _publish_one(self, priority: int, bucket: str, job: Job, data: bytes) -> None:
        name = layout.pending_name(milliseconds(job.not_before), job.id)
        directory = self._paths.bucket(priority, bucket)
        # Not os.path.join, which would take as long as much of the rest.
        fresh, target = f"{self._paths.tmp}{os.sep}{name}", f"{directory}{os.sep}{name}"
        while True:
            self._make_bucket(priority, directory)
            try:
                self._write(fresh, data, target, directory)
            except FileNotFoundError:
                # A worker removed the drained bucket between our look and our move: make it again.
                if not files.exists(self._paths.tmp):
                    raise
                self._known.discard(directory)
            else:
                return

    def _write(self, fresh: str, data: bytes, target: str, directory: str) -> None:
        if self._one_sync:
            files.create_and_publish(fresh, data, target, moved=self._ring)
            return
        files.create(fresh, data, sync=self._durable)
        path = fresh
        try:
            files.move(fresh, target)
            path = target
            self._ring()
            if self._durable:
                files.sync_directory(directory)
                self._sync_name(directory)
        except OSError:
            files.discard(path)  # as in `files.create_and_publish`, it may be claimed already
            raise

    def _sync_name(self, directory: str) -> None:
        """Make the name of a bucket durable once more if a worker may have removed it since we did.

        Another process may have made it again and not synced it yet.
        """
        start_ms = layout.bucket_start_ms(os.path.basename(directory))
        if start_ms is None or start_ms + layout.DRAINED_AFTER_MS <= clock.now_ms():
            files.sync_directory(os.path.dirname(directory))

    def _make_bucket(self, priority: int, directory: str) -> None:
        if directory in self._known:
            return
        is_new = not files.exists(directory)
        files.make_directory(directory)
        # Another process may have made it a moment ago and not have synced its name yet. Where one sync is safe, the
        # journal keeps that order for us.
        if self._durable and (is_new or not self._one_sync):
            files.sync_directory(self._paths.priority(priority))
        self._known.add(directory)

    def _fill(self, directory: str, group: Sequence[tuple[Job, bytes]]) -> None:
        files.make_directory(directory)
        for job, line in group:
            name = layout.pending_name(milliseconds(job.not_before), job.id)
            files.create(f"{directory}{os.sep}{name}", line, sync=False)


def _sync_content(directories: Sequence[str], above: str) -> None:
    """Make these directories and all in them durable, with one call where the kernel has a trustworthy one."""
    if disk.sync_filesystem(above):
        return
    for directory in directories:
        for name in files.names(directory):
            files.sync(os.path.join(directory, name))
        files.sync_directory(directory)


def _bucket(job: Job) -> str:
    return layout.bucket(milliseconds(job.not_before), at_once=job.not_before <= job.submitted_at)


def _withdraw(fresh: str, target: str) -> None:
    """Take a group out of sight, if it is there already, and remove it; its jobs may be claimed by now."""
    with suppress(OSError):
        files.move(target, fresh)
    with suppress(OSError):  # what failed is worse than what is left of it, which is swept
        for _ in safe_remove.remove_tree(fresh):
            pass
