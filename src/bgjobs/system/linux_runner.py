"""Tie a runner to its worker: the kernel kills it when the worker dies, whatever it is doing."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys

assert sys.platform == "linux"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix_runner import RUNNER, take_death_fd  # noqa: E402 - on this system only

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent() -> bool:
    """Have this process and its group killed at the moment when the one that started it with `start_child` dies.

    To be called first thing. Does nothing in a process that was started in another way. Returns whether this process
    adopts all whose parents die: then `children` sees whatever was started and still lives.
    """
    fd = take_death_fd()
    if fd is None:
        return False
    group = os.getpgrp()
    _kill_group_when_pipe_breaks(fd, group)
    # It keeps processes that fork twice visible as children of this one.
    adopts = set_subreaper(on=True)
    if adopts:
        # What a job starts is found as our child, and after us as our worker's, so no job needs to see this. It stays
        # in what the kernel shows of this process and its forks.
        os.environ.pop(RUNNER, None)
    ask_for_death_with_parent()
    # The parent may have died before the kernel was asked to tell.
    watch = select.poll()
    watch.register(fd, 0)
    if watch.poll(0):
        os.killpg(group, signal.SIGKILL)
    return adopts


def _kill_group_when_pipe_breaks(fd: int, group: int) -> None:
    # Nothing is ever written to this pipe: the one thing that can happen to it is that its only writer is gone.
    # The kernel then sends the signal itself, also while C code keeps every Python thread from running.
    fcntl.fcntl(fd, fcntl.F_SETOWN, -group)
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


# These two are a second line, so a kernel or sandbox that refuses them is no reason to run nothing.


def ask_for_death_with_parent() -> None:
    """Ask for a signal at the death of the parent, once more whenever this process has become another user.

    It ends this process alone, but even if a job closed the pipe; a dying parent closes its files before it lets go of
    its children, so the group goes first.
    """
    _ask_kernel(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_subreaper(*, on: bool) -> bool:
    """Have those become children of this process that descend from it and whose parents die; return whether it does."""
    return _ask_kernel(_PR_SET_CHILD_SUBREAPER, int(on))


def _ask_kernel(option: int, value: int) -> bool:
    nothing = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), nothing, nothing, nothing) == 0)
