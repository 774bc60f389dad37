"""What workers say when nobody reads their standard error: a log that all of a project share."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import clock, disk, system
from bgjobs.logfile import LogFile
from bgjobs.spool import setup
from bgjobs.spool.layout import Layout

if TYPE_CHECKING:
    from bgjobs.queue import Queue

NAME = "background_jobs_workers.log"


def path_of(queue: Queue) -> str:
    """Return where the workers of this queue write."""
    return os.path.join(queue.settings.log_dir, NAME)


def keep(queue: Queue) -> None:
    """From now on write what this process says on standard error into the log. Raises OSError or SpoolError."""
    # The spool first: a directory that is none, and cannot become one, gets no log.
    setup.open_or_set_up(Layout(queue.settings.spool))
    book = Logbook(path_of(queue), beside=os.path.join(queue.settings.spool, "VERSION"))
    book.follow()
    sys.stderr = book


class Logbook(io.TextIOBase):
    """A stream whose lines go into the log, each with its moment and with who says it."""

    def __init__(self, path: str, *, beside: str) -> None:
        self._path = path
        self._file = LogFile(path, beside=beside)
        self._who = f"{system.host()}:{os.getpid()}"
        self._rest = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that are whole; keep the rest until its end comes. Raises OSError."""
        *whole, self._rest = (self._rest + text).split("\n")
        if whole:
            head = f"[{clock.now().isoformat(sep=' ', timespec='milliseconds')}] {self._who}: "
            lines = "".join(f"{head}{line.removeprefix('bgjobs: ')}\n" for line in whole)
            self._file.append(lines.encode("utf-8", "backslashreplace"))
            self.follow()
        return len(text)

    def follow(self) -> None:
        """Let what others than us say on our standard error go into the log too: runners that cannot begin.

        Again each time the log was moved aside. Raises OSError when there can be no log at all.
        """
        try:
            if os.path.samestat(disk.stat(self._path), disk.fstat(2)):
                return
        except FileNotFoundError:
            self._file.append(b"")
        except OSError:
            pass  # standard error was closed: it is opened now
        with suppress(FileNotFoundError):  # just moved aside by another worker
            system.send_errors_to(self._path)
