"""Inspect other processes through psutil, since macOS has no /proc; and no process adopts orphans there."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext

import psutil

from bgjobs.system.facts import ProcessFacts

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has


def birth(pid: int) -> str | None:
    """Return a text that no other process with this pid shares since the machine started; None if it is gone.

    A zombie counts as gone: it runs no code any more.
    """
    process = look(pid)
    return process.birth if process and process.alive else None


def is_stopped(pid: int, birth: str) -> bool:
    """Tell whether the process with this pid and birth lives, and does nothing until it is continued."""
    process = look(pid)
    return process is not None and process.birth == birth and process.stopped


def look(pid: int) -> ProcessFacts | None:
    """Return the facts about a process, zombies included; None if there is none, or none that this user may see."""
    if pid <= 0:  # for some of these calls 0 is the process that asks
        return None
    try:
        process = psutil.Process(pid)
        status = process.status()
        return ProcessFacts(
            pid=pid,
            birth=f"{process.create_time():.6f}",
            parent=process.ppid(),
            group=os.getpgid(pid),
            session=os.getsid(pid),
            alive=status != psutil.STATUS_ZOMBIE,
            stopped=status == psutil.STATUS_STOPPED,
        )
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None


def descendants(root: int) -> list[ProcessFacts]:
    """Return the live processes that descend from `root` at this moment.

    A process that forks or exits meanwhile may be missed: stop the root, and search until twice nothing is found.
    """
    try:
        found = [look(child.pid) for child in psutil.Process(root).children(recursive=True)]
    except psutil.Error:
        return []
    return [process for process in found if process and process.alive]


def pids() -> list[int]:
    """Return the number of every process."""
    return psutil.pids()


def environment(pid: int) -> dict[str, str]:
    """Return the initial environment of a process; empty if it is gone, or may not be read."""
    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return {}


def adopting() -> AbstractContextManager[None]:
    """Do nothing."""
    return nullcontext()


def started(pid: int) -> None:
    """Do nothing."""


def let_go(pid: int) -> None:
    """Do nothing."""


def end_adopted() -> bool:
    """Return False: nothing was adopted."""
    return False


def reap_adopted() -> None:
    """Do nothing: launchd adopts orphans and collects their exit status."""
