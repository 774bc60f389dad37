"""Collect what an attempt prints, from C code and subprocesses too, in a file of its own, up to a limit.

Descriptors 1 and 2 of the runner are the file itself, so nothing has to be carried, nothing can block, and what was
printed survives the death of runner and worker. The file is kept under the attempt's name only when it is not empty.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import disk
from bgjobs.spool import cutting, files

if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Buffer

OUT, ERR = 1, 2


class _Quota(io.RawIOBase):
    """Writes to a descriptor until the shared allowance is used up. A full disk is no reason for a job to fail."""

    def __init__(self, descriptor: int, capture: Capture) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._capture = capture

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        allowed = self._capture.take(len(view))
        try:
            if allowed:
                os.write(self._descriptor, view[:allowed])
        except OSError:
            self._capture.lost += allowed
        return len(view)


class Capture:
    """The output of one runner, attempt after attempt."""

    def __init__(self, path: str) -> None:
        """Send descriptors 1 and 2, Python's streams and `logging` to the file at `path`."""
        self.lost = 0
        self._path = path
        self._file = (0, 0)
        self._left = 0
        self._redirect()
        sys.stdout = self._stream(OUT)
        sys.stderr = self._stream(ERR)
        self._logging: logging.StreamHandler[TextIO] = logging.StreamHandler(sys.stderr)
        logging.basicConfig(
            handlers=[self._logging], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        self._streams: tuple[object, ...] = (sys.stdout, sys.stderr, sys.stderr)

    def begin(self, most: int) -> None:
        """Allow the next attempt so many bytes."""
        self._left = self._most = most
        self.lost = 0

    def take(self, size: int) -> int:
        """Take so much from the allowance, or what is left of it; return how much that was."""
        allowed = min(size, self._left)
        self._left -= allowed
        self.lost += size - allowed
        return allowed

    def end(self, keep: str) -> None:
        """Keep what the attempt printed, if anything, at `keep`, and begin afresh."""
        _flush()
        if not self.lost and self._is_untouched():
            return
        try:
            size = cutting.cut(self._path, self._most, lost=bool(self.lost))
            if size or self.lost:
                self._keep(keep)
        except OSError:
            return  # output is worth less than the job
        finally:
            self._heal()

    def leave(self) -> None:
        """Write out what is held back, and leave the file to the worker: this process may not move it any more."""
        _flush()
        with suppress(OSError):
            if self.lost and _identity(disk.fstat(OUT)) == self._file:
                disk.write(OUT, cutting.cut_mark(self._most))

    def _keep(self, keep: str) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, OUT)
        os.dup2(null, ERR)
        os.close(null)
        files.move_into(self._path, keep)  # a spool that vanished is not made again
        self._redirect()

    def _redirect(self) -> None:
        try:
            descriptor = disk.open_create_append(self._path)
        except OSError as error:
            if error.errno not in files.LINKS:
                raise
            files.remove(self._path)
            descriptor = disk.open_create_append(self._path)
        self._file = _identity(disk.fstat(descriptor))
        os.dup2(descriptor, OUT)
        os.dup2(descriptor, ERR)
        os.close(descriptor)

    def _stream(self, descriptor: int) -> io.TextIOWrapper:
        buffered = io.BufferedWriter(_Quota(descriptor, self))
        # Plain line ends, so that what is kept is the same on every system.
        return io.TextIOWrapper(
            buffered, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
        )

    def _is_untouched(self) -> bool:
        """Tell whether the attempt has printed nothing and left the streams as they were: that is what most do."""
        if self._streams != (sys.stdout, sys.stderr, self._logging.stream) or sys.stdout.closed or sys.stderr.closed:
            return False
        try:
            state = disk.stat(self._path)
        except OSError:
            return False
        return state.st_size == 0 and self._is_ours(state)

    def _is_ours(self, state: os.stat_result) -> bool:
        """Tell whether this is the file that both descriptors lead to."""
        try:
            return _identity(disk.fstat(OUT)) == _identity(disk.fstat(ERR)) == _identity(state)
        except OSError:
            return False

    def _heal(self) -> None:
        """Give the next attempt working streams, whatever this one did to them."""
        try:
            same = self._is_ours(disk.stat(self._path))
        except OSError:
            same = False
        if not same:
            self._redirect()
        for name, descriptor in (("stdout", OUT), ("stderr", ERR)):
            stream = getattr(sys, name)
            raw = getattr(getattr(stream, "buffer", None), "raw", None)
            if not isinstance(raw, _Quota) or stream.closed:
                setattr(sys, name, self._stream(descriptor))
        self._logging.setStream(sys.stderr)
        self._streams = (sys.stdout, sys.stderr, sys.stderr)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the method closed or replaced it


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino
