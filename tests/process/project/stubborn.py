"""Jobs that do not want to stop, or that stop in their own way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock

from bgjobs import JobCancelled, JobTimeout


def note(path: str, line: str) -> None:
    with alone(path), open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def alone(path: str) -> AbstractContextManager[object]:
    """Keep others from writing meanwhile, where the system finds the end of a file first and writes to it second."""
    return FileLock(f"{path}.lock") if sys.platform == "win32" else nullcontext()


class Stubborn:
    def sleep(self, seconds: float, path: str = "") -> None:
        if path:
            note(path, "asleep")
        time.sleep(seconds)

    def clean_up(self, path: str) -> str:
        """Take the request, clean up, and return as if all were well."""
        try:
            note(path, "begun")
            time.sleep(60)
        except (JobTimeout, JobCancelled) as error:
            note(path, f"{type(error).__name__}: {error}")
        return "cleaned up"

    def clean_up_badly(self, path: str) -> None:
        """Fail at cleaning up."""
        try:
            note(path, "begun")
            time.sleep(60)
        finally:
            raise OSError("the mop is broken")

    def back_away(self, path: str) -> None:
        """Let the request pass through."""
        try:
            note(path, "begun")
            time.sleep(60)
        finally:
            note(path, "left")

    def leave_family(self, path: str) -> None:
        """Let the request pass through, and forget who else is at work."""
        family = [sys.executable, str(Path(__file__).with_name("family.py")), path, "1"]
        quiet = subprocess.DEVNULL
        subprocess.Popen(family, stdin=quiet, stdout=quiet, stderr=quiet)
        time.sleep(60)

    def ignore_all(self, path: str) -> None:
        """Ignore every request, here and in a family of which two members have left home."""
        if sys.platform == "win32":
            family = [sys.executable, str(Path(__file__).with_name("family.py")), path, "2"]
            quiet = subprocess.DEVNULL
            subprocess.Popen(family, stdin=quiet, stdout=quiet, stderr=quiet)
            note(path, str(os.getpid()))
            linger()
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)
        for leaves in (False, True):
            if os.fork() == 0:
                if leaves:
                    os.setsid()
                if os.fork() == 0:
                    note(path, str(os.getpid()))
                    linger()
                if leaves:
                    os._exit(0)
                note(path, str(os.getpid()))
                linger()
        note(path, str(os.getpid()))
        linger()

    def spin(self, path: str) -> None:
        """Use the processor, and catch whatever comes."""
        note(path, str(os.getpid()))
        linger(0)

    def match(self, path: str) -> None:
        """Hold the interpreter's lock in C for a year."""
        note(path, str(os.getpid()))
        re.match(r"(a*)*b", "a" * 40)

    def finish_nearly(self, path: str, seconds: float) -> str:
        """End at about the moment when somebody cancels it."""
        note(path, "begun")
        time.sleep(seconds)
        return "just in time"

    def time_out_once(self, path: str) -> str:
        """Take too long the first time."""
        first = not os.path.exists(path)
        note(path, "begun")
        if first:
            time.sleep(60)
        time.sleep(0.05)
        return "the second time"


def linger(pause: float = 0.01) -> None:
    while True:
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(pause)
