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
    """Have this process and its group killed when the process that started it with `start_child` dies.

    Call it first of all. Does nothing in a process that was started in another way. Returns whether this process adopts
    its orphaned descendants: then `children` sees every live process that was started.
    """
    fd = take_death_fd()
    if fd is None:
        return False
    group = os.getpgrp()
    _kill_group_when_pipe_breaks(fd, group)
    # Processes that fork twice stay visible as children of this one.
    adopts = set_subreaper(on=True)
    if adopts:
        # What a job starts is found as a child of this process, or later of the worker, so no job needs this variable.
        # It stays in what the kernel shows of this process and its forks.
        os.environ.pop(RUNNER, None)
    ask_for_death_with_parent()
    # The parent may have died before the kernel was asked.
    watch = select.poll()
    watch.register(fd, 0)
    if watch.poll(0):
        os.killpg(group, signal.SIGKILL)
    return adopts


def _kill_group_when_pipe_breaks(fd: int, group: int) -> None:
    # Nothing is ever written to this pipe: its only possible event is that its only writer is gone. The kernel then
    # sends the signal itself, also while C code keeps every Python thread from running.
    fcntl.fcntl(fd, fcntl.F_SETOWN, -group)
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


# These two are a second safeguard, so a kernel or sandbox that refuses them does not keep jobs from running.


def ask_for_death_with_parent() -> None:
    """Ask for a signal at the death of the parent; needed again after this process has become another user.

    It kills this process alone, but even if a job has closed the pipe. A dying parent closes its files before its
    children are signalled, so the group is killed first.
    """
    _ask_kernel(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_subreaper(*, on: bool) -> bool:
    """Let this process adopt its orphaned descendants, or stop that; return whether the kernel agreed."""
    return _ask_kernel(_PR_SET_CHILD_SUBREAPER, int(on))


def _ask_kernel(option: int, value: int) -> bool:
    nothing = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), nothing, nothing, nothing) == 0)
