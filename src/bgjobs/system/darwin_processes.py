"""Look at other processes through psutil, since macOS has no /proc."""

from __future__ import annotations

import os
import sys

import psutil

from bgjobs.system.process_facts import ProcessFacts

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has


def birth(pid: int) -> str | None:
    """Return a text that no other process with this pid shares since the machine started; None if it is gone.

    A zombie counts as gone: it runs nothing any more.
    """
    process = look(pid)
    return process.birth if process and process.alive else None


def look(pid: int) -> ProcessFacts | None:
    """Return what is known of a process, a zombie included; None if there is none, or none that we may see."""
    if pid <= 0:  # for some of these calls 0 is the process that asks
        return None
    try:
        process = psutil.Process(pid)
        return ProcessFacts(
            pid=pid,
            birth=f"{process.create_time():.6f}",
            parent=process.ppid(),
            group=os.getpgid(pid),
            session=os.getsid(pid),
            alive=process.status() != psutil.STATUS_ZOMBIE,
        )
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None


def descendants(root: int) -> list[ProcessFacts]:
    """Return the live processes that descend from `root` at this moment.

    What forks or ends meanwhile may be missed: stop the root, and look until twice nothing is found.
    """
    try:
        found = [look(child.pid) for child in psutil.Process(root).children(recursive=True)]
    except psutil.Error:
        return []
    return [process for process in found if process and process.alive]


def pids() -> list[int]:
    """Return the number of every process."""
    return psutil.pids()


def in_session(session: int) -> list[ProcessFacts]:
    """Return the live processes of a session that began as one of bgjobs: its variables are in their environment."""
    found = (look(pid) for pid in pids())
    return [
        process for process in found if process and process.session == session and process.alive and _is_ours(process)
    ]


def _is_ours(process: ProcessFacts) -> bool:
    # A session number is used again once the whole session is gone, and a daemon lives in a session without a leader
    # just as a leftover does. What a runner or its job started got BGJOBS_ variables; another's daemon did not.
    return any(name.startswith("BGJOBS_") for name in environment(process.pid))


def environment(pid: int) -> dict[str, str]:
    """Return the variables with which a process began; none if it is gone, or not ours to look into."""
    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return {}
