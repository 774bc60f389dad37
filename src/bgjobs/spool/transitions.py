"""The moves of a claimed job: write down what became of it, then move its file there. Shared by worker and recovery.

The event comes first, then the move: a crash between the two leaves a claimed file whose last line says what is left
to do, and whoever recovers it only finishes the move.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from bgjobs import disk, files
from bgjobs.errors import ClaimLostError
from bgjobs.events import sanitized
from bgjobs.ids import new_id
from bgjobs.job import ENDED, State, milliseconds
from bgjobs.spool import layout, record

if TYPE_CHECKING:
    from bgjobs.job import Job
    from bgjobs.spool.layout import Layout


NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}  # that passes, and the result should not be lost for it
PLAIN_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
SUFFIX = 12  # letters of an id without a lane that are chance: names must stay short
FEW = 8  # so many attempts cannot fill a file

Ending = record.Try | record.Lost | record.Back | record.End


class Mover:
    """Moves the claimed jobs of one worker `wid`; with `sync`, what became of them is on the disk before they move."""

    def __init__(self, paths: Layout, wid: str, *, sync: bool) -> None:
        """Remember whose claims these are."""
        self._paths = paths
        self._wid = wid
        self._sync = sync
        self._known: set[str] = set()
        self._told: set[str] = set()
        self._unsure: set[str] = set()

    def finish(self, path: str, before: Job, job: Job) -> str:
        """Store what became of a claimed job: `before` as it was claimed, `job` as it is now. Return its new path."""
        event = ending_of(before, job, self._wid)
        # Written once: what cannot be moved is tried again and again, and the file must not grow by that.
        if path not in self._told:
            self._tell(path, event, job)
        try:
            if isinstance(event, record.End):
                target = self.to_ended(path, job.id, event.state, event.at)
            else:
                ms, at_once = milliseconds(job.not_before), job.state is State.QUEUED
                target = self.to_pending(path, job.priority, ms, job.id, at_once=at_once)
        except ClaimLostError:
            self._forget(path)
            raise
        self._forget(path)
        return target

    def _forget(self, path: str) -> None:
        self._told.discard(path)
        self._unsure.discard(path)

    def _tell(self, path: str, event: Ending, job: Job) -> None:
        line = _fitting(path, event) if len(job.attempts) > FEW else record.encoded(event)
        try:
            if path in self._unsure and self._says(path, line):
                self._told.add(path)
                return
            files.append(path, line, sync=self._sync)
        except FileNotFoundError:
            raise ClaimLostError(f"job {job.id} is no longer ours") from None
        except OSError as error:
            self._unsure.add(path)
            # The disk is full or failing. The move alone still says what matters: a job that ended is not run again.
            if not isinstance(event, record.End) or error.errno in NO_DESCRIPTORS:
                raise
        else:
            self._told.add(path)

    def _says(self, path: str, line: bytes) -> bool:
        """Tell whether the file ends with this line, of which we only know that writing it failed somewhere."""
        return files.read(path, record.MOST_BYTES).endswith((line, line[:-1]))

    def to_ended(self, path: str, job_id: str, state: State, at_ms: int) -> str:
        """Move a claimed job to where the jobs lie that ended so, at that moment."""
        directory = self._paths.ended_hour(state, layout.hour_at(at_ms))
        target = f"{directory}{os.sep}{job_id}.json"
        self._make(directory)
        try:
            if files.exists(target):
                # Somebody copied a job file: this one ended already, under the same id.
                return quarantine(self._paths, path, "duplicate: a job of this id has ended already")
            files.move(path, target)
        except FileNotFoundError:
            self._known.discard(directory)
            if files.exists(path):
                raise
            raise ClaimLostError(f"job {job_id} is no longer ours") from None
        return target

    def to_pending(self, path: str, priority: int, not_before_ms: int, job_id: str, *, at_once: bool) -> str:
        """Move a claimed job back to the queue, to start at this moment, or `at_once` whatever the clock says."""
        name = layout.bucket(not_before_ms, at_once=at_once)
        # A bucket of our own, because the others' cursors do not look again at a bucket of which they still know
        # names: they would meet this job only after all of those, though it is older.
        directory = self._paths.bucket(priority, f"{name}.{self._wid[-SUFFIX:]}")
        target = os.path.join(directory, layout.pending_name(not_before_ms, job_id))
        while True:
            files.make_directory(directory)
            try:
                files.move(path, target)
            except FileNotFoundError:
                if not files.exists(path):
                    raise ClaimLostError(f"job {job_id} is no longer ours") from None
                continue  # another worker removed the drained bucket just now
            return target

    def _make(self, directory: str) -> None:
        if directory not in self._known:
            files.make_directory(directory)
            self._known.add(directory)


def ending_of(before: Job, job: Job, wid: str) -> Ending:
    """Return the event that turns one into the other."""
    last = job.attempts[-1] if job.attempts else None
    at = job.finished_at or (last.finished_at if last else None)
    assert at is not None  # noqa: S101 - lifecycle sets one of the two in every ending
    ms = milliseconds(at)
    if job.state not in ENDED and last is not None and last.outcome == "interrupted":
        return record.Back(at=ms, wid=wid)
    lost = job.crashes > before.crashes
    outcome = last.outcome if last else ""
    exit_status = last.exit if last else None
    error = record.cut_error(job.error)
    if job.state in ENDED:
        return record.End(
            at=ms,
            wid=wid,
            state=job.state,
            outcome=outcome,
            error=error,
            exit=exit_status,
            progress=job.progress,
            result=UNSET if job.result_json is None else job.result_json,
            note=job.note,
            lost=lost,
        )
    kind = record.Lost if lost else record.Try
    return kind(at=ms, wid=wid, outcome=outcome, error=error, exit=exit_status, not_before=milliseconds(job.not_before))


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
    # The reason may quote what is in the file, or its name, and is made to be looked at in a terminal.
    files.create(f"{target}.reason", f"{sanitized(reason)}\n".encode(), sync=False)
    return target


def _plain(name: str) -> str:
    """Return a name that every system can have, and that shows what the strange one was."""
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").lower()
    safe = "".join(letter if letter in PLAIN_LETTERS else "_" for letter in shown)[:60]
    is_plain = safe == shown and safe[0].isdigit() and safe[-1].isalnum() and not safe.endswith(".reason")
    return safe if is_plain else f"strange-{safe}-x"
