"""The directories of workers: `workers/W`, with its lock, its status and requests to it, and `claimed/W`."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bgjobs import disk, files, locks, system
from bgjobs.errors import SessionLostError, SpoolError
from bgjobs.ids import ID, new_id
from bgjobs.job import EPOCH, LATEST_MS, moment
from bgjobs.spool import layout
from bgjobs.store import WorkerInfo, WorkerView

if TYPE_CHECKING:
    from bgjobs.job import Progress
    from bgjobs.spool.layout import Layout


PAUSES_S = (0.01, 0.05, 0.2, 0.5, 0.0)  # between attempts to remove a directory; later another worker removes it
COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


class About(Struct, frozen=True):
    """What a worker writes about itself when it starts."""

    worker: WorkerInfo
    birth: str | None = None


class WorkerDir:
    """The directories of this worker, `wid`. It holds the `alive.lock` in them until it leaves."""

    def __init__(self, paths: Layout, wid: str) -> None:
        """Remember which spool this is; nothing is made yet."""
        self._paths = paths
        self._wid = wid
        self._version = disk.stat(paths.version).st_ino
        self._dropped = 0
        self._stale = False
        self._progressing: set[str] = set()

    def make(self, info: WorkerInfo) -> None:
        """Make the directory, take the lock, then make `ready`: in this order nobody takes us for a dead worker."""
        files.make_directory(self._paths.worker(self._wid))
        self._lock = locks.hold_for_life(self._path("alive.lock"))
        self._lock_inode = disk.stat(self._path("alive.lock")).st_ino
        about = {"boot": system.boot_id(), "birth": system.birth(info.pid), "worker": msgspec.to_builtins(info)}
        files.create(self._path("info"), msgspec.json.encode(about), sync=False)
        files.make_directory(self._paths.claims_of(self._wid))
        files.create(self._path("ready"), b"", sync=False)

    def check(self) -> None:
        """Check that spool and lock are the files that we opened. Raises SessionLostError."""
        for path, inode in (self._paths.version, self._version), (self._path("alive.lock"), self._lock_inode):
            try:
                same = disk.stat(path).st_ino == inode
            except (FileNotFoundError, NotADirectoryError):
                same = False
            if not same:
                raise SessionLostError(f"{path} is gone or was replaced", hint="was the spool moved or unmounted?")

    def restore(self) -> None:
        """Make the directory of our claims again if it was removed, as empty ones are by some tools."""
        if not files.exists(self._paths.claims_of(self._wid)):
            files.make_directory(self._paths.claims_of(self._wid))

    def release(self) -> None:
        """Release the lock, as the kernel does when a process ends."""
        self._lock.release()

    def leave(self, *, empty: bool) -> None:
        """Remove the directories if they are `empty`, and release the lock. Another worker recovers what is left."""
        empty = empty and clear(self._paths, self._wid)
        self.release()
        if empty:
            remove(self._paths, self._wid)

    def _path(self, name: str) -> str:
        return self._paths.worker(self._wid, name)

    # Status for others to read

    def write_progress(self, job_id: str, progress: Progress) -> None:
        """Write how far a job has come."""
        self._progressing.add(job_id)
        with suppress(OSError):  # a full disk
            files.replace_content(self._path(f"progress-{job_id}"), msgspec.json.encode(progress))

    def remove_progress(self, job_id: str) -> None:
        """Remove the progress of a job, if any was written."""
        if job_id in self._progressing:
            self._progressing.discard(job_id)
            files.discard(self._path(f"progress-{job_id}"))

    def write_dropped(self, count: int) -> None:
        """Write how many lines the logs had no room for."""
        if count != self._dropped:
            with suppress(OSError):  # perhaps the same full disk: the next round tries again
                files.replace_content(self._path("dropped"), f"{count}\n".encode())
                self._dropped = count

    def write_stale(self, stale: bool) -> None:  # noqa: FBT001 - the one value to write
        """Note whether this worker runs code that was changed on the disk since."""
        if stale != self._stale:
            with suppress(OSError):  # a full disk: the next round tries again
                if stale:
                    files.replace_content(self._path("stale"), b"")
                else:
                    files.discard(self._path("stale"))
                self._stale = stale

    # Requests of others

    def cancel_requests(self) -> set[str]:
        """Return the ids of the jobs that somebody asked us to cancel."""
        names = [name.partition("-") for name in files.names(self._paths.worker(self._wid))]
        return {job_id for kind, _, job_id in names if kind == "cancel" and ID.fullmatch(job_id)}

    def not_held(self, cancel_requests: set[str]) -> set[str]:
        """Return those of these jobs that this worker does not hold: the request came when the job was just leaving."""
        if not cancel_requests:
            return cancel_requests
        claimed = [layout.parse_claimed(name) for name in files.names(self._paths.claims_of(self._wid))]
        return cancel_requests - {parts[2] for parts in claimed if parts}

    def canceller(self, job_id: str) -> str | None:
        """Return who asked us to cancel the job, or None."""
        return files.read_note(self._path(f"cancel-{job_id}"))

    def remove_cancel_request(self, job_id: str) -> None:
        """Remove a request to cancel that was carried out. Raises OSError."""
        files.remove(self._path(f"cancel-{job_id}"))

    def discard_cancel_request(self, job_id: str) -> None:
        """Remove a request to cancel a job that has ended, if possible."""
        files.discard(self._path(f"cancel-{job_id}"))

    def stop_requests(self) -> int:
        """Return how many requests to stop have come, and remove them: each counts once."""
        requests = [name for name in files.names(self._paths.worker(self._wid)) if name.startswith("stop-")]
        for name in requests:
            files.remove(self._path(name))
        return len(requests)


def ask_to_stop(paths: Layout, wid: str) -> bool:
    """Write a request to stop into a worker's directory; return False when there is no such worker.

    Each request is a file of its own, because the second one means more than the first. On Windows there is no other
    way to reach a worker without a console.
    """
    if not ID.fullmatch(wid) or not locks.is_held(paths.worker(wid, "alive.lock")):
        return False
    try:
        files.create(paths.worker(wid, f"stop-{new_id()}"), b"", sync=False)
    except FileNotFoundError:
        return False  # it has just left
    disk.ring(paths.doorbell)
    return True


def clear(paths: Layout, wid: str) -> bool:
    """Remove all of a worker's files except its lock; return False, and remove nothing, if it has claims left."""
    if not files.remove_directory(paths.claims_of(wid)):
        return False
    for name in files.names(paths.worker(wid)):
        if name not in {"alive.lock", "ready"}:
            files.remove(paths.worker(wid, name))
    # Last: a directory without it may be that of a worker that is just starting, and is left alone for ten minutes.
    files.remove(paths.worker(wid, "ready"))
    return True


def remove(paths: Layout, wid: str) -> None:
    """Remove a worker's directory, whose lock is free by now."""
    directory = paths.worker(wid)
    for pause in PAUSES_S:
        # Somebody may ask a worker to stop that is just leaving. And older Windows keeps a removed file, and so its
        # directory, while somebody has it open: another worker that has just tried the lock.
        for name in files.names(directory):
            files.remove(paths.worker(wid, name))
        if files.remove_directory(directory):
            return
        time.sleep(pause)


def views(paths: Layout) -> list[WorkerView]:
    """Return all workers, and dead ones that were not recovered yet. Raises SpoolError."""
    found = []
    for wid in sorted(files.names(paths.workers)):
        try:
            about = files.decoded(files.read(paths.worker(wid, "info"), 65_536), About)
        except (OSError, files.StrangeFileError):
            continue
        if about is None or not EPOCH <= about.worker.started_at <= moment(LATEST_MS):
            continue
        alive = _is_alive(paths.worker(wid, "alive.lock"))
        dropped = (files.read_note(paths.worker(wid, "dropped")) or "").strip()
        count = int(dropped) if COUNT.fullmatch(dropped) else 0
        responsive = alive and not _is_stopped(about)
        stale = alive and os.path.exists(paths.worker(wid, "stale"))
        found.append(
            WorkerView(id=wid, info=about.worker, alive=alive, responsive=responsive, dropped=count, stale=stale)
        )
    return found


def _is_alive(lock: str) -> bool:
    try:
        return locks.is_held(lock)
    except OSError as error:  # counting it as dead would leave it out when all workers are stopped
        hint = "check its permissions, and those of the directories above"
        raise SpoolError(f"cannot try {lock}: {error.strerror}", hint=hint) from error


def _is_stopped(about: About) -> bool:
    """Tell whether the process of a worker is stopped, as by Ctrl-Z."""
    return about.birth is not None and system.is_stopped(about.worker.pid, about.birth)
