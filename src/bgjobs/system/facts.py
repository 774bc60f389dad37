"""What a system tells about a process or a disk: plain values."""

from __future__ import annotations

from typing import NamedTuple


class ProcessFacts(NamedTuple):
    """One process at one moment. `birth` tells it from every other one that had this pid since the machine started."""

    pid: int
    birth: str  # a text: the start time, as the system counts it
    parent: int
    group: int
    session: int
    alive: bool  # False: a zombie, dead but for the exit status that its parent has not asked for
    stopped: bool  # by a signal, a terminal or a debugger: it does nothing until it is continued


class Marked(NamedTuple):
    """A process that began for a spool: a job started it (`job_id`), or it is a runner or a fork of one (`runner`)."""

    process: ProcessFacts
    job_id: str
    runner: str


class DiskFacts(NamedTuple):
    """The file system of a directory. What the system does not say is empty or None."""

    kind: str  # ext4, xfs, apfs, …
    network: bool  # in another machine, or shared with one
    volatile: bool  # in memory: gone with the power
    journal: bool | None  # whether a journal orders its writes, where that is known
    mounts_below: tuple[str, ...]  # other file systems, or other parts of this one, that are mounted inside
