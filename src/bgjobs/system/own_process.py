"""Read and restore what the system keeps for this process: scheduling, user rights, time zone, linking, memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

if sys.platform != "linux":
    import psutil

Rights = tuple[object, ...]
Readers = tuple[Callable[[], object], ...]
Scheduling = tuple[Any, ...]

if sys.platform == "win32":

    def scheduling() -> Scheduling:
        """Return nothing: no function of Python changes the scheduling here."""
        return ()

    def put_back_scheduling(before: Scheduling) -> None:
        """Do nothing."""

    def rights() -> Rights:
        """Return nothing: the user of a process cannot change here."""
        return ()

    def memory() -> int:
        """Return how much memory this process has, in bytes."""
        return int(psutil.Process().memory_info().rss)

    def own_state() -> Readers:
        """Return the functions that read this state: none."""
        return ()

    def read_time_zone() -> None:
        """Do nothing: only the start of a process reads it here."""

    def linking() -> int:
        """Return 0: extension modules are linked in one way only."""
        return 0

    def put_back_linking(before: int) -> None:
        """Do nothing."""

else:
    _IS_ROOT = os.geteuid() == 0

    def scheduling() -> Scheduling:
        """Return how this process is scheduled: its priority, and on Linux its processors and its scheduler."""
        found: Scheduling = (os.getpriority(os.PRIO_PROCESS, 0),)
        if sys.platform == "linux":
            found += (os.sched_getaffinity(0), os.sched_getscheduler(0))
        return found

    def put_back_scheduling(before: Scheduling) -> None:
        """Put back priority and processors. Raises OSError for a priority that only root may set."""
        if sys.platform == "linux":
            os.sched_setaffinity(0, before[1])
        os.setpriority(os.PRIO_PROCESS, 0, before[0])

    def rights() -> Rights:
        """Return users and groups of this process if it is root; only root can change them."""
        return (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()) if _IS_ROOT else ()

    if sys.platform == "linux":
        _PAGE = os.sysconf("SC_PAGE_SIZE")

        def memory() -> int:
            """Return how much memory this process has, in bytes. Raises OSError."""
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * _PAGE

    else:

        def memory() -> int:
            """Return how much memory this process has, in bytes."""
            return int(psutil.Process().memory_info().rss)

    def own_state() -> Readers:
        """Return the functions that read this state, part by part."""
        found: Readers = (partial(os.getpriority, os.PRIO_PROCESS, 0), sys.getdlopenflags)
        if sys.platform == "linux":
            found += (partial(os.sched_getaffinity, 0), partial(os.sched_getscheduler, 0))
        if _IS_ROOT:
            found += (os.getuid, os.geteuid, os.getgid, os.getegid, os.getgroups)
        return found

    def read_time_zone() -> None:
        """Read the time zone from the environment, as a fresh process does."""
        time.tzset()

    def linking() -> int:
        """Return the flags with which extension modules are linked."""
        return sys.getdlopenflags()

    def put_back_linking(before: int) -> None:
        """Put back the flags with which extension modules are linked."""
        sys.setdlopenflags(before)
