"""Somebody deletes lock files under running workers: whatever that does, no job runs twice at the same time."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT, gone, lines, numbers, request, wait_for_lines, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Project, Worker


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def place_of(project: Project, worker: Worker) -> Path:
    """Return the directory of a worker."""
    (found,) = (one.id for one in project.queue.workers() if one.info.pid == worker.pid)
    return project.spool / "workers" / found


@pytest.mark.sweep
def test_the_lock_of_all_claims_may_vanish_or_change_all_the_time(project: Project, tmp_path: Path) -> None:
    signed, lock = tmp_path / "signed", project.spool / "locks" / "claim.lock"
    workers = [project.start(concurrency=2).ready() for _ in range(2)]
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(400)])
    turn = 0
    while len(lines(signed)) < 400:
        turn += 1
        with suppress(FileNotFoundError):
            lock.unlink()
        if turn % 2:
            lock.touch()
    wait_until(lambda: project.queue.counts()[State.DONE] == 400)
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    assert [worker.stop() for worker in workers] == [0, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a lock file that is held")
def test_the_job_of_a_worker_whose_lock_was_deleted_runs_again_once_that_worker_is_gone(
    project: Project, tmp_path: Path
) -> None:
    notes, pids, go = tmp_path / "notes", tmp_path / "pids", tmp_path / "go"
    first = project.start()
    job = project.queue.submit("Honest", "interval", [str(notes), str(pids), str(go)], retries=0)
    wait_for_lines(pids, 3)
    second = project.start().ready()
    (place_of(project, first) / "alive.lock").unlink()
    assert first.ended() == 1
    assert "is gone or was replaced" in first.says()
    assert gone(*numbers(pids))
    go.touch()
    done = project.queue.wait_until_ended(job.id, LIMIT)
    assert (done.state, outcomes(done), done.crashes) == (State.DONE, ["crashed", "succeeded"], 1)
    assert done.result == []  # when the second attempt began, nobody of the first one was alive
    assert second.stop() == 0
    assert project.traces() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a lock file that is held")
def test_the_lock_of_a_runner_may_vanish(project: Project, tmp_path: Path) -> None:
    notes, pids, go = tmp_path / "notes", tmp_path / "pids", tmp_path / "go"
    first = project.start()
    job = project.queue.submit("Honest", "interval", [str(notes), str(pids), str(go)], retries=0)
    wait_for_lines(pids, 3)
    second = project.start().ready()
    (place_of(project, first) / "r0.lock").unlink()
    other = project.queue.submit("Honest", "echo", ["beside it"], delay=1)
    assert project.queue.wait_until_ended(other.id, LIMIT).worker == second.name
    assert project.state(job) is State.RUNNING  # nobody took it
    first.kill()
    go.touch()
    done = project.queue.wait_until_ended(job.id, LIMIT)
    assert (done.state, outcomes(done), done.result) == (State.DONE, ["crashed", "succeeded"], [])
    assert gone(*numbers(pids))
