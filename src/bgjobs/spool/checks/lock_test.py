"""Whether locks do here what the queue needs of them: tried with two processes, one of which is killed."""

from __future__ import annotations

import subprocess
import sys
from threading import Timer

from bgjobs.spool.locks import life_lock, taken

COMMAND = ("-P", "-X", "utf8", "-m", "bgjobs.spool.checks.lock_child")
ANSWERS_S = 30.0  # a busy machine needs a while to start Python
FREED_S = 5.0
BOTH = "two processes held the same lock at the same time"


class UntriedError(Exception):
    """Why the locks could not be tried."""


def trouble(path: str) -> str:
    """Return what is wrong with locks on the file at this path, or nothing.

    Raises UntriedError when that could not be tried, and OSError where there are no locks.
    """
    ours = life_lock(path)
    if not taken(ours, 0):
        return "another process holds the lock of a file that was made a moment ago"
    child = subprocess.Popen(
        [sys.executable, *COMMAND, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = Timer(ANSWERS_S, child.kill)
    deadline.start()
    try:
        if (answer := _asked(child)) != "refused":
            if not answer:
                raise UntriedError("the second process of the self-test did not answer")
            return BOTH
        ours.release()
        if _asked(child) != "taken":
            return "a lock that was released could not be taken by another process"
        if taken(ours, 0):
            return BOTH
        child.kill()
        return "" if taken(ours, FREED_S) else "the lock of a killed process is not freed"
    finally:
        deadline.cancel()
        child.kill()
        child.communicate()
        ours.release()


def _asked(child: subprocess.Popen[str]) -> str:
    """Let the other process try, and return what came of it; nothing if it has died."""
    assert child.stdin  # noqa: S101 - it was started with pipes
    assert child.stdout  # noqa: S101 - it was started with pipes
    try:
        child.stdin.write("try\n")
        child.stdin.flush()
    except OSError:
        return ""
    return child.stdout.readline().strip()
