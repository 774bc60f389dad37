"""The status log and the error log, across their rotation."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.logfile import KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 65_536
FIELD = re.compile(r"(?:, )?(Class|Method|Priority|Status|Job|Attempt): ([^,]*)")


def fields(line: str) -> dict[str, str]:
    """Return a line of a log taken apart."""
    line = line.rstrip("\n")
    stamp, _, rest = line.removeprefix("[").partition("] ")
    rest, _, message = rest.partition("Message: ")
    return {"at": stamp} | {name.lower(): value for name, value in FIELD.findall(rest)} | {"message": message}


class Log:
    """One log, read from its end on. It is never kept open: it may be rotated away at any time."""

    def __init__(self, path: str) -> None:
        """Begin before what is there."""
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def last(self, count: int) -> list[bytes]:
        """Return the last so many lines, from rotated files too where needed, and go on after them."""
        found = self._lines_of(self._read(self._path))
        for number in range(1, KEPT + 1):
            if len(found) >= count:
                break
            found = self._lines_of(_content(f"{self._path}.{number}", 0)[1]) + found
        return found[-count:] if count else []

    def more(self) -> Iterator[bytes]:
        """Go through the lines that were added since."""
        known, offset = self._file, self._offset
        if known is not None and _identity(self._path) not in {known, None}:
            # Rotated away: first the rest of it, under its new name, then its successor from the beginning.
            file, rest = _content(f"{self._path}.1", offset)
            yield from self._lines_of(rest if file == known else b"")
            self._offset = 0
        yield from self._lines_of(self._read(self._path))

    def _read(self, path: str) -> bytes:
        """Read on, up to the last line end: what is being written at this moment comes with the next look."""
        self._file, content = _content(path, self._offset)
        content = content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        return content

    @staticmethod
    def _lines_of(content: bytes) -> list[bytes]:
        return content.splitlines(keepends=True)


def _content(path: str, offset: int) -> tuple[tuple[int, int] | None, bytes]:
    """Return which file it is, and what it holds from an offset on."""
    try:
        descriptor = system.open_read(path)
    except FileNotFoundError:
        return None, b""
    try:
        found = os.fstat(descriptor)
        os.lseek(descriptor, offset, os.SEEK_SET)
        return (found.st_dev, found.st_ino), b"".join(iter(lambda: os.read(descriptor, PIECE), b""))
    finally:
        os.close(descriptor)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
