"""What an operation is, and the work that goes into several of them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from bgjobs import clock, disk
from bgjobs.errors import SpoolError
from bgjobs.job import Job, JobError, Outcome, Raised, Succeeded
from tests.crash.world import POLICY, World, until_calm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.lifecycle import Policy
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Claim, Session


HOUR = timedelta(hours=1)
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))
FINAL = Raised(JobError(type="ValueError", message="no such person"), ("ValueError",), final=True)
ANN = "ann@web1"


class Operation:
    """One operation. A new object, in a new process, carries out each case."""

    raises: ClassVar[tuple[type[Exception], ...]] = (OSError, SpoolError)

    def __init__(self, world: World) -> None:
        self.world = world

    def prepare(self) -> None:
        """Make what is there before. Done once, by a process that then dies: it may leave claims behind."""
        self.world.open()

    def ready(self) -> None:
        """Do what the process that is going to die has done before."""

    def act(self) -> None:
        """Do it. Each step on the disk in here is tried."""
        raise NotImplementedError

    def again(self) -> None:
        """Go on after an error, as the program does, once the trouble is over; and leave."""
        raise NotImplementedError


def store(world: World, session: Session, claim: Claim, outcome: Outcome, *, running: Job | None = None) -> None:
    """End an attempt, beginning it if it was not."""
    running = world.begin(session, claim) if running is None else running
    world.finish(session, claim, world.ending(running, outcome))


def drain(world: World, session: Session) -> None:
    """Run all that may run."""

    def nothing_is_left() -> bool:
        session.import_jobs(policy_of)
        for claim in session.claim(10):
            store(world, session, claim, Succeeded())
        handed_in = [name for name in os.listdir(world.spool / "incoming") if name.endswith(".json")]
        return not (handed_in or world.open().unfinished(clock.now()).due)

    until_calm(nothing_is_left)


def policy_of(class_name: str, method: str) -> Policy:
    """Return how jobs that are handed in are to be treated."""
    return POLICY


def finished(world: World, jobs: list[Job]) -> None:
    """Let a worker come, run these jobs, and leave."""
    session = world.join()
    drain(world, session)
    session.leave()


def cancel(world: World, queue: SpoolStore, job_id: str) -> None:
    """Cancel a job, and tell what the answer was."""
    answer = queue.cancel(job_id, ANN)
    world.tell("asked", job_id, answer=answer)


def claim_all(session: Session, count: int) -> list[Claim]:
    """Claim so many jobs, however often it has to be tried."""
    found: list[Claim] = []

    def enough() -> bool:
        found.extend(session.claim(count - len(found)))
        return len(found) == count

    until_calm(enough)
    return found


def take_over_all(world: World, session: Session) -> None:
    """Recover until no other worker has a place; what is left of one without `ready` goes after ten minutes."""

    def is_alone() -> bool:
        world.recover(session)
        return len(list(world.spool.glob("workers/*/ready"))) == 1

    until_calm(is_alone)


@contextmanager
def no_moves() -> Iterator[None]:
    """Let every move fail meanwhile."""
    real = disk.move

    def never(source: str, target: str) -> None:
        raise OSError(f"{source} cannot be moved to {target} now")

    disk.move = never
    try:
        yield
    finally:
        disk.move = real
