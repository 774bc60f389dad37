"""Record which jobs were retried: a line `OLD NEW` for each retry, in a file that is sometimes rewritten.

The line is written before the new job is published. The job may never have come, or may be deleted by now, so a reader
checks that it is there. A lost line costs one more retry by condition, and no job.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import closing
from typing import TYPE_CHECKING

from bgjobs import disk, files
from bgjobs.ids import ID, ID_PATTERN, new_id
from bgjobs.spool import layout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from bgjobs.job import Job
    from bgjobs.spool.layout import Layout

PATIENCE_S = 2.0
UNUSABLE = files.LINKS | files.UNREADABLE | {errno.EISDIR}
LEAST_BYTES = 64 * 1024  # a smaller file is not worth being rewritten
LINE = re.compile(rf"^({ID_PATTERN}) ({ID_PATTERN})$", re.ASCII | re.MULTILINE)
KEPT = re.compile(rb"kept ([0-9]{1,15})\n")  # the first line of a rewritten file: how many bytes were left of it
ID_LENGTH = 26


class Retries:
    """Knows who retries whom in one spool; of what was read before, only what is new is read again."""

    def __init__(self, paths: Layout) -> None:
        """Read nothing yet."""
        self._path = paths.retried
        self._inode = self._size = 0
        self._noted: dict[str, list[str]] = {}

    def of(self, job_ids: Collection[str]) -> dict[str, list[str]]:
        """Return which of these jobs were retried, each with the ids of all retries that were noted."""
        try:
            inode, start, data = files.read_on(self._path, self._inode, self._size)
        except (OSError, files.StrangeFileError):
            return {}  # there is none, or it cannot be read: then no retry can be noted either, which is reported
        if start == 0:
            self._noted = {}
        whole = _whole_lines(data)
        for old, new in _pairs(whole):
            self._noted.setdefault(old, []).append(new)
        self._inode, self._size = inode, start + len(whole)
        return {job_id: self._noted[job_id] for job_id in job_ids if job_id in self._noted}


def note(paths: Layout, jobs: Sequence[Job]) -> None:
    """Note of jobs that are about to be published which ones they retry. Raises OSError."""
    lines = "".join(f"{job.retry_of} {job.id}\n" for job in jobs if job.retry_of is not None and _are_ids(job))
    if not lines:
        return
    from bgjobs.locks import ClaimLock  # noqa: PLC0415 - filelock is slow to import

    # If the lock is not free in time, go on without it: its holder may have been stopped while rewriting the file. At
    # worst a line is lost.
    with closing(ClaimLock(paths.retried_lock)) as lock, lock.held(PATIENCE_S):
        files.append(paths.retried, lines.encode(), make=True)


def shorten(paths: Layout) -> Iterator[None]:
    """Rewrite the file without the jobs that are gone, in short steps, if it has doubled since that was last done."""
    try:
        if disk.stat(paths.retried).st_size < LEAST_BYTES:
            return
        inode, _, data = files.read_on(paths.retried, 0, 0)
    except (FileNotFoundError, files.StrangeFileError):
        return
    except OSError as error:
        if error.errno in UNUSABLE:
            return  # the next retry reports it
        raise
    whole = _whole_lines(data)
    before = KEPT.match(whole)
    if before is not None and len(whole) < 2 * int(before[1]):
        return
    pairs = _pairs(whole)
    wanted, there = {old for old, _ in pairs}, set()
    for state in layout.ENDED_DIRECTORIES:
        for hour in files.names(paths.ended(state)):
            for name in files.each_name(paths.ended_hour(state, hour)):
                if name[:ID_LENGTH] in wanted:
                    there.add(name[:ID_LENGTH])
                yield
    kept = "".join(f"{old} {new}\n" for old, new in pairs if old in there).encode()
    _rewrite(paths, inode, len(whole), kept)


def _rewrite(paths: Layout, inode: int, size: int, kept: bytes) -> None:
    """Put these lines in the place of the first bytes of the file, if it is still the same."""
    from bgjobs.locks import ClaimLock  # noqa: PLC0415 - filelock is slow to import

    fresh = f"{paths.tmp}{os.sep}retried.{new_id()}"
    with closing(ClaimLock(paths.retried_lock)) as lock, lock.held(PATIENCE_S) as is_ours:
        try:
            found, start, added = files.read_on(paths.retried, inode, size)
            if not is_ours or found != inode or start != size:
                return  # another process is rewriting it, or has
            files.create(fresh, b"kept %d\n" % len(kept) + kept + added, sync=True)
            files.replace(fresh, paths.retried)
        except (OSError, files.StrangeFileError):
            files.discard(fresh)  # the next process does it


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _pairs(lines: bytes) -> list[tuple[str, str]]:
    """Return what the lines say. One that was torn by a crash, or is of any other kind, says nothing."""
    return LINE.findall(lines.decode("ascii", "replace"))


def _are_ids(job: Job) -> bool:
    return ID.fullmatch(job.id) is not None and ID.fullmatch(job.retry_of or "") is not None
