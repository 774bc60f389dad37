"""The spooler of uWSGI: a server in C that also runs jobs out of a directory, a file for each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

from benchmarks.contestants import PROCESSES, UNSYNCED
from benchmarks.contestants.commanded import Commanded

JOB = 17  # the kind of packet that asks for a job
PACKET = struct.Struct("<BHB")
LENGTH = struct.Struct("<H")
NAME = "uwsgi_spoolfile_on_"
AWAKE = "spooler-"  # begins the name of an empty file, and then comes its process id


def program() -> str | None:
    """Return the path of uWSGI: beside Python, or else where commands are looked for."""
    beside = Path(sys.executable).with_name("uwsgi")
    return str(beside) if beside.exists() else shutil.which("uwsgi")


def is_here() -> bool:
    """Tell whether uWSGI is installed. It has to be compiled for this Python."""
    return program() is not None


class Uwsgi(Commanded):
    """The master and its spoolers. It keeps no result, and runs the function in the spooler itself.

    Its call for submitting exists inside its own processes only. So this makes the same file as that, and then wakes
    the spoolers by the same signal.
    """

    name = "uWSGI spooler"
    submit_is = end_is = UNSYNCED
    options = (
        f"uwsgi --master --spooler-processes {PROCESSES} --spooler-chdir; all else by default; submitted by writing "
        "its file and waking its spoolers from Python; no result is kept; the spoolers have nice 19"
    )
    patience_s = 0.5
    _spoolers: tuple[int, ...] = ()

    def versions(self) -> dict[str, str]:
        """Ask the program."""
        command = [program() or "uwsgi", "--version"]
        return {"uWSGI": subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout.strip()}

    def set_up(self, directory: Path) -> None:
        """Make the directory for the files."""
        self._directory = directory
        self._spool = directory / "uwsgi"
        self._spool.mkdir()
        self._begin = f"{NAME}{socket.gethostname()}_{os.getpid()}"
        self._count = 0

    def submit(self, number: int) -> None:
        """Write a file that has another name until it is whole, then wake who waits for one."""
        text = b"".join(LENGTH.pack(len(part)) + part for part in (b"number", str(number).encode()))
        self._count += 1
        fresh = f"{self._spool}/fresh"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, PACKET.pack(JOB, len(text), 0) + text)
        os.close(descriptor)
        os.rename(fresh, f"{self._spool}/{self._begin}_{self._count}")  # noqa: PTH104 - no slower than need be
        if self._workers:
            self._wake()

    def start_worker(self) -> None:
        """Start the program with its Python in this environment."""
        spool = ["--spooler", str(self._spool), "--spooler-chdir", str(self._directory)]
        app = ["--home", sys.prefix, "--pythonpath", str(Path(__file__).parents[2])]
        run = ["--master", "--spooler-processes", str(PROCESSES), "--import", "benchmarks.contestants.uwsgi_app"]
        self.start([program() or "uwsgi", *run, *spool, *app, "--die-on-term"], self._directory)

    def stop_worker(self) -> None:
        """End it, and forget its spoolers."""
        super().stop_worker()
        self._forget()

    def kill_worker(self) -> None:
        """Kill it, and forget its spoolers."""
        super().kill_worker()
        self._forget()

    def _forget(self) -> None:
        """Remove what they have said: the next ones have other process ids, and nobody shall wake a stranger."""
        self._spoolers = ()
        for path in self._directory.glob(f"{AWAKE}*"):
            path.unlink()

    def _wake(self) -> None:
        if len(self._spoolers) < PROCESSES:
            self._spoolers = tuple(int(path.name.removeprefix(AWAKE)) for path in self._directory.glob(f"{AWAKE}*"))
        for pid in self._spoolers:
            os.kill(pid, signal.SIGUSR1)
