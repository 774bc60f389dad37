"""Find and end what the jobs of a spool have started, by the environment with which each process began.

The environment of a process is that of the program it runs, as it was when that began. A runner has one that names its
worker (`RUNNER`), and so has what a job forked without starting another program; what was started as a program has the
job's `BGJOBS_ID`. A process that was given an environment without either is not found.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix_killing import is_same, kill_until_none  # noqa: E402 - on this system only
from bgjobs.system.posix_processes import descendants, environment, look, pids  # noqa: E402 - on this system only
from bgjobs.system.posix_runner import RUNNER  # noqa: E402 - on this system only
from bgjobs.system.process_facts import Marked, ProcessFacts  # noqa: E402 - on this system only

_MOST_LOOKS = 50


def marked(spool: str) -> list[Marked]:
    """Return the live processes that began for this spool, as a runner or as what a job started.

    Without this process and those that it descends from: whoever looks may have been started by a job itself.
    """
    found: list[Marked] = []
    seen = set(_own_line())
    for _ in range(_MOST_LOOKS):
        # The newest first: a process that forks and ends all the time has another number a moment later. One that ended
        # before it was looked at may have forked, but then that one is not among those that were seen.
        fresh = sorted({*pids()} - seen, reverse=True)
        found += [one for pid in fresh if (one := _mark_of(pid, spool)) is not None]
        seen.update(fresh)
        if all(map(_is_there, fresh)):
            break
    return found


def kill_marked(spool: str, *, runner: str) -> list[int]:
    """Kill what the runners whose mark begins with `runner` have started; return what would not die.

    All that descends from it goes with it, in whatever session. Nothing is touched that did not begin for this spool.
    """
    return kill_marked_where(spool, lambda one: _is_of(one.runner, runner))


def kill_marked_where(spool: str, is_wanted: Callable[[Marked], bool]) -> list[int]:
    """Kill those that began for this spool and are wanted, with all that descends from them, as `kill_marked` does."""
    own = _own_line()
    sessions: dict[int, int] = {}

    def find() -> list[ProcessFacts]:
        families = ((one.process, *descendants(one.process.pid)) for one in marked(spool) if is_wanted(one))
        found = [process for family in families for process in family if process.pid not in own]
        sessions.update((process.group, process.session) for process in found)
        return found

    def may_kill_group(group: int) -> bool:
        # A group is killed whole because that reaches what forks and ends between two looks: one whose leader is
        # wanted itself, or has ended after it began a session, as daemons do. Either holds nothing but descendants.
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
    """Return the marks of the runners, and of what they forked, from which a process descends."""
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
    """Return this process and those that it descends from."""
    return frozenset(_upwards(os.getpid()))


def _upwards(pid: int) -> Iterator[int]:
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        yield pid
        process = look(pid)
        pid = process.parent if process else 0
