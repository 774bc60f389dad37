"""The lines of a batch: read in chunks of bounded size, each line strictly, into requests."""

from __future__ import annotations

import math
import os
import queue
import stat
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from bgjobs import json_faults
from bgjobs.errors import BgjobsError, UsageError
from bgjobs.requests import Call, Request

MOST_LINES = 1000
MOST_BYTES = 8 * 1024 * 1024
MOST_LINE = 1024 * 1024
WAIT_S = 0.5  # a line is queued after this long, even if its chunk is not full
LOOK_S = 0.1
PIECE = 65_536
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(Call, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One job as a line of a batch asks for it. Null is the same as not given."""

    def request(self) -> Request:
        """Return what the line asks for."""
        return Request(**msgspec.structs.asdict(self) | {"args": self.args or ()})


EXAMPLE = 'write an object such as {"class": "Mail", "method": "send"}'


class Chunk:
    """Lines that are queued together. `first` is the number of the first one, `end` how many bytes were read so far."""

    def __init__(self, first: int, end: int) -> None:
        """Begin with the line of this number, at this offset in the input."""
        self.first = first
        self.end = end
        self.requests: list[tuple[int, Request]] = []
        self.last = first - 1
        self._begin = end
        self._since = math.inf  # when the first line came

    def add(self, number: int, line: bytes) -> None:
        """Take one line in. Raises UsageError, which names it."""
        self.end += len(line)
        self.last = number
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        try:
            _check_length(line)
            if line.strip():
                self.requests.append((number, parse(line)))
                self._since = min(self._since, time.monotonic())
        except UsageError as error:
            raise self.located(error, number) from None

    def is_full(self) -> bool:
        """Tell whether these lines should be queued before more are read."""
        return len(self.requests) >= MOST_LINES or self.end - self._begin >= MOST_BYTES

    def has_waited(self) -> bool:
        """Tell whether its first line has waited for others long enough."""
        return time.monotonic() - self._since > WAIT_S

    def located(self, error: BgjobsError, number: int) -> BgjobsError:
        """Return the error with the line that it is about, and from where on nothing is queued."""
        left = f"nothing from line {self.first} on is queued"
        hint = f"{error.hint}; {left}" if error.hint else left
        return type(error)(f"line {number}: {error.message}", hint=hint, code=error.code)


def chunks(stream: BinaryIO) -> Iterator[Chunk]:
    """Go through the lines in chunks. What comes slowly comes in smaller ones: no line waits long for the next."""
    chunk, number = Chunk(1, 0), 0
    for line in _lines(stream):
        if line is not None:
            number += 1
            chunk.add(number, line)
        if chunk.is_full() or (line is None and chunk.has_waited()):
            yield chunk
            chunk = Chunk(number + 1, chunk.end)
    if chunk.requests:
        yield chunk


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Go through the lines; None now and then, where it takes time until all have come."""
    try:
        descriptor = stream.fileno()
    except OSError:
        descriptor = -1  # in memory
    if descriptor >= 0 and not stat.S_ISREG(os.fstat(descriptor).st_mode):
        yield from _lines_as_they_come(_read_aside(descriptor))
        return
    while line := stream.readline(MOST_LINE + 2):
        yield line


def _lines_as_they_come(pieces: queue.Queue[bytes | OSError]) -> Iterator[bytes | None]:
    rest = b""
    while True:
        try:
            piece = pieces.get(timeout=LOOK_S)  # a wait without end could not be interrupted on Windows
        except queue.Empty:
            yield None
            continue
        if isinstance(piece, OSError):
            raise piece
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
        yield None  # not only when nothing comes: a line every tenth of a second would wait for its chunk to be full
        if not piece or len(rest) > MOST_LINE:  # a line that is too long is refused by the caller
            break
    if rest:
        yield rest


def _read_aside(descriptor: int) -> queue.Queue[bytes | OSError]:
    """Read in a thread, for not every system can wait for a pipe *and* for the time. The end is an empty piece.

    Past the stream's own buffer: Python could not end while a thread waits in there.
    """
    pieces: queue.Queue[bytes | OSError] = queue.Queue(maxsize=16)

    def read() -> None:
        try:
            while piece := os.read(descriptor, PIECE):
                pieces.put(piece)
        except OSError as error:
            pieces.put(error)
        else:
            pieces.put(b"")

    threading.Thread(target=read, daemon=True).start()
    return pieces


def _check_length(line: bytes) -> None:
    if len(line.rstrip(b"\r\n")) > MOST_LINE:
        raise _malformed(f"longer than {MOST_LINE} bytes", "pass a path or an id instead of a large value")


def parse(line: bytes) -> Request:
    """Return the request that the line holds. Raises UsageError."""
    try:
        found = json_faults.read(line)
    except json_faults.FaultError as error:
        raise _malformed(str(error), EXAMPLE) from None
    try:
        return msgspec.convert(found, Line).request()
    except msgspec.ValidationError:
        raise _malformed(json_faults.misfit(found, Line) or "not a job", EXAMPLE) from None


def _malformed(reason: str, hint: str) -> UsageError:
    return UsageError(reason, hint=hint, code="bad-line")
