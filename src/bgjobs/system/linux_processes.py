"""Inspect other processes through /proc.

Not through psutil: a worker must be able to kill when it is out of descriptors, and loading psutil takes some 10 ms.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from bgjobs.system.facts import ProcessFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

assert sys.platform == "linux"  # noqa: S101 - tells the type checker which names the system has

PROC = "/proc"


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
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def parse_stat(line: bytes) -> ProcessFacts:
    """Read the one line of /proc/PID/stat, in which the name of the program may hold spaces and parentheses."""
    before, _, after = line.rpartition(b")")
    state, parent, group, session, *more = after.split()
    threads, started = int(more[13]), more[15]
    return ProcessFacts(
        pid=int(before.partition(b" ")[0]),
        birth=started.decode("ascii"),
        parent=int(parent),
        group=int(group),
        session=int(session),
        # A process whose first thread has ended looks like a zombie while its other threads run on.
        alive=state not in (b"Z", b"X") or threads > 1,
        stopped=state in (b"T", b"t"),
    )


def descendants(root: int) -> list[ProcessFacts]:
    """Return the live processes that descend from `root` at this moment.

    A process that forks or exits meanwhile may be missed: stop the root, and search until twice nothing is found.
    """
    children = _children()
    found: dict[int, ProcessFacts] = {}
    heads = [root]
    while heads:
        head = heads.pop()
        for process in map(look, children(head)):
            if process and process.parent == head and process.pid not in found:
                found[process.pid] = process
                heads.append(process.pid)
    return [process for process in found.values() if process.alive]


def children_of(pid: int) -> list[int]:
    """Return the children of a process, dead ones included."""
    return list(_children()(pid))


def _children() -> Callable[[int], Iterable[int]]:
    return _children_as_listed if _kernel_lists_children() else _children_as_scanned()


def _kernel_lists_children() -> bool:
    return os.path.exists(f"{PROC}/self/task/{os.getpid()}/children")


def _children_as_listed(parent: int) -> Iterable[int]:
    try:
        threads = os.listdir(f"{PROC}/{parent}/task")
    except OSError:
        return []
    return [pid for thread in threads for pid in _children_of_thread(parent, thread)]


def _children_of_thread(parent: int, thread: str) -> list[int]:
    try:
        with open(f"{PROC}/{parent}/task/{thread}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _children_as_scanned() -> Callable[[int], Iterable[int]]:
    children: dict[int, list[int]] = {}
    for process in _everyone():
        children.setdefault(process.parent, []).append(process.pid)
    return lambda parent: children.get(parent, [])


def pids() -> list[int]:
    """Return the number of every process."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]


def _everyone() -> Iterable[ProcessFacts]:
    found = map(look, pids())
    return (process for process in found if process)


def environment(pid: int) -> dict[str, str]:
    """Return the initial environment of a process; empty if it is gone, or may not be read."""
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            written = file.read()
    except OSError:
        return {}
    pairs = (os.fsdecode(line).partition("=") for line in written.split(b"\0"))
    return {name: value for name, _, value in pairs}
