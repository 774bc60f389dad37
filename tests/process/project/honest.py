"""Jobs that do what they say, and write down that they did."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from bgjobs import Fail, Retry, current_job


class NotTodayError(Exception):
    pass


class NotEverError(NotTodayError):
    pass


KEPT: list[bytearray] = []
FAMILY = """
import os, signal, time
for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)    # another process group, and its parent is gone
os.write(3, b"%d\\n" % os.getpid())
while True:
    time.sleep(60)
"""


def note(path: str, line: str) -> None:
    """Append a line in one write, so that the notes of several processes do not mix."""
    with alone(path), open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def alone(path: str) -> AbstractContextManager[object]:
    """Keep others from writing meanwhile, where the system finds the end of a file first and writes to it second."""
    return FileLock(f"{path}.lock") if sys.platform == "win32" else nullcontext()


def lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines() if os.path.exists(path) else []


def twice(text: str) -> str:
    return text * 2


class Honest:
    def echo(self, value: Any = None) -> Any:
        return value

    def who(self) -> int:
        return os.getpid()

    def leak(self, mib: int) -> int:
        """Fill memory that the process never gives back."""
        KEPT.append(bytearray(b"x") * (mib << 20))
        return os.getpid()

    def fill(self, mib: int) -> int:
        """Fill memory, and give it back."""
        return os.getpid() if bytearray(b"x") * (mib << 20) else 0

    def nap(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept well"

    def sign(self, path: str, seconds: float = 0) -> None:
        """Leave the job's id, then take a little time."""
        note(path, current_job().id)
        time.sleep(seconds)

    def wait_for(self, path: str, sign: str = "") -> str:
        """Wait until there is a file; say first that this has begun."""
        if sign:
            note(sign, current_job().id)
        while not os.path.exists(path):
            time.sleep(0.005)
        return "it came"

    def step(self, path: str, done: float, total: float) -> None:
        """Say how far this is until there is a file."""
        while not os.path.exists(path):
            current_job().progress(done, total, "on the way")
            time.sleep(0.01)

    def move(self, old: str, new: str) -> None:
        os.rename(old, new)

    def fail(self, message: str = "no luck") -> None:
        raise ValueError(message)

    def fail_first(self, path: str, times: int) -> int:
        """Fail so many times, then succeed."""
        note(path, "try")
        count = len(lines(path))
        if count <= times:
            raise ValueError(f"attempt {count} fails")
        return count

    def ask_again(self, path: str, delay: float) -> int:
        note(path, "try")
        if len(lines(path)) == 1:
            raise Retry("not yet", delay=delay)
        return current_job().attempt

    def give_up(self) -> None:
        raise Fail("no such month")

    def raise_error(self, name: str) -> None:
        """Raise an exception of Python's, or one of this module."""
        cls = globals().get(name) or getattr(builtins, name)
        raise cls("as asked")

    def wide_trace(self, size: int) -> None:
        """Fail with a text that takes six times as much room in JSON."""
        raise ValueError("\x01" * size)

    def return_strange(self, kind: str) -> Any:
        match kind:
            case "object":
                return object()
            case "cycle":
                loop: list[Any] = []
                loop.append(loop)
                return loop
            case "huge":
                return "x" * 2_000_000
            case "deep":
                sys.setrecursionlimit(100_000)
                nest: list[Any] = []
                for _ in range(5_000):
                    nest = [nest]
                return nest
            case "garbled":
                return "\udcff"
            case _:
                return float(kind)

    def interval(self, path: str, pids: str, go: str) -> list[int]:
        """Start relatives that ignore polite signals, and run until there is a file; note from when to when.

        A second attempt says which of the relatives of the first one are still alive.
        """
        left = [int(pid) for pid in lines(pids) if alive(int(pid))]
        note(path, f"start {os.getpid()} {time.time()}")
        if not lines(pids):
            note(pids, str(os.getpid()))
            start_family(pids)
        self.wait_for(go)
        note(path, f"end {os.getpid()} {time.time()}")
        return left

    def work_on(self, path: str, seconds: float) -> None:
        note(path, f"start {os.getpid()}")
        time.sleep(seconds)
        note(path, f"end {os.getpid()}")


def start_family(path: str) -> None:
    """Start a process and one below it that has left home; both note who they are, and do not end by themselves."""
    if sys.platform == "win32":
        family = [sys.executable, str(Path(__file__).with_name("family.py")), path, "1"]
        quiet = subprocess.DEVNULL
        subprocess.Popen(family, stdin=quiet, stdout=quiet, stderr=quiet)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    command = [sys.executable, "-c", f"import os; os.dup2({descriptor}, 3)\n{FAMILY}"]
    subprocess.Popen(command, pass_fds=[descriptor])


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
