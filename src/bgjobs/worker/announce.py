"""Where a worker's messages go: to standard error, to a log if it has no terminal, its state to a supervisor."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import clock, disk, system
from bgjobs.config import run_as
from bgjobs.log_file import LogFile
from bgjobs.plain_text import sanitized
from bgjobs.spool import setup
from bgjobs.spool.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.queue import Queue
    from bgjobs.worker.options import WorkerOptions


class Console:
    """Prints messages on standard error, or none at all when `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        """Print nothing yet."""
        self._quiet = quiet

    def announce(self, text: str) -> None:
        """Print one line."""
        if self._quiet or sys.stderr is None:
            return
        try:
            print(f"bgjobs: {sanitized(text)}", file=sys.stderr, flush=True)  # noqa: T201 - for whoever watches the worker
        except OSError:
            pass  # a full disk, a terminal that was closed: no reason to leave the jobs alone

    def announce_start(self, queue: Queue, name: str, options: WorkerOptions) -> None:
        """Print who works here, with how many runners, and on what."""
        runners = options.concurrency
        targets = run_as.those_of(queue.allowlist, options.only)
        as_we = sum(not run_as.other(target.policy) for target in targets)
        if system.is_elevated() and as_we:
            self.announce(f"running as root: so do all jobs{' without a user' if as_we < len(targets) else ''}")
        count = len(list(queue.allowlist))
        self.announce(
            f"worker {name}: {runners} runner{'s'[: runners != 1]}, "
            f"{count} method{'s'[: count != 1]} may run, spool {queue.settings.spool}"
        )


NAME = "background_jobs_workers.log"


def path_of(queue: Queue) -> str:
    """Return where the workers of this queue write."""
    return os.path.join(queue.settings.log_dir, NAME)


def redirect_errors(queue: Queue) -> None:
    """Write all that this process prints on standard error into the log from now on. Raises OSError or SpoolError."""
    # The spool first: a directory that is none, and cannot become one, gets no log.
    setup.open_or_set_up(Layout(queue.settings.spool))
    log = ErrorLog(path_of(queue), beside=os.path.join(queue.settings.spool, "VERSION"))
    log.follow()
    sys.stderr = log


class ErrorLog(io.TextIOBase):
    """A stream whose lines go into the log, each with its moment and the name of the process."""

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
        """Let what runners that cannot begin print on the same standard error go into the log too.

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


STATUS_EVERY_S = 2.0


class Supervision:
    """Tells the supervisor that started the worker how it is, if there is one: systemd, or one with its protocol."""

    def __init__(self) -> None:
        """Find out whether there is one; from now on no child of this process can."""
        self._supervisor = system.take_supervisor(os.environ)
        watchdog_s = self._supervisor.watchdog_s
        self._ping_every_s = float("inf") if watchdog_s is None else watchdog_s / 2
        self.ping_at = 0.0 if watchdog_s else float("inf")
        self._status_at = 0.0 if self._supervisor.is_there else float("inf")
        self._status = ""
        self._is_stopping = False

    def ready(self, status: str) -> None:
        """Tell that the worker has joined the queue."""
        self._status = status
        self._supervisor.tell(READY="1", STATUS=status)

    def update(self, now: float, status: Callable[[], str]) -> None:
        """Tell in time that the loop runs, and now and then what the worker does."""
        if now >= self.ping_at:
            self.ping_at = now + self._ping_every_s
            self._supervisor.tell(WATCHDOG="1")
        if now >= self._status_at:
            self._status_at = now + STATUS_EVERY_S
            before, self._status = self._status, status()
            if self._status != before:
                self._supervisor.tell(STATUS=self._status)

    def stopping(self) -> None:
        """Tell that the worker begins nothing more: once, however often this is called."""
        if not self._is_stopping:
            self._is_stopping = True
            self._supervisor.tell(STOPPING="1")
