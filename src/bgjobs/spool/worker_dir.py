"""The places of workers: `workers/W`, with what each says and is asked, and `claimed/W`, with its claims."""

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


PAUSES_S = (0.01, 0.05, 0.2, 0.5, 0.0)  # what stays even so is removed by a worker that comes across it much later
COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


class About(Struct, frozen=True):
    """What a worker says of itself when it comes."""

    worker: WorkerInfo
    birth: str | None = None


class Workplace:
    """The place of the worker `wid`, which is ourselves. While we have it we hold its `alive.lock`."""

    def __init__(self, paths: Layout, wid: str) -> None:
        """Remember which spool this is; nothing is made yet."""
        self._paths = paths
        self._wid = wid
        self._version = disk.stat(paths.version).st_ino
        self._dropped = 0
        self._stale = False
        self._progressing: set[str] = set()

    def enter(self, info: WorkerInfo) -> None:
        """Make it: directory, lock, then `ready`, so that nobody takes us for a dead worker."""
        files.make_directory(self._paths.worker(self._wid))
        self._lock = locks.hold_for_life(self._path("alive.lock"))
        self._lock_inode = disk.stat(self._path("alive.lock")).st_ino
        about = {"boot": system.boot_id(), "birth": system.birth(info.pid), "worker": msgspec.to_builtins(info)}
        files.create(self._path("info"), msgspec.json.encode(about), sync=False)
        files.make_directory(self._paths.claims_of(self._wid))
        files.create(self._path("ready"), b"", sync=False)

    def check(self) -> None:
        """Check that it is still ours. Raises SessionLostError."""
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
        """Give up the lock, as the kernel does it when a process ends."""
        self._lock.release()

    def leave(self, *, empty: bool) -> None:
        """Give it up. One that is not `empty` stays: another worker recovers from it what is left."""
        empty = empty and dissolve(self._paths, self._wid)
        self.release()
        if empty:
            remove_place(self._paths, self._wid)

    def _path(self, name: str) -> str:
        return self._paths.worker(self._wid, name)

    # What we say

    def tell_progress(self, job_id: str, progress: Progress) -> None:
        """Let others see how far a job has come."""
        self._progressing.add(job_id)
        with suppress(OSError):  # a full disk
            files.replace_content(self._path(f"progress-{job_id}"), msgspec.json.encode(progress))

    def forget_progress(self, job_id: str) -> None:
        """Remove what was said of a job's progress, if anything was."""
        if job_id in self._progressing:
            self._progressing.discard(job_id)
            files.discard(self._path(f"progress-{job_id}"))

    def tell_dropped(self, count: int) -> None:
        """Let others see how many lines the logs had no room for."""
        if count != self._dropped:
            with suppress(OSError):  # perhaps the same full disk: the next round tries again
                files.replace_content(self._path("dropped"), f"{count}\n".encode())
                self._dropped = count

    def tell_stale(self, stale: bool) -> None:  # noqa: FBT001 - the one thing that it says
        """Let others see whether our code is older than what is on the disk."""
        if stale != self._stale:
            with suppress(OSError):  # a full disk: the next round tries again
                if stale:
                    files.replace_content(self._path("stale"), b"")
                else:
                    files.discard(self._path("stale"))
                self._stale = stale

    # What we are asked

    def wishes(self) -> set[str]:
        """Return the ids of the jobs that somebody asked us to cancel."""
        names = [name.partition("-") for name in files.names(self._paths.worker(self._wid))]
        return {job_id for kind, _, job_id in names if kind == "cancel" and ID.fullmatch(job_id)}

    def late(self, wishes: set[str]) -> set[str]:
        """Return the wishes that came when their job was just leaving our hands: nobody else would look for them."""
        if not wishes:
            return wishes
        claimed = [layout.parse_claimed(name) for name in files.names(self._paths.claims_of(self._wid))]
        return wishes - {parts[2] for parts in claimed if parts}

    def wish(self, job_id: str) -> str | None:
        """Return who asked us to cancel the job, or None."""
        return files.read_note(self._path(f"cancel-{job_id}"))

    def remove_wish(self, job_id: str) -> None:
        """Remove a wish that was granted."""
        files.remove(self._path(f"cancel-{job_id}"))

    def discard_wish(self, job_id: str) -> None:
        """Remove a wish that is without an object, if that can be done."""
        files.discard(self._path(f"cancel-{job_id}"))

    def stop_requests(self) -> int:
        """Return how many requests to stop have come, and remove them: each counts once."""
        requests = [name for name in files.names(self._paths.worker(self._wid)) if name.startswith("stop-")]
        for name in requests:
            files.remove(self._path(name))
        return len(requests)


def ask_to_stop(paths: Layout, wid: str) -> bool:
    """Leave a request to stop at a worker's place; return False when there is no such worker.

    A file each, because the second request means more than the first. On Windows nothing else reaches a worker that
    has no console.
    """
    if not ID.fullmatch(wid) or not locks.is_held(paths.worker(wid, "alive.lock")):
        return False
    try:
        files.create(paths.worker(wid, f"stop-{new_id()}"), b"", sync=False)
    except FileNotFoundError:
        return False  # it has just left
    disk.ring(paths.doorbell)
    return True


def dissolve(paths: Layout, wid: str) -> bool:
    """Remove what a worker kept for itself, all but the lock that says whose it is; only if it has no claims left."""
    if not files.remove_directory(paths.claims_of(wid)):
        return False
    for name in files.names(paths.worker(wid)):
        if name not in {"alive.lock", "ready"}:
            files.remove(paths.worker(wid, name))
    # Last: a place without it could be of a worker that is just coming, and is left alone for ten minutes.
    files.remove(paths.worker(wid, "ready"))
    return True


def remove_place(paths: Layout, wid: str) -> None:
    """Remove the last of a worker's place, whose lock is free again."""
    place = paths.worker(wid)
    for pause in PAUSES_S:
        # Whoever asks a leaving worker to stop may leave word behind its back. And older Windows keeps a removed file,
        # and so its directory, while somebody has it open: another worker that has just looked who lives.
        for name in files.names(place):
            files.remove(paths.worker(wid, name))
        if files.remove_directory(place):
            return
        time.sleep(pause)


def views(paths: Layout) -> list[WorkerView]:
    """Return all workers that left a trace, dead ones included. Raises SpoolError."""
    found = []
    for wid in sorted(files.names(paths.workers)):
        try:
            about = files.decoded(files.read(paths.worker(wid, "info"), 65_536), About)
        except (OSError, files.StrangeFileError):
            continue
        if about is None or not EPOCH <= about.worker.started_at <= moment(LATEST_MS):
            continue
        alive = _lives(paths.worker(wid, "alive.lock"))
        dropped = (files.read_note(paths.worker(wid, "dropped")) or "").strip()
        count = int(dropped) if COUNT.fullmatch(dropped) else 0
        responsive = alive and not _stands_still(about)
        stale = alive and os.path.exists(paths.worker(wid, "stale"))
        found.append(
            WorkerView(id=wid, info=about.worker, alive=alive, responsive=responsive, dropped=count, stale=stale)
        )
    return found


def _lives(lock: str) -> bool:
    try:
        return locks.is_held(lock)
    except OSError as error:  # one that is taken for dead would be passed over by whoever stops them all
        hint = "check its permissions, and those of the directories above"
        raise SpoolError(f"cannot try {lock}: {error.strerror}", hint=hint) from error


def _stands_still(about: About) -> bool:
    """Tell whether the process of a worker was stopped, by what it said of itself when it came."""
    return about.birth is not None and system.is_stopped(about.worker.pid, about.birth)
