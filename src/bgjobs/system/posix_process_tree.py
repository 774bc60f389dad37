"""Kill process trees: a process with all that it started, found by descent, by session or by environment.

Who kills: a worker its own runners, when `worker/assignment.py` says so (`step_due`), by way of `Child.kill_tree`; a
worker that recovers those of a dead one (`spool/recover.py`); a runner that leaves what it has started itself;
`bgjobs doctor --repair` what nobody else has ended.

The environment of a process is that of the program it runs, as it was when that began. A runner has one that names its
worker (`RUNNER`), and so has what a job forked without starting another program; what was started as a program has the
job's `BGJOBS_ID`. A process that was given an environment without either is not found by it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.facts import Marked, ProcessFacts  # noqa: E402 - on this system only
from bgjobs.system.posix_runner import DEATH_FD, RUNNER  # noqa: E402 - on this system only

if sys.platform == "darwin":
    from bgjobs.system.darwin_processes import birth, descendants, environment, look, pids
else:
    from bgjobs.system.linux_processes import birth, descendants, environment, look, pids


# How long to go on killing: a process in the middle of a disk or network operation dies only after it.
_PATIENCE_S = 2.0
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05

# For the system calls 0 and negative numbers mean whole groups; 1 is the first process of the machine.
_LOWEST_PID = 2


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants; return when they are dead, or after some seconds of trying.

    Descendants in sessions of their own are found while the process lives. Does nothing if it is dead.
    """
    root = look(pid) if pid >= _LOWEST_PID else None
    if root is None or not root.alive:
        return
    # A stopped root starts nothing more, but still adopts those whose parents die, so they can be found.
    # Only the group of a session leader is known to hold nothing but its own descendants.
    leads = root.session == pid
    if _send_group(pid, signal.SIGSTOP) if leads else _send(pid, signal.SIGSTOP):
        kill_until_none(lambda: descendants(pid), lambda group: leads and group != pid)
        kill_until_none(lambda: _still_alive(pid, root.birth), lambda _: leads)


def kill_leftover(pid: int, birth: str) -> bool:
    """Kill what is left of the runner with this pid and birth; return True when nothing of it is alive.

    If the runner is gone, the remaining processes of its session are killed. If another process has got its pid, the
    session must have ended before, and nothing is killed.
    """
    if pid < _LOWEST_PID or pid in {os.getpid(), os.getsid(0)}:
        return True
    if _still_alive(pid, birth):
        kill_tree(pid)
    return kill_until_none(lambda: _remains(pid, birth), lambda _: True)


def kill_orphan(pid: int, birth: str, spool: str) -> None:
    """Kill what is left of another worker's runner, which a file of the spool names, if the file is right.

    Anyone who can write to the spool can write such a file, and name any process. So nothing is killed that was not
    started for this spool: as a runner, or by a job in the session of a runner that is gone.
    """
    runner = _still_alive(pid, birth)
    marks = (DEATH_FD,) if runner else (DEATH_FD, "BGJOBS_ID")
    if any(_began_for(process.pid, spool, marks) for process in runner or _remains(pid, birth)):
        kill_leftover(pid, birth)


def _began_for(pid: int, spool: str, marks: tuple[str, ...]) -> bool:
    """Tell by the initial environment of a process whether it was started for this spool, with one of these marks."""
    found = environment(pid)
    return any(name in found for name in marks) and is_same(found.get("BGJOBS_SPOOL", ""), spool)


def began_as_ours(pid: int) -> bool:
    """Tell by the initial environment of a process whether it was started as a runner or by a job."""
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
    return [] if holder and holder.birth != birth else _in_session(pid)


def _in_session(session: int) -> list[ProcessFacts]:
    """Return the live processes of a session that were started by bgjobs: their environment has its variables."""
    everyone = filter(None, map(look, pids()))
    return [process for process in everyone if process.session == session and process.alive and _is_ours(process)]


def _is_ours(process: ProcessFacts) -> bool:
    # A session id is reused once the whole session is gone, and a daemon lives in a session without a leader just as
    # a leftover does. What a runner or its job started has BGJOBS_ variables; a daemon of others has not.
    return any(name.startswith("BGJOBS_") for name in environment(process.pid))


def kill_until_none(find: Callable[[], list[ProcessFacts]], as_a_group: Callable[[int], bool]) -> bool:
    """Kill what `find` returns, until that is nothing twice in a row: one search can miss a fork.

    `as_a_group` tells which process groups may be killed whole. Returns False if some processes did not die.
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
        # This also reaches the child of a process that forked and exited after it was found: no fork escapes it.
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
    """Kill all descendants of this process, in whatever session."""
    kill_until_none(lambda: descendants(os.getpid()), lambda _: False)


_MOST_SCANS = 50


def marked(spool: str) -> list[Marked]:
    """Return the live processes that were started for this spool: runners, their forks, and what jobs started.

    Without this process and its ancestors: a job itself may have started this command.
    """
    found: list[Marked] = []
    seen = set(_own_line())
    for _ in range(_MOST_SCANS):
        # The newest first: a process that forks and exits all the time soon has another pid. If one has ended before it
        # was checked, it may have forked, and the fork was not listed: then scan again.
        fresh = sorted({*pids()} - seen, reverse=True)
        found += [one for pid in fresh if (one := _mark_of(pid, spool)) is not None]
        seen.update(fresh)
        if all(map(_is_there, fresh)):
            break
    return found


def kill_marked(spool: str, *, runner: str) -> list[int]:
    """Kill what the runners whose mark begins with `runner` have started; return the pids that did not die.

    Descendants are killed too, in whatever session. Nothing is killed that was not started for this spool.
    """
    return kill_marked_where(spool, lambda one: _is_of(one.runner, runner))


def kill_marked_where(spool: str, is_wanted: Callable[[Marked], bool]) -> list[int]:
    """Kill the marked processes of this spool that are wanted, with their descendants, as `kill_marked` does."""
    own = _own_line()
    sessions: dict[int, int] = {}

    def find() -> list[ProcessFacts]:
        families = ((one.process, *descendants(one.process.pid)) for one in marked(spool) if is_wanted(one))
        found = [process for family in families for process in family if process.pid not in own]
        sessions.update((process.group, process.session) for process in found)
        return found

    def may_kill_group(group: int) -> bool:
        # Killing a group whole reaches what forks and exits between two searches. It may be killed if its leader is
        # wanted, or has ended after it began a session, as daemons do: then it holds nothing but descendants.
        if group == os.getpgrp() or group in own:
            return False
        if look(group) is None:
            return sessions[group] == group
        leader = _mark_of(group, spool)
        return leader is not None and is_wanted(leader)

    if kill_until_none(find, may_kill_group):
        return []
    return sorted({process.pid for process in find()})


def runners_above(pid: int) -> list[str]:
    """Return the marks of the runners and their forks among the ancestors of a process."""
    return [mark for above in _upwards(pid) if above != pid and (mark := environment(above).get(RUNNER, ""))]


def _is_there(pid: int) -> bool:
    process = look(pid)
    return process is not None and process.alive


def _is_of(mark: str, runner: str) -> bool:
    return bool(runner) and (mark == runner or mark.startswith(f"{runner}-"))


def _mark_of(pid: int, spool: str) -> Marked | None:
    began = environment(pid)
    place, job_id, runner = began.get("BGJOBS_SPOOL"), began.get("BGJOBS_ID", ""), began.get(RUNNER, "")
    if place is None or not (job_id or runner) or not is_same(place, spool):
        return None
    process = look(pid)
    return Marked(process, job_id, runner) if process and process.alive else None


def _own_line() -> frozenset[int]:
    """Return the pids of this process and its ancestors."""
    return frozenset(_upwards(os.getpid()))


def _upwards(pid: int) -> Iterator[int]:
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        yield pid
        process = look(pid)
        pid = process.parent if process else 0
