"""What a runner asks of its own process, on Linux and macOS alike."""

from __future__ import annotations

import os
import sys

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# The environment variable that hands over the number of the death pipe's descriptor.
DEATH_FD = "BGJOBS_DEATH_FD"

# The one with the mark of a runner: its worker, and what tells it from the other runners of that one.
RUNNER = "BGJOBS_RUNNER"


def take_death_fd() -> int | None:
    """Take the death pipe's descriptor out of the environment, and keep what this process starts from having it."""
    number = os.environ.pop(DEATH_FD, None)
    if number is None:
        return None
    os.set_inheritable(int(number), False)  # noqa: FBT003 - the standard library wants it without a name
    return int(number)


def children() -> bool:
    """Tell whether this process has live children, and ask for the exit status of those that are dead."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
