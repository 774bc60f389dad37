"""File locks: a life lock, held by each worker and runner until it ends, and the lock around each batch of claims."""

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
    """Return a lock to be held until the process ends, when the kernel releases it.

    FileLock rather than a bare descriptor: it closes its descriptor in forked children, which would keep the lock.
    """
    return FileLock(path, preserve_lock_file=True, fallback_to_soft=False, thread_local=False, mode=0o600)


def hold_for_life(path: str, *, patience_s: float = 0) -> FileLock:
    """Take a life lock, waiting up to `patience_s` seconds, or raise SpoolError."""
    lock = life_lock(path)
    if not files.is_directory(os.path.dirname(path)):
        # The spool has vanished. FileLock would make the directory, and all above it.
        raise SpoolError(f"{os.path.dirname(path)} is gone", hint="was the spool moved or unmounted?")
    try:
        is_ours = taken(lock, patience_s)
    except OSError as error:
        raise SpoolError(f"cannot lock {path}: {error.strerror}", hint="use a local file system") from error
    if not is_ours:
        raise SpoolError(f"{path} is locked by another process", hint="two workers cannot share a directory")
    return lock


def taken(lock: FileLock, patience_s: float) -> bool:
    """Try to take the life lock for `patience_s` seconds; tell whether it was. Raises OSError, as without locks."""
    try:
        lock.acquire(timeout=patience_s, poll_interval=LONGEST_PAUSE)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        raise _lock_error(error, lock.lock_file) from None
    return True


def _taken_now(descriptor: int, path: str) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except (OSError, NotImplementedError) as error:
        raise _lock_error(error, path) from None


def _lock_error(error: OSError | NotImplementedError, path: str) -> OSError:
    """Return the error of the system, or one error for the several ones of a file system without locks."""
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
        """Hold the lock for the block; tell whether it is held. After `patience_s` seconds the block runs without it.

        Its holder may have been stopped by a signal, and must not block all other workers.
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
        # The file may have been deleted or replaced: a lock on the old one would exclude nobody.
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
    """Checks with one system call whether a life lock is still held."""

    def __init__(self, path: str) -> None:
        """Open the lock file. Raises OSError when there is none."""
        self._path = path
        self._descriptor = disk.open_read(path)  # reading is enough, and the disk may have turned read-only
        self.is_stale = False

    def take(self) -> bool:
        """Take the lock if its holder is gone, so that no other process can recover the same dead worker.

        If the lock file was deleted or replaced, the lock is not taken, and `is_stale` tells to make a new probe.
        """
        if not _taken_now(self._descriptor, self._path):
            return False
        if is_at(self._descriptor, self._path):
            return True
        unlock_descriptor(self._descriptor)
        self.is_stale = True
        return False

    def close(self) -> None:
        """Close the descriptor, which releases the lock."""
        disk.close(self._descriptor)


def is_held(path: str) -> bool:
    """Tell whether a process holds the life lock at this path. Raises OSError if that cannot be found out."""
    try:
        probe = Probe(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not probe.take()
    finally:
        probe.close()
