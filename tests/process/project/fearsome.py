"""Jobs that harm the machine, their worker, or the spool itself."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext

from filelock import FileLock

from bgjobs import current_job


def note(path: str, line: str) -> None:
    with alone(path), open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def alone(path: str) -> AbstractContextManager[object]:
    """Keep others from writing meanwhile, where the system finds the end of a file first and writes to it second."""
    return FileLock(f"{path}.lock") if sys.platform == "win32" else nullcontext()


class Fearsome:
    def kill_worker(self, path: str) -> None:
        """Take the worker down, as memory that runs out may."""
        note(path, current_job().id)
        os.kill(os.getppid(), getattr(signal, "SIGKILL", 9))  # Windows kills by any number
        time.sleep(60)

    def leave_zombies(self, count: int) -> int:
        """Start processes that end at once and do not ask how, up to this many; return how many that was."""
        for started in range(count):
            try:
                if os.fork() == 0:
                    os._exit(0)
            except BlockingIOError:
                return started  # the machine has no more
        return count

    def start_threads(self, count: int) -> int:
        """Start threads that wait for what never comes, up to this many; return how many that was."""
        never = threading.Event()
        for started in range(count):
            try:
                threading.Thread(target=never.wait, daemon=True).start()
            except RuntimeError:
                return started  # the machine has no more
        return count

    def breed(self, count: int, path: str) -> None:
        """Start processes that start processes, up to this many, none of which ends."""
        for _ in range(count):
            if os.fork() == 0:
                note(path, str(os.getpid()))
                time.sleep(600)
        note(path, str(os.getpid()))
        time.sleep(600)

    def return_much(self, size: int) -> str:
        return "x" * size

    def remove_spool(self) -> None:
        spool = os.environ["BGJOBS_SPOOL"]
        os.unlink(os.path.join(spool, "VERSION"))
        shutil.rmtree(spool, ignore_errors=True)  # as far as we get: the worker kills us when it notices

    def close_spool(self) -> None:
        """Take all rights from the spool and what is in it."""
        for folder, _, names in os.walk(os.environ["BGJOBS_SPOOL"], topdown=False):
            for name in names:
                os.chmod(os.path.join(folder, name), 0)
            os.chmod(folder, 0)

    def write(self, path: str, go: str) -> None:
        """Begin to write to a file again and again once there is another file."""
        note(f"{path}.begun", str(os.getpid()))
        wait_for(go)
        while True:
            note(path, "more")


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)
