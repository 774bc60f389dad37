"""Kill a process with all that it started, on systems where each of them has to be found first."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.system.process_facts import ProcessFacts

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix_processes import birth, descendants, environment, in_session, look  # noqa: E402 - as above
from bgjobs.system.posix_runner import DEATH_FD, RUNNER  # noqa: E402 - as above

# How long to kill what does not die: a process in the middle of a disk or network operation ends only after it.
_PATIENCE_S = 2.0
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05

# To the system calls 0 and negative numbers mean whole groups; 1 started the machine, and never was a runner.
_LOWEST_PID = 2


def kill_tree(pid: int) -> None:
    """Kill a process and all that descends from it; return when they are dead, or after some seconds of trying.

    Descendants in sessions of their own are found as long as the process lives. Does nothing if it does not.
    """
    root = look(pid) if pid >= _LOWEST_PID else None
    if root is None or not root.alive:
        return
    # Stopped, the root starts nothing more, and yet it takes in those whose parents die: they stay in view.
    # Only of a session leader is it known that its groups hold nothing but its own descendants.
    leads = root.session == pid
    if _send_group(pid, signal.SIGSTOP) if leads else _send(pid, signal.SIGSTOP):
        kill_until_none(lambda: descendants(pid), lambda group: leads and group != pid)
        kill_until_none(lambda: _still_alive(pid, root.birth), lambda _: leads)


def kill_leftover(pid: int, birth: str) -> bool:
    """Kill what is left of a runner that was `pid`, born at `birth`; return True when nothing of it is alive.

    If the runner is gone, that is what stayed in its session. If another process has got its number, the session
    must have ended before, and nothing is touched.
    """
    if pid < _LOWEST_PID or pid in {os.getpid(), os.getsid(0)}:
        return True
    if _still_alive(pid, birth):
        kill_tree(pid)
    return kill_until_none(lambda: _remains(pid, birth), lambda _: True)


def kill_orphan(pid: int, birth: str, spool: str) -> None:
    """Kill what is left of a runner of another worker, if the note that names it is true.

    Whoever can write to the spool can write such a note, and name any process. So nothing is touched that was not
    started for this spool: as a runner, or within the session of one that is gone, by a job.
    """
    runner = _still_alive(pid, birth)
    marks = (DEATH_FD,) if runner else (DEATH_FD, "BGJOBS_ID")
    if any(_began_for(process.pid, spool, marks) for process in runner or _remains(pid, birth)):
        kill_leftover(pid, birth)


def _began_for(pid: int, spool: str, marks: tuple[str, ...]) -> bool:
    """Tell by the environment with which a process began whether it did so for this spool, with one of these names."""
    found = environment(pid)
    return any(name in found for name in marks) and is_same(found.get("BGJOBS_SPOOL", ""), spool)


def began_as_ours(pid: int) -> bool:
    """Tell by the environment with which a process began whether that was as a runner, or by a job."""
    return any(name in environment(pid) for name in (RUNNER, DEATH_FD, "BGJOBS_ID"))


def is_same(path: str, other: str) -> bool:
    """Tell whether two paths lead to the same directory."""
    try:
        return path == other or os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _still_alive(pid: int, birth: str) -> list[ProcessFacts]:
    process = look(pid)
    return [process] if process and process.birth == birth and process.alive else []


def _remains(pid: int, birth: str) -> list[ProcessFacts]:
    holder = look(pid)
    return [] if holder and holder.birth != birth else in_session(pid)


def kill_until_none(find: Callable[[], list[ProcessFacts]], as_a_group: Callable[[int], bool]) -> bool:
    """Kill what `find` finds, until it finds nothing twice in a row: one look can miss what forks and ends at once.

    `as_a_group` tells which process groups may be killed whole. Return False if some would not die.
    """
    give_up = time.monotonic() + _PATIENCE_S
    pause = _FIRST_PAUSE_S
    nothing_found = 0
    while nothing_found < 2:  # noqa: PLR2004 - twice in a row, as said above
        found = find()
        nothing_found = 0 if found else nothing_found + 1
        for process in found:
            _kill(process, as_a_group=as_a_group(process.group))
        if found:
            if time.monotonic() > give_up:
                return False
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
    return True


def _kill(process: ProcessFacts, *, as_a_group: bool) -> None:
    if as_a_group:
        # Reaches also the child of a process that forked and ended after it was found: no fork escapes this call.
        _send_group(process.group, signal.SIGKILL)
    elif birth(process.pid) == process.birth:
        _send(process.pid, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _send_group(group: int, number: signal.Signals) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_descendants() -> None:
    """Kill all that descends from this process, in whatever session."""
    kill_until_none(lambda: descendants(os.getpid()), lambda _: False)
