"""Jobs that try what the user that they run as may not do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from bgjobs import Queue

TRY_ALL = """
import os
for name, call in {
    "setuid": lambda: os.setuid(0),
    "seteuid": lambda: os.seteuid(0),
    "setreuid": lambda: os.setreuid(0, 0),
    "setgid": lambda: os.setgid(0),
    "setegid": lambda: os.setegid(0),
    "setgroups": lambda: os.setgroups([0]),
    "chroot": lambda: os.chroot("/"),
}.items():
    try:
        call()
    except PermissionError:
        continue
    came_back.append(name)
"""
GET_DEATH_SIGNAL = 2


class Restrained:
    def identity(self) -> dict[str, object]:
        mask = os.umask(0o077)
        os.umask(mask)
        return {
            "pid": os.getpid(),
            "user": [os.getuid(), os.geteuid()],
            "group": [os.getgid(), os.getegid()],
            "groups": sorted(os.getgroups()),
            "umask": mask,
            "place": os.getcwd(),
            "environment": dict(os.environ),
        }

    def threads(self) -> list[str]:
        """Say which numbers of users and groups the system has for each thread."""
        found = []
        for status in Path("/proc/self/task").glob("*/status"):
            lines = status.read_text("utf-8").splitlines()
            found += [line for line in lines if line.startswith(("Uid:", "Gid:", "CapPrm:", "CapEff:"))]
        return found

    def death_signal(self) -> int:
        number = ctypes.c_int()
        ctypes.CDLL(None).prctl(GET_DEATH_SIGNAL, ctypes.byref(number), 0, 0, 0)
        return number.value

    def come_back(self) -> list[str]:
        """Try to get other rights, here, in another thread and in a program; return what could be done."""
        came_back: list[str] = []
        exec(TRY_ALL, {"came_back": came_back})
        thread = threading.Thread(target=exec, args=(TRY_ALL, {"came_back": came_back}))
        thread.start()
        thread.join()
        script = f"came_back = []\n{TRY_ALL}\nprint(*came_back)"
        found = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
        return came_back + found.stdout.split()

    def reach(self, paths: list[str]) -> list[str]:
        """Return which of these files and directories can be read, and which be written."""
        reached = []
        for path in paths:
            for way in (os.O_RDONLY, os.O_WRONLY):
                with contextlib.suppress(PermissionError, IsADirectoryError):
                    os.close(os.open(path, way))
                    reached.append(path)
            with contextlib.suppress(PermissionError, NotADirectoryError):
                Path(path, "planted").touch()
                reached.append(path)
        return reached

    def write(self, path: str) -> None:
        Path(path).write_text("mine\n", "utf-8")

    def descriptors(self) -> dict[str, str]:
        found = {}
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the one that lists them
                found[number] = os.readlink(f"/proc/self/fd/{number}")
        return found

    def look_into_parent(self) -> str:
        """Let a program that has the same rights open the memory of this process."""
        script = "import os; open(f'/proc/{os.getppid()}/mem', 'rb')"
        done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)
        return done.stderr.splitlines()[-1] if done.returncode else "it could"

    def read_terminal(self) -> list[str]:
        """Try to read what is typed on the terminal that errors go to."""
        found = [str(os.isatty(2))]
        for number in (1, 2):
            try:
                found.append(os.read(number, 100).decode())
            except OSError as error:
                found.append(type(error).__name__ + str(error.errno))
        return found

    def hold_on(self, path: str) -> None:
        """Start a child, and hold the interpreter's lock in C for a year."""
        child = subprocess.Popen(["sleep", "600"])
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n{child.pid}\n")
        re.match(r"(a*)*b", "a" * 40)

    def submit(self) -> str:
        return Queue.open().submit("Root", "identity").id

    def fail(self) -> None:
        raise ValueError("no luck")
