"""Kill process trees that this process did not start; what it did start ends with its job object."""

from __future__ import annotations

import contextlib
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.system.facts import Marked

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_PATIENCE_S = 2.0
_MODULE = "bgjobs.worker.child.main"  # stands in the command line of every runner


def birth(pid: int) -> str | None:
    """Return a text that no other process with this pid shares since the machine started; None if it is gone."""
    if pid < 0:
        return None
    try:
        process = psutil.Process(pid)
        return f"{process.create_time():.6f}" if process.is_running() else None
    except psutil.Error:
        return None


def is_stopped(pid: int, birth: str) -> bool:
    """Tell whether the process with this pid and birth lives, and does nothing until it is continued."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED and _birth_of(pid) == birth
    except (psutil.Error, ValueError):
        return False


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants, as far as live parents connect them."""
    if pid <= 0:
        return
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        root.suspend()  # it starts nothing more
        while family := root.children(recursive=True):
            _kill(family)
            if psutil.wait_procs(family, _PATIENCE_S)[1]:
                break
        _kill([root])
        psutil.wait_procs([root], _PATIENCE_S)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_leftover(pid: int, birth: str) -> bool:
    """Kill the runner with this pid and birth if it lives; return True when it is dead.

    What it started cannot outlive it: its job object has ended them all.
    """
    if _birth_of(pid) == birth:
        kill_tree(pid)
    return _birth_of(pid) != birth


def kill_orphan(pid: int, birth: str, spool: str) -> None:
    """Kill another worker's runner, which a file of the spool names, if the file is right.

    Anyone who can write to the spool can write such a file, and name any process. So nothing is killed that was not
    started as a runner for this spool.
    """
    try:
        process = psutil.Process(pid)
        began = process.environ().get("BGJOBS_SPOOL", ""), process.cmdline()
    except (psutil.Error, OSError, OverflowError):
        return
    if os.path.normcase(began[0]) == os.path.normcase(spool) and _MODULE in began[1]:
        kill_leftover(pid, birth)


def marked(spool: str) -> list[Marked]:
    """Return nothing: what a job starts ends with the job object of its runner."""
    del spool
    return []


def kill_marked(spool: str, *, runner: str) -> list[int]:
    """Return nothing: there is nothing to kill, as for `marked`."""
    del spool, runner
    return []


def kill_marked_where(spool: str, is_wanted: Callable[[Marked], bool]) -> list[int]:
    """Return nothing: there is nothing to kill, as for `marked`."""
    del spool, is_wanted
    return []


def runners_above(pid: int) -> list[str]:
    """Return nothing: only marked processes have runners above them."""
    del pid
    return []


_birth_of = birth


def kill_descendants() -> None:
    """Do nothing: the job object of a process ends with it."""


def adopting() -> AbstractContextManager[None]:
    """Do nothing."""
    return nullcontext()


def reap_adopted() -> None:
    """Do nothing: a dead process keeps nothing here."""
