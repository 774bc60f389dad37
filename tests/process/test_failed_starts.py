"""A job that its runner could not begin goes back into the queue, and is not charged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bgjobs import clock, files, lifecycle, system
from bgjobs.job import State
from bgjobs.store import Selection, WorkerInfo
from bgjobs.worker.assignment import Assignment
from bgjobs.worker.in_flight import InFlight
from bgjobs.worker.protocol import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.store import Claim, Session
    from tests.process.conftest import Project


@pytest.fixture
def session(project: Project) -> Iterator[Session]:
    """Return this process's own place in the queue."""
    info = WorkerInfo(host=system.host(), pid=os.getpid(), concurrency=1, started_at=clock.now(), version="test")
    joined = project.queue._store.join(info, Selection())
    yield joined
    joined.leave()


@pytest.fixture
def claim(project: Project, session: Session) -> Claim:
    """Return the claim on the only job."""
    project.queue.submit("Honest", "echo", ["hello"])
    (claimed,) = session.claim(1)
    return claimed


def assigned(project: Project, claim: Claim) -> Assignment:
    """Return the job as a runner is given it."""
    job, target = claim.job, project.queue.allowlist.target(claim.job.class_name, claim.job.method)
    message = Run(job.id, 1, job.retries, job.class_name, job.method, target.module, target.owner, job.args, job.kwargs)
    begun = lifecycle.started(job, worker="test:1", at=clock.now())
    return Assignment(begun, message, lifecycle.with_options_of(target.policy, job))


@pytest.mark.parametrize("written", [0.0, 0.5, 1.0])
def test_a_job_that_could_not_be_begun_is_not_charged_however_much_of_its_start_was_written(
    project: Project, session: Session, claim: Claim, written: float
) -> None:
    told: list[str] = []
    in_flight = InFlight(project.queue, session, told.append)
    in_flight.add([claim], clock.both())
    begin = session.begin(claim, slot=0, pid=os.getpid(), birth="1")
    assert begin is not None
    line = f"{begin.head}{clock.now_ms()}{begin.tail}".encode()
    files.append(begin.path, line[: int(len(line) * written)])
    assert session.attempt(claim).begun is (written == 1)

    reason = "cannot write to its file: Input/output error"
    in_flight.return_failed_start(claim, assigned(project, claim), reason, clock.now())

    assert len(in_flight) == 0
    assert told == []
    left = project.queue.get(claim.job.id)
    assert (left.state, left.charged, left.crashes) == (State.QUEUED, 0, 0)
    assert [attempt.outcome for attempt in left.attempts] == (["interrupted"] if written == 1 else [])
    project.drain()
    done = project.queue.get(claim.job.id)
    assert (done.state, done.charged) == (State.DONE, 1)
