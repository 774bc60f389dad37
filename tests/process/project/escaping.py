"""Jobs that start what has left their session, each in its own way, and end in ways of their own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# No test waits as long as that. What a test leaves behind because it was itself killed must end by itself.
MOST_S = 100.0

CHILD = f"""
import os, sys, time
with open(sys.argv[1], "a") as file:
    file.write(f"{{os.getpid()}}\\n")
time.sleep({MOST_S})
"""
LEAVES = f"""
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    subprocess.Popen([sys.executable, "-c", {CHILD!r}, sys.argv[1]])
"""


def lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines() if os.path.exists(path) else []


def say(path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")


def stay(path: str) -> None:
    say(path)
    time.sleep(MOST_S)
    os._exit(0)


def stay_as_another(path: str) -> None:
    # Whoever cannot get this lock knows that one of them is alive: no list of processes would show which one.
    fcntl.flock(os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    say(path)
    end = time.monotonic() + MOST_S
    while time.monotonic() < end:  # the child goes on and the parent ends: no two looks see the same pid
        if os.fork():
            os._exit(0)
        time.sleep(0.002)
    os._exit(0)


def fork(path: str, *, twice: bool, restless: bool) -> None:
    child = os.fork()
    if child == 0:
        os.setsid()
        if twice and os.fork():
            os._exit(0)
        if restless:
            stay_as_another(path)
        stay(path)
    elif twice:
        os.waitpid(child, 0)


def start(how: str, path: str) -> None:
    """Start a process in a session of its own that outlives its test, and wait until it has said its pid."""
    before = len(lines(path))
    quiet = subprocess.DEVNULL
    environ = {"PATH": os.environ.get("PATH", "")} if how == "wiped" else None
    match how:
        case "session" | "wiped":
            command = [sys.executable, "-c", CHILD, path]
            subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environ, start_new_session=True)
        case "daemon":
            subprocess.run([sys.executable, "-c", LEAVES, path], stdin=quiet, stdout=quiet, stderr=quiet, check=True)
        case _:
            fork(path, twice=how == "forked daemon", restless=how == "always another")
    while len(lines(path)) == before:
        time.sleep(0.005)


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Escaping:
    def leave_and_wait(self, how: str, path: str, go: str) -> list[str]:
        """Start one, the first time; then wait for a file. A second attempt says which one is still there."""
        left = [pid for pid in lines(path) if alive(pid)]
        if not lines(path):
            start(how, path)
        while not os.path.exists(go):
            time.sleep(0.005)
        return left

    def leave_and_die(self, how: str, path: str) -> list[str]:
        """Start one and end the whole process, the first time. A second attempt says which one is still there."""
        left = [pid for pid in lines(path) if alive(pid)]
        if not lines(path):
            start(how, path)
            os._exit(3)
        return left

    def leave_and_return(self, how: str, path: str) -> None:
        start(how, path)

    def look(self, config: str) -> str:
        """Start one, and return what `bgjobs doctor` says meanwhile."""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        command = [sys.executable, "-m", "bgjobs", "doctor", "--repair", "--json", "--config", config]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout
        if child.poll() is not None:
            raise RuntimeError("the process that this job has started was ended")
        return said.decode()

    def leave_many(self, count: int) -> None:
        """End the whole process, and leave so many others."""
        for _ in range(count):
            if os.fork() == 0:
                os.setsid()
                time.sleep(MOST_S)
                os._exit(0)
        os._exit(3)
