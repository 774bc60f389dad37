"""Adopt the orphans of dead runners: kill them, whatever their session, and collect their exit status."""

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
from bgjobs.system.posix_process_tree import began_as_ours, kill_until_none  # noqa: E402 - on this system only

_INIT = 1
_MOST_AT_ONCE = 4096


class _Adoption:
    """Whether this process adopts orphans, and which of its children it has started itself."""

    def __init__(self) -> None:
        self.on = False
        self.alone = False  # whether every adopted process must have been left by a runner
        self.started: set[int] = set()


_adoption = _Adoption()


@contextmanager
def adopting() -> Iterator[None]:
    """Adopt the orphans of dead runners while the block runs.

    A live runner adopts the orphans of its own job. So what this process adopts was left by a dead runner, unless this
    process had other children before, or is PID 1, which adopts everything in its container: then only processes with
    the variables of a job count.
    """
    if not set_subreaper(on=True):
        yield  # the kernel or a sandbox refuses it: orphans are found by their environment
        return
    _adoption.alone = os.getpid() != _INIT and not any(map(_is_alive, children_of(os.getpid())))
    _adoption.on = True
    try:
        yield
    finally:
        _adoption.on = False
        set_subreaper(on=False)


def started(pid: int) -> None:
    """Note a child whose exit status its owner will collect."""
    _adoption.started.add(pid)


def let_go(pid: int) -> None:
    """Forget a child that has no owner any more: it counts as adopted from now on."""
    _adoption.started.discard(pid)


def end_adopted() -> bool:
    """Kill all orphans of dead runners; return False if this process does not adopt them, and nothing was done."""
    if not _adoption.on:
        return False
    if _orphans():
        kill_until_none(_orphans, _may_kill_group)
    reap_adopted()
    return True


def reap_adopted() -> None:
    """Collect the exit status of dead children that this process has not started: until then each keeps its pid.

    Those that it has started are left to their owners.
    """
    try:
        for _ in range(_MOST_AT_ONCE):
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            if dead.si_pid in _adoption.started:
                break  # this call would return it again, so check the others one by one
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
    # Sessions are inherited, and each runner begins one. So a session that is neither ours nor a live runner's holds
    # nothing but orphans of dead runners.
    leader = look(group)
    session = leader.session if leader else group
    return _adoption.alone and group != os.getpgrp() and session not in {os.getsid(0), *_adoption.started}
