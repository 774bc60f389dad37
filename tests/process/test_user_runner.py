"""What a runner does with a job whose user it cannot become, or not any more: it runs nothing of it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import clock, lifecycle, system
from bgjobs.ids import new_id
from bgjobs.job import Job, Raised, Succeeded
from bgjobs.lifecycle import Policy
from bgjobs.worker.assignment import Assignment, Began, Finished, Returned
from bgjobs.worker.protocol import Run
from bgjobs.worker.runner import Runner, environment, setup, start_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.conftest import Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no process becomes another user there")
STRANGER = "nobody-of-that-name"


@pytest.fixture
def runner(project: Project) -> Iterator[Runner]:
    """A runner that has not run anything yet."""
    configured = project.queue.settings
    started = Runner(
        0,
        setup(configured, None, 0),
        start_process(environment(configured, "test")),
        time.monotonic(),
        lifespan=100,
    )
    yield started
    started.retire()


def assignment(*args: Any, user: str = "") -> Assignment:
    now = clock.now()
    job = Job(id=new_id(), class_name="Honest", method="sign", priority=5, not_before=now, submitted_at=now, retries=0)
    message = Run(job.id, 1, 0, "Honest", "sign", "honest", "Honest", args, {}, user=user)
    return Assignment(lifecycle.started(job, worker="test:1", at=now), message, Policy(user=user))


def report(runner: Runner, held: Assignment) -> Finished | Returned:
    """Let it have the job, and return what becomes of that."""
    runner.assign(held, time.monotonic())
    runner.flush()
    while True:
        data = os.read(runner.output_fd, 65_536)
        assert data, "it died"
        for said in runner.receive(data, time.monotonic()):
            if not isinstance(said, Began):
                return said


def test_nothing_of_a_job_runs_in_a_process_that_cannot_become_its_user(runner: Runner, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    said = report(runner, assignment(str(mark), user=STRANGER))
    assert isinstance(said, Finished)
    assert isinstance(said.outcome, Raised)
    assert said.outcome.error.type == "CannotBecomeUser"
    assert said.outcome.error.message == f"its process cannot become user {STRANGER}: there is no such user"
    assert not mark.exists()
    assert runner.is_worn_out
    again = report(runner, assignment(str(mark)))  # whoever sends it another job all the same gets that back
    assert isinstance(again, Returned)
    assert not mark.exists()


def test_a_process_that_has_run_a_job_takes_none_that_has_a_user(runner: Runner, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    said = report(runner, assignment(str(first)))
    assert isinstance(said, Finished)
    assert isinstance(said.outcome, Succeeded)
    said = report(runner, assignment(str(second), user=system.user() if os.geteuid() else "nobody"))
    assert isinstance(said, Returned)
    assert said.reason == "its user needs a fresh process"
    assert first.exists()
    assert not second.exists()
    assert runner.is_worn_out


def test_nothing_is_sent_behind_a_job_that_has_a_user(runner: Runner) -> None:
    assert runner.room(16, time.monotonic()) == 0  # it is not ready yet
    report(runner, assignment("/dev/null"))
    assert (runner.is_unused, runner.room(16, time.monotonic())) == (False, 16)
    runner.assign(assignment("/dev/null", user=STRANGER), time.monotonic())
    assert runner.is_worn_out
    assert runner.room(16, time.monotonic()) == 0
