"""Keep files of output within their bounds."""

from __future__ import annotations

import errno
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bgjobs import disk
from bgjobs.spool import files

if TYPE_CHECKING:
    from collections.abc import Iterator


def limit(path: str, most: int) -> None:
    """Cut a file of ours to so many bytes when it has grown to twice that, but never what a link in its place names."""
    try:
        with _grown(path) as (descriptor, size):
            if size > 2 * most:
                disk.truncate(descriptor, most)
    except OSError as error:
        if error.errno not in {errno.ENOENT, *files.LINKS}:
            raise


def cut_mark(most: int) -> bytes:
    """Return what stands at the end of output that was cut."""
    return f"\n[output cut: more than {most} bytes]\n".encode()


def cut(path: str, most: int, *, lost: bool = False) -> int:
    """Cut a file of output to so many bytes, if it is longer, and put the mark behind them; return how long it was.

    With `lost` the mark is put there in any case: something of the output has not come to the file. Who has counted and
    marked already is left in peace. Raises OSError for a link in its place.
    """
    with _grown(path) as (descriptor, size):
        mark = cut_mark(most)
        is_marked = most < size <= most + len(mark) and files.end(descriptor, len(mark)) == mark
        if size > most and not is_marked:
            disk.truncate(descriptor, most)
        if (lost or size > most) and not is_marked:
            files.write_all(descriptor, mark)
        return size


def add(path: str, text: str) -> None:
    """Put a text at the end of a file of output. Raises OSError for a link in its place."""
    with _grown(path) as (descriptor, _):
        files.write_all(descriptor, text.encode())


@contextmanager
def _grown(path: str) -> Iterator[tuple[int, int]]:
    """Open a file that may have to be cut; give its descriptor and size. What has a second name counts as empty."""
    descriptor = disk.open_append(path)
    try:
        state = disk.fstat(descriptor)
        yield descriptor, state.st_size if stat.S_ISREG(state.st_mode) and state.st_nlink == 1 else 0
    finally:
        disk.close(descriptor)
