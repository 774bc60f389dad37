"""What the system keeps for this process and what code in it can change: scheduling, rights, time zone, linking."""

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
        """Return how this process is scheduled: nothing, for no function of Python changes it here."""
        return ()

    def put_back_scheduling(before: Scheduling) -> None:
        """Do nothing."""

    def rights() -> Rights:
        """Return whose rights this process has: those of its user, for good."""
        return ()

    def memory() -> int:
        """Return how much memory this process has, in bytes."""
        return int(psutil.Process().memory_info().rss)

    def own_state() -> Readers:
        """Return the functions that read all of this, one by one: none."""
        return ()

    def read_time_zone() -> None:
        """Do nothing: only the start of a process reads it here."""

    def linking() -> int:
        """Return how extension modules are linked: in one way only."""
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
        """Bring back priority and processors. Raises OSError for a priority that only root may have."""
        if sys.platform == "linux":
            os.sched_setaffinity(0, before[1])
        os.setpriority(os.PRIO_PROCESS, 0, before[0])

    def rights() -> Rights:
        """Return whose rights this process has: users and groups, if it is root. No other can change its own."""
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
        """Return the functions that read all of this, one by one."""
        found: Readers = (partial(os.getpriority, os.PRIO_PROCESS, 0), sys.getdlopenflags)
        if sys.platform == "linux":
            found += (partial(os.sched_getaffinity, 0), partial(os.sched_getscheduler, 0))
        if _IS_ROOT:
            found += (os.getuid, os.geteuid, os.getgid, os.getegid, os.getgroups)
        return found

    def read_time_zone() -> None:
        """Take the time zone from the environment, as a fresh process does."""
        time.tzset()

    def linking() -> int:
        """Return how extension modules are linked when they are loaded."""
        return sys.getdlopenflags()

    def put_back_linking(before: int) -> None:
        """Bring that back."""
        sys.setdlopenflags(before)
