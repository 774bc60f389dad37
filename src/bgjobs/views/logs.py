"""Read and follow the status log and the error log, through every way in which a log can be replaced."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from bgjobs import system
from bgjobs.errors import SpoolError
from bgjobs.event_log import ERROR_LOG, NONE, STATUS_LOG
from bgjobs.log_file import KEPT
from bgjobs.plain_files import NoPlainFileError, open_plain
from bgjobs.queue import store_of

if TYPE_CHECKING:
    from bgjobs.queue import Queue

PIECE = 65_536
MARK = 1024
HEAD = 64
OTHER = KEPT + 1  # the number of a file with a name that is not ours
LATE_S = 2.0  # a process that opened a log before it was moved aside may still write to it: for less than this long
WHAT = "the log"
NAMES = ("Class", "Method", "Priority", "Status", "Job", "Attempt")
FIELD = re.compile(rf"(?:, )?({'|'.join(NAMES)}): ([^,]*)")

Identity = tuple[int, int]


def of(queue: Queue, *, errors: bool = False) -> Log:
    """Return the status log of a queue, or its error log. Raises SpoolError if what lies in its place is no log."""
    if queue.settings.spool_from:
        store_of(queue).is_there()  # a spool that was named must exist
    path = os.path.join(queue.settings.log_dir, ERROR_LOG if errors else STATUS_LOG)
    refuse_strange(path)
    return Log(path)


def fields(record: bytes) -> dict[str, str | None]:
    """Return a line of a log taken apart, None for a field that the record has not."""
    line = record.decode("utf-8", "backslashreplace").rstrip("\n")
    stamp, _, rest = line.removeprefix("[").partition("] ")
    rest, _, message = rest.partition("Message: ")
    found = {name: value for name, value in FIELD.findall(rest) if value != NONE}
    return {"at": stamp, **{name.lower(): found.get(name) for name in NAMES}, "message": message}


def refuse_strange(path: str) -> None:
    """Raise SpoolError if something else than a log lies in its place, or one that we may not read."""
    try:
        descriptor, _ = open_plain(path, WHAT)
    except (FileNotFoundError, NotADirectoryError):
        return
    os.close(descriptor)


class Log:
    """One log, read from its end on. It is never kept open: Windows puts no file in the place of an open one."""

    def __init__(self, path: str) -> None:
        """Begin before what is there."""
        self._path = path
        self._at: _Place | None = None
        self._left: tuple[_Place, float] | None = None  # the file before, and when we came to its end
        self._seen: set[tuple[Identity, bytes]] = set()

    def last(self, count: int) -> list[bytes]:
        """Return this number of last lines, from rotated files too where needed, and go on after them."""
        found: list[bytes] = []
        with ExitStack() as stack:
            for file in self._files(stack):
                self._seen.add(file.name())
                if file.number == 0:
                    found, self._at = file.rest()
                elif len(found) < count:
                    found = file.rest(whole=True)[0] + found
        return found[-count:] if count else []

    def more(self) -> list[bytes]:
        """Return the lines that were added since: none is left out and none comes twice, however the log moved."""
        with ExitStack() as stack:
            current = _opened(stack, self._path, 0)
            if current and self._at and self._at.identity == current.identity and self._at.fits(current):
                lines, self._at = current.rest(self._at)
                return self._added_late(self._files(stack)) + lines if self._left else lines
            return self._through(self._files(stack))

    def _through(self, files: list[_File]) -> list[bytes]:
        """Return what is new in the file that was read last, whose name may be new as well, and in all newer ones."""
        lines = self._added_late(files)
        last = self._at.find(files) if self._at else None
        # A file that is gone, deleted or emptied, and one that got another name: what has a number was there before,
        # unless it was not seen yet.
        number = last.number if last else OTHER
        newer = [
            file
            for file in files
            if file.number < number and (number < OTHER or not file.number or file.name() not in self._seen)
        ]
        self._seen.update(file.name() for file in files)
        if last:
            added, self._at = last.rest(self._at)
            lines += added
            if newer and self._at:
                self._left = self._at, time.monotonic()
        for file in reversed(newer):
            added, self._at = file.rest(whole=file is not newer[0])
            lines += added
        return lines

    def _added_late(self, files: list[_File]) -> list[bytes]:
        """Return what was added to the file before, by a process that had opened it when it still was the log."""
        if self._left is None:
            return []
        place, since = self._left
        is_over = time.monotonic() - since > LATE_S
        file = place.find(files)
        lines, place = file.rest(place, whole=is_over) if file else ([], place)
        self._left = None if is_over else (place, since)
        return lines

    def _files(self, stack: ExitStack) -> list[_File]:
        """Open the log and those that were moved aside, each once, the newest first.

        In this order: one that is moved aside meanwhile gets a higher number, so we may meet it twice, and miss none.
        """
        found: dict[Identity, _File] = {}
        for number in range(KEPT + 1):
            file = _opened(stack, f"{self._path}.{number}" if number else self._path, number)
            if file:
                found.setdefault(file.identity, file)
        wanted = {place.identity for place in (self._at, self._left and self._left[0]) if place}
        for path in self._otherwise_named() if wanted - found.keys() else []:
            file = _opened(stack, path, OTHER)
            if file and file.identity in wanted:
                found.setdefault(file.identity, file)
        return list(found.values())

    def _otherwise_named(self) -> list[str]:
        """Return the paths of files that may be the log under another name: `logrotate` can put the date there."""
        directory, name = os.path.split(self._path)
        try:
            return [os.path.join(directory, found) for found in system.listdir(directory) if found.startswith(name)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []


class _Place(NamedTuple):
    """Up to where which file was read. `mark` is what stands right before that.

    By both, inode and content, a file is known again: another one may get its name, its size or its inode, and a copy
    may be all that is left of it.
    """

    identity: Identity
    offset: int = 0
    mark: bytes = b""

    def fits(self, file: _File) -> bool:
        """Tell whether the file holds what was read."""
        return file.size >= self.offset and file.read(self.offset - len(self.mark), len(self.mark)) == self.mark

    def find(self, files: list[_File]) -> _File | None:
        """Return the file that was read, or else a copy of it."""
        fitting = [file for file in files if self.fits(file)]
        same = [file for file in fitting if file.identity == self.identity]
        return next(iter(same or (fitting if self.mark else [])), None)


class _File:
    """One file of a log, open for one look."""

    def __init__(self, descriptor: int, state: os.stat_result, number: int) -> None:
        self._descriptor = descriptor
        self.identity = state.st_dev, state.st_ino
        self.size = state.st_size
        self.number = number

    def name(self) -> tuple[Identity, bytes]:
        """Return what identifies the file: its inode, and its first bytes, for inodes are used again."""
        return self.identity, self.read(0, HEAD)

    def read(self, offset: int, size: int) -> bytes:
        """Return this number of bytes, fewer only at the end of the file."""
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        pieces = []
        while size and (piece := os.read(self._descriptor, min(size, PIECE))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def rest(self, place: _Place | None = None, *, whole: bool = False) -> tuple[list[bytes], _Place]:
        """Return the lines from a place on, else all, and the place behind them.

        What is being written at this moment comes with a later look; if the file is `whole`, it does not grow any more.
        """
        _, offset, mark = place or _Place(self.identity)
        content = self.read(offset, max(0, self.size - offset))
        if whole and content and not content.endswith(b"\n"):
            offset, content = offset - 1, content + b"\n"
        content = content[: content.rfind(b"\n") + 1]
        lines = [line + b"\n" for line in content.split(b"\n")[:-1]]
        return lines, _Place(self.identity, offset + len(content), (mark + content)[-MARK:])


def _opened(stack: ExitStack, path: str, number: int) -> _File | None:
    try:
        descriptor, state = open_plain(path, WHAT)
    except (FileNotFoundError, NotADirectoryError, NoPlainFileError):
        return None  # nor is it a log: one may come in its place
    except SpoolError:
        if number == OTHER:
            return None  # it was only opened to find out whether it is the log
        raise
    stack.callback(os.close, descriptor)
    return _File(descriptor, state, number)
