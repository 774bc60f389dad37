"""Open a plain file to read it, or raise an error that says what lies in its place."""

from __future__ import annotations

import errno
import os
import stat

from bgjobs import system
from bgjobs.errors import SpoolError
from bgjobs.files import LINKS


class NoPlainFileError(SpoolError):
    """What lies there is a link, a directory, a pipe."""


def open_plain(path: str, what: str) -> tuple[int, os.stat_result]:
    """Return the descriptor of a plain file, and its state. Never waits, and follows no link where the system can tell.

    Raises FileNotFoundError or NotADirectoryError where there is none, and else a SpoolError, which calls it `what`.
    """
    try:
        descriptor = system.open_read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if error.errno == errno.EISDIR:  # Windows, which opens none
            raise _no_plain_file(path, what, stat.S_IFDIR) from None
        if error.errno in LINKS:
            raise _no_plain_file(path, what, _mode(path)) from None
        is_barred = isinstance(error, PermissionError)
        hint = "run bgjobs as the user to whom the spool belongs" if is_barred else "see `bgjobs doctor`"
        raise SpoolError(f"cannot read {what} {path}: {error.strerror}", hint=hint) from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise _no_plain_file(path, what, state.st_mode)
    return descriptor, state


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0  # it was removed meanwhile


def _no_plain_file(path: str, what: str, mode: int) -> NoPlainFileError:
    kind = "a link" if stat.S_ISLNK(mode) else "a directory" if stat.S_ISDIR(mode) else "no plain file"
    return NoPlainFileError(f"{what} {path} is {kind}", hint="move it away: bgjobs reads plain files alone")
