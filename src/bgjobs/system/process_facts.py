"""What there is to know about a process that may have to be killed."""

from __future__ import annotations

from typing import NamedTuple


class ProcessFacts(NamedTuple):
    """One process at one moment. `birth` tells it from every other one that had this pid since the machine started."""

    pid: int
    birth: str
    parent: int
    group: int
    session: int
    alive: bool  # False: a zombie, dead but for the exit status that its parent has not asked for


class Marked(NamedTuple):
    """A process that began for a spool: a job started it (`job_id`), or it is a runner or a fork of one (`runner`)."""

    process: ProcessFacts
    job_id: str
    runner: str
