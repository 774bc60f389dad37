"""Append lines to a log file that several processes share, and rotate it by size."""

from __future__ import annotations

import os

from bgjobs import disk

MOST_BYTES = 10 * 1024 * 1024
KEPT = 5
CHECK_EVERY_BYTES = 64 * 1024  # the size is checked after this process has written so much
AGAIN_BYTES = 1024 * 1024  # a rotation that failed is tried again after so much more


class LogFile:
    """One log. It is never kept open: another process may rotate it, and Windows renames no open file.

    `beside` is a file of the spool: if it is gone, the spool has vanished, and no new log is made in its place.
    """

    def __init__(self, path: str, *, beside: str | None = None) -> None:
        self.path = path
        self._beside = beside
        self._used = False
        self._torn = False
        self._rotate_at = 0
        self._unseen = CHECK_EVERY_BYTES  # so that a process that writes one line and ends checks it too

    def append(self, data: bytes) -> None:
        """Append whole lines, in one write. Raises OSError; a torn line is ended before the next one."""
        length = len(data)
        descriptor = self._opened()
        try:
            if self._torn:
                data = b"\n" + data
            self._torn = True
            while data:
                data = data[disk.write(descriptor, data) :]
            self._torn = False
            self._unseen += length
            size = disk.fstat(descriptor).st_size if self._unseen >= CHECK_EVERY_BYTES else None
        finally:
            disk.close(descriptor)
        self._used = True
        if size is not None:
            self._unseen = 0
            self._bound(size)

    def _bound(self, size: int) -> None:
        if size < MOST_BYTES:
            self._rotate_at = MOST_BYTES
        elif size >= self._rotate_at and not rotate(self.path):
            self._rotate_at = size + AGAIN_BYTES

    def _opened(self) -> int:
        try:
            return disk.open_create_append(self.path)
        except FileNotFoundError:
            # The logs were deleted, and are begun anew. But a spool that was unmounted under a worker must not be made
            # again in its mount point.
            if self._used and self._beside is not None and not os.path.exists(self._beside):
                raise
            disk.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            return disk.open_create_append(self.path)


def rotate(path: str) -> bool:
    """Rotate a log that has grown too large; return whether it is small now.

    One process at a time rotates; a crash in between leaves a gap in the numbers.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - slow to import, and a log is full once in 100,000 lines

    lock = FileLock(f"{path}.lock", timeout=0, preserve_lock_file=True, fallback_to_soft=False, mode=0o600)
    try:
        with lock:
            if disk.stat(path).st_size >= MOST_BYTES:
                _shift(path)
    except (OSError, Timeout):
        return False  # a log that is too long does no harm, and the rotation is tried again
    return True


def _shift(path: str) -> None:
    for number in range(KEPT - 1, 0, -1):
        older = path if number == 1 else f"{path}.{number - 1}"
        try:
            disk.replace(older, f"{path}.{number}")
        except FileNotFoundError:
            continue
