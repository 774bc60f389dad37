"""The spool's locks, all by filelock: one held for life by each worker and runner, one around each batch of claims."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout, lock_descriptor, unlock_descriptor

from bgjobs import disk, files
from bgjobs.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_PAUSE = 0.0002
LONGEST_PAUSE = 0.002
WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}


def life_lock(path: str) -> FileLock:
    """Return a lock to be held for as long as its process lives. The kernel frees it when the process ends.

    FileLock rather than a bare descriptor: it closes its descriptor in forked children, who would else keep the lock.
    """
    return FileLock(path, preserve_lock_file=True, fallback_to_soft=False, thread_local=False, mode=0o600)


def hold_for_life(path: str, *, patience_s: float = 0) -> FileLock:
    """Take a life lock, at once or within so many seconds, or raise SpoolError."""
    lock = life_lock(path)
    if not files.is_directory(os.path.dirname(path)):
        # The spool has vanished. FileLock would make the directory, and all above it.
        raise SpoolError(f"{os.path.dirname(path)} is gone", hint="was the spool moved or unmounted?")
    try:
        is_ours = taken(lock, patience_s)
    except OSError as error:
        raise SpoolError(f"cannot lock {path}: {error.strerror}", hint="use a local file system") from error
    if not is_ours:
        raise SpoolError(f"{path} is locked by another process", hint="two workers cannot share a place")
    return lock


def taken(lock: FileLock, patience_s: float) -> bool:
    """Tell whether the life lock could be taken within so many seconds. Raises OSError, as where there are no locks."""
    try:
        lock.acquire(timeout=patience_s, poll_interval=LONGEST_PAUSE)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        raise _in_our_words(error, lock.lock_file) from None
    return True


def _taken_now(descriptor: int, path: str) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except (OSError, NotImplementedError) as error:
        raise _in_our_words(error, path) from None


def _in_our_words(error: OSError | NotImplementedError, path: str) -> OSError:
    """Return the error as the system gives it, but for a file system without locks, of which there are two kinds."""
    if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
        return error
    return OSError(errno.ENOSYS, "this file system has no locks", path)


class ClaimLock:
    """The lock around each batch of claims. It makes claiming fast and fair; the rename alone makes it correct."""

    def __init__(self, path: str) -> None:
        """Remember the lock file's path."""
        self._path = path
        self._descriptor: int | None = None

    @contextmanager
    def held(self, patience_s: float) -> Iterator[bool]:
        """Hold the lock for the block; tell whether we do. After so many seconds the block runs without it.

        Whoever holds it may have been stopped in the middle, and must not stop everybody else.
        """
        descriptor = self._opened()
        is_ours = _acquired(descriptor, self._path, patience_s)
        try:
            yield is_ours
        finally:
            if is_ours:
                unlock_descriptor(descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, None  # it is gone even if closing it fails
        if descriptor is not None:
            disk.close(descriptor)

    def _opened(self) -> int:
        # Somebody may have deleted or replaced the file: a lock on the old one would exclude nobody.
        if self._descriptor is not None and not is_at(self._descriptor, self._path):
            self.close()
        if self._descriptor is None:
            self._descriptor = disk.open_create_append(self._path)
        return self._descriptor


def _acquired(descriptor: int, path: str, patience_s: float) -> bool:
    pause, deadline = FIRST_PAUSE, time.monotonic() + patience_s
    while not _taken_now(descriptor, path):
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
    return True


def is_at(descriptor: int, path: str) -> bool:
    """Tell whether the open file is still the one at this path."""
    try:
        there = disk.stat(path)
    except OSError:
        return False
    here = disk.fstat(descriptor)
    return here.st_nlink > 0 and (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


class Probe:
    """Asks whether the holder of a life lock is still there, at the price of one system call."""

    def __init__(self, path: str) -> None:
        """Open the lock file. Raises OSError when there is none."""
        self._path = path
        self._descriptor = disk.open_read(path)  # no more is needed, and a disk may have turned read-only
        self.is_stale = False

    def take(self) -> bool:
        """Take the lock if its holder is gone; then nobody else can take over the same dead worker.

        A lock file that somebody deleted is nobody's to take: then the probe `is_stale`, and a new one may know more.
        """
        if not _taken_now(self._descriptor, self._path):
            return False
        if is_at(self._descriptor, self._path):
            return True
        unlock_descriptor(self._descriptor)
        self.is_stale = True
        return False

    def close(self) -> None:
        """Close the descriptor, and so give the lock back."""
        disk.close(self._descriptor)


def is_held(path: str) -> bool:
    """Tell whether some process holds the life lock at this path. Raises OSError when that cannot be found out."""
    try:
        probe = Probe(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not probe.take()
    finally:
        probe.close()
