"""Adopt what a dead runner leaves: end it, whatever its session, and ask for the exit status of what is dead."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.system.facts import ProcessFacts

assert sys.platform == "linux"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.linux_processes import children_of, descendants, look  # noqa: E402 - on this system only
from bgjobs.system.linux_runner import set_subreaper  # noqa: E402 - on this system only
from bgjobs.system.posix_processes import began_as_ours, kill_until_none  # noqa: E402 - on this system only

_INIT = 1
_MOST_AT_ONCE = 4096


class _Adoption:
    """Whether this process adopts, and which of its children it has started itself."""

    def __init__(self) -> None:
        self.on = False
        self.alone = False  # whether all that is adopted must have been left by a runner
        self.started: set[int] = set()


_adoption = _Adoption()


@contextmanager
def adopting() -> Iterator[None]:
    """Be the process that adopts whatever a dead runner leaves, as long as this lasts.

    A live runner adopts what its own job leaves. So what comes to us was left by a runner that is dead, unless we had
    other children before, or are PID 1, which adopts everything in its container: then only what carries the
    variables of a job is taken for a job's.
    """
    if not set_subreaper(on=True):
        yield  # a kernel or sandbox that refuses it: what runners leave is looked for by its environment
        return
    _adoption.alone = os.getpid() != _INIT and not any(map(_is_alive, children_of(os.getpid())))
    _adoption.on = True
    try:
        yield
    finally:
        _adoption.on = False
        set_subreaper(on=False)


def started(pid: int) -> None:
    """Note a child whose exit status somebody here will ask for."""
    _adoption.started.add(pid)


def let_go(pid: int) -> None:
    """Forget a child that nobody here looks after any more: it counts as adopted from now on."""
    _adoption.started.discard(pid)


def end_adopted() -> bool:
    """Kill all that dead runners have left; return False where this process does not adopt, and nothing was done."""
    if not _adoption.on:
        return False
    if _orphans():
        kill_until_none(_orphans, _may_kill_group)
    reap_adopted()
    return True


def reap_adopted() -> None:
    """Ask for the exit status of the dead children that we have not started: each keeps its pid until somebody does.

    Those that we have started are left to whoever waits for them.
    """
    try:
        for _ in range(_MOST_AT_ONCE):
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            if dead.si_pid in _adoption.started:
                break  # it stays the first that this call finds, so look at the others one by one
            os.waitid(os.P_PID, dead.si_pid, os.WEXITED | os.WNOHANG)
        for pid in children_of(os.getpid()):
            if pid not in _adoption.started:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return


def _is_alive(pid: int) -> bool:
    process = look(pid)
    return process is not None and process.alive


def _orphans() -> list[ProcessFacts]:
    adopted = [look(pid) for pid in children_of(os.getpid()) if pid not in _adoption.started]
    families = [[one, *descendants(one.pid)] for one in adopted if one is not None and one.alive]
    found = {process.pid: process for family in families for process in family}
    if _adoption.alone:
        return list(found.values())
    ours = [process for process in found.values() if began_as_ours(process.pid)]
    return list({p.pid: p for process in ours for p in (process, *descendants(process.pid))}.values())


def _may_kill_group(group: int) -> bool:
    # Sessions are inherited, and each runner begins one. So in a session that is neither ours nor a living runner's
    # there is nothing but what dead runners have left.
    leader = look(group)
    session = leader.session if leader else group
    return _adoption.alone and group != os.getpgrp() and session not in {os.getsid(0), *_adoption.started}
