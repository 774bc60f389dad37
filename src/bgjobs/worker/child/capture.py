"""Capture the output of an attempt, also of its C code and subprocesses, in a file of its own, up to a limit.

Descriptors 1 and 2 of the runner are the file itself, so nothing has to be copied, nothing can block, and the output
survives the death of runner and worker. A third descriptor, under a number that no job knows, is there to restore the
two. The file is kept under the attempt's name only when it is not empty.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bgjobs import disk, files
from bgjobs.worker.child.descriptors import ERR, IN, OUT, StandardDescriptors, above_standard, identity, leads_to

if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Buffer

# The names under which Python code finds its streams. A job may put other objects there, or close these.
NAMES = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


class _LimitedWriter(io.RawIOBase):
    """Writes to a descriptor until the limit of the attempt is reached. A full disk does not fail the job."""

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
                self._write(view[:allowed])
        except OSError:
            self._capture.lost += allowed
        return len(view)

    def _write(self, data: memoryview) -> None:
        try:
            os.write(self._descriptor, data)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            self._capture.write(data)  # the method has closed the descriptor: its output is kept all the same


class _Stream(io.TextIOWrapper):
    """A standard stream of the runner, whose configuration can be put back."""

    def __init__(self, descriptor: int, capture: Capture) -> None:
        # Plain line ends, so that what is kept is the same on every system.
        super().__init__(
            io.BufferedWriter(_LimitedWriter(descriptor, capture)),
            encoding="utf-8",
            errors="backslashreplace",
            newline="\n",
            line_buffering=True,
        )
        self._options = self._baseline = self._options_now("\n")

    def reconfigure(self, **options: Any) -> None:  # noqa: ANN401 - those of the base, of several types
        super().reconfigure(**options)
        self._options = self._options_now(options.get("newline", self._options["newline"]))

    def _options_now(self, newline: str | None) -> dict[str, Any]:
        return {
            "encoding": self.encoding,
            "errors": self.errors,
            "newline": newline,  # a stream cannot be asked for it
            "line_buffering": self.line_buffering,
            "write_through": self.write_through,
        }

    def set_baseline(self) -> None:
        """Take the configuration as it is now for the baseline: a module has set it."""
        self._baseline = self._options

    def restore(self) -> None:
        """Put back the configuration of the baseline."""
        if self._options is not self._baseline:
            super().reconfigure(**self._baseline)
            self._options = self._baseline

    @property
    def is_usable(self) -> bool:
        """Whether it can still be written to: it is neither closed nor taken apart."""
        try:
            return not self.closed
        except ValueError:
            return False


class Capture:
    """The output of one runner, attempt after attempt."""

    def __init__(self, path: str) -> None:
        """Send descriptors 1 and 2, Python's streams and `logging` to the file at `path`."""
        self.lost = 0
        self._path = path
        self._left = 0
        descriptor = above_standard(self._open())
        self._file = identity(disk.fstat(descriptor))
        self._standard = StandardDescriptors(descriptor)
        self._ours = (_Stream(OUT, self), _Stream(ERR, self))
        for prefix in ("", "__"):
            setattr(sys, f"{prefix}stdout{prefix}", self._ours[0])
            setattr(sys, f"{prefix}stderr{prefix}", self._ours[1])
        self._logging: logging.StreamHandler[TextIO] = logging.StreamHandler(sys.stderr)
        logging.basicConfig(
            handlers=[self._logging], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        self.set_baseline()

    @property
    def output(self) -> int:
        """The duplicate of descriptors 1 and 2: a new file after each attempt that has printed something."""
        return self._standard.output

    def set_baseline(self) -> None:
        """Take the streams as they are now for the baseline of each attempt: a module has set them."""
        self._streams = [getattr(sys, name, None) for name in NAMES]
        self._log_stream = self._logging.stream
        for ours in self._ours:
            ours.set_baseline()

    def begin(self, most: int) -> None:
        """Begin an attempt, which may write `most` bytes."""
        self._left = self._most = most
        self.lost = 0

    def take(self, size: int) -> int:
        """Return how many of these bytes may be written, and count them."""
        allowed = min(size, self._left)
        self._left -= allowed
        self.lost += size - allowed
        return allowed

    def write(self, data: memoryview) -> None:
        """Write to the file itself. Raises OSError."""
        if not leads_to(self.output, self._file):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        os.write(self.output, data)

    def keep(self, target: str) -> bool:
        """Move the output of the attempt, if any, to `target`; return whether another attempt can follow here.

        Raises OSError if this process cannot move it any more: then it is left to the worker.
        """
        is_whole = self._restore()
        if not self.lost and self._has_nothing():
            return is_whole
        try:
            size = files.cut(self._path, self._most, lost=bool(self.lost))
            if size or self.lost:
                self._move_to(target)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise  # the attempt has lowered the limit of descriptors: its worker can still do it
            # Any other error: the job matters more than its output.
        if not self._leads_to_ours():
            self._reopen()
        return is_whole

    def leave_to_worker(self) -> None:
        """Flush the streams, and leave the file to the worker: this process may not move it any more."""
        self._restore()
        with suppress(OSError):
            if self.lost:
                self.write(memoryview(files.cut_mark(self._most)))

    def close(self) -> None:
        """Release the file: further output is discarded."""
        self._restore()
        self._lead_to(above_standard(os.open(os.devnull, os.O_WRONLY)))

    def _restore(self) -> bool:
        """Restore descriptors and streams; return whether all of them could be restored."""
        # First the descriptors, then the flush: buffered text must not go where the method has redirected its output.
        is_held = leads_to(self.output, self._file)
        if is_held:
            self._standard.restore()
        else:
            self._reopen(anew=True)
        if self._streams != [getattr(sys, name, None) for name in NAMES]:
            for name in ("stdout", "stderr"):
                _flush(getattr(sys, name, None))
            for name, stream in zip(NAMES, self._streams, strict=True):
                setattr(sys, name, stream)
        if getattr(sys.stdin, "closed", True) and sys.stdin is not None:
            sys.stdin = open(IN, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
            setattr(sys, "__stdin__", sys.stdin)  # noqa: B010 - the type checker takes the name for a constant
            self._streams = [getattr(sys, name, None) for name in NAMES]
        usable = True
        for ours in self._ours:
            if ours.is_usable:
                ours.restore()
                _flush(ours)
            else:
                usable = False  # modules may hold it
        if self._logging.stream is not self._log_stream:
            self._logging.setStream(self._log_stream)
        return is_held and usable

    def _move_to(self, target: str) -> None:
        null = above_standard(os.open(os.devnull, os.O_WRONLY))
        self._lead_to(null)
        files.move_into(self._path, target)  # a spool that vanished is not made again
        self._reopen()

    def _reopen(self, *, anew: bool = False) -> None:
        """Redirect all output to the file at the path, made if it is not there; `anew`: by another descriptor."""
        descriptor = above_standard(self._open())
        self._file = identity(disk.fstat(descriptor))
        if anew:
            self._standard = StandardDescriptors(descriptor)
        else:
            self._lead_to(descriptor)

    def _lead_to(self, descriptor: int) -> None:
        os.dup2(descriptor, self.output, inheritable=False)
        os.close(descriptor)
        self._standard.restore()

    def _open(self) -> int:
        try:
            return disk.open_create_append(self._path)
        except OSError as error:
            if error.errno not in files.LINKS:
                raise
            files.remove(self._path)
            return disk.open_create_append(self._path)

    def _has_nothing(self) -> bool:
        """Tell whether the attempt has printed nothing, as most do, and its file is still in place."""
        try:
            state = disk.stat(self._path)
        except OSError:
            return False
        return state.st_size == 0 and identity(state) == self._file

    def _leads_to_ours(self) -> bool:
        try:
            return identity(disk.stat(self._path)) == self._file
        except OSError:
            return False


def _flush(stream: TextIO | None) -> None:
    if stream is None:
        return
    with suppress(Exception):  # the method closed it, or put an object of its own there
        stream.flush()
