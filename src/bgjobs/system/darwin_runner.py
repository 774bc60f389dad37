"""Tie a runner to its worker: a thread of its own waits for the worker's end."""

from __future__ import annotations

import os
import signal
import sys
import threading

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix_runner import take_death_fd  # noqa: E402 - on this system only


def die_with_parent() -> bool:
    """Have this process and its group killed when the process that started it with `start_child` dies.

    Call it first of all. Does nothing in a process that was started in another way. C code that lets no other Python
    thread run delays it: macOS sends no signal when the writer of a pipe dies. Returns False: no process adopts orphans
    here.
    """
    fd = take_death_fd()
    if fd is not None:
        threading.Thread(target=_kill_group_at_end_of_file, args=(fd, os.getpgrp()), daemon=True).start()
    return False


def ask_for_death_with_parent() -> None:
    """Do nothing: the thread goes on when this process becomes another user."""


def _kill_group_at_end_of_file(fd: int, group: int) -> None:
    try:
        os.read(fd, 1)
    except OSError:
        return  # the job has closed the descriptor; recovery by another worker kills this process
    os.killpg(group, signal.SIGKILL)
