"""Append lines to a log that any number of processes share and that stays bounded: a few files of a given size."""

from __future__ import annotations

import os

from bgjobs import disk

MOST_BYTES = 10 * 1024 * 1024
KEPT = 5
LOOK_EVERY_BYTES = 64 * 1024  # written by ourselves
AGAIN_BYTES = 1024 * 1024  # when a log cannot be moved aside, that is tried again after so much more


class LogFile:
    """One log. It is never kept open: another process may have moved it aside, and Windows renames no open file.

    `beside` is a file without which nothing is made anew: that of a spool that may have vanished.
    """

    def __init__(self, path: str, *, beside: str | None = None) -> None:
        self.path = path
        self._beside = beside
        self._used = False
        self._torn = False
        self._rotate_at = 0
        self._unseen = LOOK_EVERY_BYTES  # those who write one line and end look too

    def append(self, data: bytes) -> None:
        """Append whole lines, in one write. Raises OSError; a line that was torn then stays a line of its own."""
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
            size = disk.fstat(descriptor).st_size if self._unseen >= LOOK_EVERY_BYTES else None
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
            # Somebody cleared the logs away, and they are begun anew. But a whole spool that was unmounted under a
            # worker must not be made again in its place.
            if self._used and self._beside is not None and not os.path.exists(self._beside):
                raise
            disk.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            return disk.open_create_append(self.path)


def rotate(path: str) -> bool:
    """Move a log that has grown large aside, and the older ones with it; return whether it is small now.

    One process at a time does so; a crash in between leaves a gap in the numbers.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - slow to import, and a log is full once in 100,000 lines

    lock = FileLock(f"{path}.lock", timeout=0, preserve_lock_file=True, fallback_to_soft=False, mode=0o600)
    try:
        with lock:
            if disk.stat(path).st_size >= MOST_BYTES:
                _shift(path)
    except (OSError, Timeout):
        return False  # a log that is too long harms nobody, and somebody tries again
    return True


def _shift(path: str) -> None:
    for number in range(KEPT - 1, 0, -1):
        older = path if number == 1 else f"{path}.{number - 1}"
        try:
            disk.replace(older, f"{path}.{number}")
        except FileNotFoundError:
            continue
