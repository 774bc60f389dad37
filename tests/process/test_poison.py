"""Jobs that harm their worker, the machine or the spool: they fail, and the others run."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from bgjobs.job import State
from tests.process.conftest import (
    LIMIT,
    Project,
    Worker,
    gone,
    lines,
    numbers,
    posix_only,
    request,
    wait_for_lines,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue
    from bgjobs.job import Job

ZOMBIES, THREADS, CHILDREN = 300, 300, 50  # the long test of the same has more


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def test_a_job_that_kills_its_worker_each_time_fails_and_its_neighbours_do_not(
    project: Project, tmp_path: Path
) -> None:
    project.allow("[jobs.Fearsome]\n", "[jobs.Fearsome]\nmax_crashes = 3\n")
    notes, signed = tmp_path / "notes", tmp_path / "signed"
    poison = project.queue.submit("Fearsome", "kill_worker", [str(notes)], retries=9, priority=9)
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(30)])
    deaths = 0
    while not project.state(poison).ended:
        worker = project.start(drain=True)
        wait_until(lambda: not worker.runs())  # noqa: B023 - it is called at once
        deaths += worker.ended() != 0
        assert deaths <= 3
    project.drain()
    failed = project.queue.get(poison.id)
    assert (failed.state, outcomes(failed)) == (State.FAILED, ["crashed"] * 3)
    assert (failed.attempt, failed.crashes, deaths) == (0, 3, 3)
    assert failed.error is not None
    assert failed.error.type == "WorkerLost"
    assert lines(notes) == [poison.id] * 3
    done = [project.queue.get(job.id) for job in jobs]
    assert {job.state for job in done} == {State.DONE}
    assert {job.crashes for job in done} == {0}
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    assert project.traces() == []


def test_a_job_that_kills_its_runner_each_time_uses_its_attempts_up_while_others_run(queue: Queue) -> None:
    poison = queue.submit("Fatal", "kill_itself", retries=4)
    others = queue.submit_many([request("Honest", "echo", number) for number in range(20)])
    assert (queue.wait_until_ended(poison.id, LIMIT).state, outcomes(queue.get(poison.id))) == (
        State.FAILED,
        ["crashed"] * 5,
    )
    assert [queue.wait(job.id, LIMIT).result for job in others] == list(range(20))


@pytest.mark.sweep
@posix_only
def test_zombies_that_a_job_leaves_are_cleared_away(shared: Project, home: tuple[Project, Worker]) -> None:
    job = shared.queue.submit("Fearsome", "leave_zombies", [ZOMBIES])
    assert shared.queue.wait(job.id, LIMIT).result == ZOMBIES
    wait_until(lambda: zombies(home[1]) == 0)


def zombies(worker: Worker) -> int:
    """Count the dead processes below a worker whose end nobody has asked about."""
    count = 0
    for process in psutil.Process(worker.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            count += process.status() == psutil.STATUS_ZOMBIE
    return count


def test_threads_without_number_end_with_the_runner(shared: Project) -> None:
    job = shared.queue.submit("Fearsome", "start_threads", [THREADS])
    assert shared.queue.wait(job.id, LIMIT).result == THREADS
    after = shared.queue.submit("Messy", "look")
    assert len(shared.queue.wait(after.id, LIMIT).result["threads"]) < 5


@pytest.mark.sweep
@posix_only
def test_processes_without_number_end_with_the_time_of_the_job(shared: Project, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = shared.queue.submit("Fearsome", "breed", [CHILDREN, str(pids)], timeout=60)
    wait_for_lines(pids, CHILDREN + 1)
    shared.queue.cancel(job.id)
    assert shared.queue.wait_until_ended(job.id, LIMIT).state is State.CANCELLED
    wait_until(lambda: gone(*numbers(pids)))


def test_a_job_that_removes_the_spool_stops_its_worker(project: Project) -> None:
    worker = project.start()
    project.queue.submit("Fearsome", "remove_spool")
    assert worker.ended() == 1
    assert "is gone or was replaced" in worker.says()
    assert not (project.spool / "VERSION").exists()  # what is not there is not made again


@posix_only
def test_a_job_that_takes_all_rights_from_the_spool_ends_once_they_are_back(project: Project, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    worker = project.start().ready()
    closing = project.queue.submit("Fearsome", "close_spool")
    wait_until(lambda: stat.S_IMODE(project.spool.stat().st_mode) == 0)
    if os.geteuid() != 0:  # nobody but root gets any further
        assert worker.ended() == 1
    open_again(project.spool)
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(5)])
    project.drain()
    assert project.state(closing) is State.DONE
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)


def open_again(folder: Path) -> None:
    folder.chmod(0o700)
    for path in folder.iterdir():
        if path.is_dir():
            open_again(path)
        else:
            path.chmod(0o600)


@pytest.mark.parametrize("method", [pytest.param("leave_zombies", marks=posix_only), "start_threads"])
def test_what_a_job_leaves_is_no_reason_to_charge_the_next(shared: Project, method: str) -> None:
    jobs = shared.queue.submit_many([request("Fearsome", method, 20), request("Honest", "echo", 1)] * 3)
    for job in jobs:
        done = shared.queue.wait(job.id, LIMIT)
        assert (outcomes(done), done.crashes) == (["succeeded"], 0)
