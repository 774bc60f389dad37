"""The transitions of a claimed job: write what became of it, then move its file to the directory of its new state.

The event comes first, then the move: a crash between the two leaves a claimed file whose last line says what is left
to do, and recovery only finishes the move. `Transitions.end` is the one function that moves a job to its end, whoever
asks for it: its worker, a recovering worker, a person who cancels it. The line of a success is mostly there already:
its runner has written it (`worker/child/main.py`).

An end is durable when its line is synced, which happens before the move where `finish_fsync` is set: then the worker
writes every end, that of a success too. By default it is as durable as the file system makes it within seconds: after
a power cut the job may run again.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs import disk, files
from bgjobs.errors import ClaimLostError
from bgjobs.ids import new_id
from bgjobs.job import milliseconds
from bgjobs.lifecycle import Again, Ended
from bgjobs.plain_text import sanitized
from bgjobs.spool import layout, record

if TYPE_CHECKING:
    from datetime import datetime

    from bgjobs.job import Job, Progress
    from bgjobs.lifecycle import Verdict
    from bgjobs.spool.layout import Layout
    from bgjobs.spool.record import Ending


NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}  # too many open files: that passes, and no result should be lost for it
PLAIN_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
SUFFIX = 12  # letters of an id without a lane that are chance: names must stay short
FEW = 8  # so many attempts cannot fill a file


class Transitions:
    """The transitions of jobs that the worker `wid` has claimed, or nobody has.

    With `sync`, what became of a job is on the disk before its file moves.
    """

    def __init__(self, paths: Layout, wid: str = "", *, sync: bool = False) -> None:
        """Change nothing yet."""
        self._paths = paths
        self._wid = wid
        self._sync = sync
        self._known: set[str] = set()
        self._written: set[str] = set()
        self._unsure: set[str] = set()

    def apply(self, path: str, job: Job, verdict: Verdict, at: datetime, *, progress: Progress | None = None) -> str:
        """Store what was decided, at this moment, about a claimed job, as it was when it was claimed.

        Return the new path of its file. Raises ClaimLostError when it is no longer ours, SyncFailedError, OSError.
        """
        at_ms, attempts = milliseconds(at), len(job.attempts) + 1
        if isinstance(verdict, Ended):
            return self.end(path, job.id, verdict, at_ms, progress=progress, attempts=attempts)
        self._write(path, job.id, verdict, at_ms, attempts=attempts)
        not_before = verdict.not_before if isinstance(verdict, Again) else job.not_before
        at_once = not isinstance(verdict, Again) or not_before <= at
        return self.to_pending(path, job.priority, milliseconds(not_before), job.id, at_once=at_once)

    def end(
        self,
        path: str,
        job_id: str,
        verdict: Ended,
        at_ms: int,
        *,
        progress: Progress | None = None,
        attempts: int = 0,
        written: bool = False,
        claimed: bool = True,
    ) -> str:
        """End the job whose file lies at this path: write its end, then move it to where those lie that ended so.

        `written` tells that its last line says so already. What nobody has claimed is moved first: that move decides
        between us and a worker; a failure after it (a full disk) does not undo it. Return the new path.
        Raises ClaimLostError when somebody else has moved it, SyncFailedError, OSError.
        """
        if claimed and not written:
            self._write(path, job_id, verdict, at_ms, progress=progress, attempts=attempts)
        target = self._to_ended(path, job_id, verdict, at_ms)
        if not claimed:
            with suppress(OSError):
                files.append(target, record.encoded(record.ending(verdict, at=at_ms, wid=self._wid)))
        return target

    def to_pending(self, path: str, priority: int, not_before_ms: int, job_id: str, *, at_once: bool) -> str:
        """Move a claimed job back to the queue, to start at this moment, or `at_once` whatever the clock says."""
        name = layout.bucket(not_before_ms, at_once=at_once)
        # A bucket of our own, because other workers do not list a bucket again while they know names in it: they would
        # find this job only after all of those, though it is older.
        directory = self._paths.bucket(priority, f"{name}.{self._wid[-SUFFIX:]}")
        target = os.path.join(directory, layout.pending_name(not_before_ms, job_id))
        while True:
            files.make_directory(directory)
            try:
                files.move(path, target)
            except FileNotFoundError:
                if not files.exists(path):
                    raise self._lost(path, job_id) from None
                continue  # another worker removed the drained bucket just now
            self._forget(path)
            return target

    def _write(
        self,
        path: str,
        job_id: str,
        verdict: Verdict,
        at_ms: int,
        *,
        progress: Progress | None = None,
        attempts: int,
    ) -> None:
        """Append the line that says what was decided; once, for the move after it may have to be tried again."""
        if path in self._written:
            return
        event = record.ending(verdict, at=at_ms, wid=self._wid, progress=progress)
        line = _fitting(path, event) if attempts > FEW else record.encoded(event)
        try:
            if path in self._unsure and self._ends_with(path, line):
                self._written.add(path)
                return
            files.append(path, line, sync=self._sync)
        except FileNotFoundError:
            raise self._lost(path, job_id) from None
        except OSError as error:
            self._unsure.add(path)
            # The disk is full or failing. The move alone still says what matters: a job that ended is not run again.
            if not isinstance(verdict, Ended) or error.errno in NO_DESCRIPTORS:
                raise
        else:
            self._written.add(path)

    def _ends_with(self, path: str, line: bytes) -> bool:
        """Tell whether the file ends with this line, after an attempt to write it that failed."""
        return files.read(path, record.MOST_BYTES).endswith((line, line[:-1]))

    def _to_ended(self, path: str, job_id: str, verdict: Ended, at_ms: int) -> str:
        directory = self._paths.ended_hour(verdict.state, layout.hour_at(at_ms))
        target = f"{directory}{os.sep}{job_id}.json"
        self._make(directory)
        try:
            if files.exists(target):
                # Somebody copied a job file: a job of this id has ended already.
                target = quarantine(self._paths, path, "duplicate: a job of this id has ended already")
            else:
                files.move(path, target)
        except FileNotFoundError:
            self._known.discard(directory)
            if files.exists(path):
                raise
            raise self._lost(path, job_id) from None
        self._forget(path)
        return target

    def _make(self, directory: str) -> None:
        if directory not in self._known:
            files.make_directory(directory)
            self._known.add(directory)

    def _lost(self, path: str, job_id: str) -> ClaimLostError:
        self._forget(path)
        return ClaimLostError(f"lost the claim on job {job_id}")

    def _forget(self, path: str) -> None:
        self._written.discard(path)
        self._unsure.discard(path)


def _fitting(path: str, event: Ending) -> bytes:
    """Return the line for an event, without its traceback if the file would come near the length that is still read."""
    line = record.encoded(event)
    if isinstance(event, record.Back) or event.error is None:
        return line
    if disk.stat(path).st_size + len(line) <= record.BRIEF_BYTES:
        return line
    return record.encoded(replace(event, error=replace(event.error, traceback="")))


def quarantine(paths: Layout, path: str, reason: str) -> str:
    """Move what is not a valid job file to `corrupt/`, untouched, and put the reason beside it."""
    base = _plain(os.path.basename(path))
    target = os.path.join(paths.corrupt, base)
    if files.exists(target) or files.exists(f"{target}.reason"):
        target = f"{target}.{new_id()}"
    files.move(path, target)
    # The reason may quote the file or its name, and people read it in a terminal.
    files.create(f"{target}.reason", f"{sanitized(reason)}\n".encode(), sync=False)
    return target


def _plain(name: str) -> str:
    """Return a name that every system can have, and that shows what the strange one was."""
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").lower()
    safe = "".join(letter if letter in PLAIN_LETTERS else "_" for letter in shown)[:60]
    is_plain = safe == shown and safe[0].isdigit() and safe[-1].isalnum() and not safe.endswith(".reason")
    return safe if is_plain else f"strange-{safe}-x"
