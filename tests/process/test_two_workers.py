"""Several workers on one spool: every job runs once, and nobody waits while there is work."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import lines, request, wait_for_lines, wait_until
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Project


@pytest.mark.parametrize("count", [100 if ON_WINE else 1000])  # all of them within the limit
def test_every_job_runs_exactly_once_and_each_worker_gets_a_share(project: Project, tmp_path: Path, count: int) -> None:
    signed = tmp_path / "signed"
    workers = [project.start().ready() for _ in range(2)]
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(count)])
    wait_until(lambda: project.queue.counts()[State.DONE] == count, pause=0.05)
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    shares = Counter(job.worker for job in project.queue.jobs(state="done"))
    assert set(shares) == {worker.name for worker in workers}
    assert min(shares.values()) >= count / 10  # a fair share would be half; the machine decides, too
    assert [worker.stop() for worker in workers] == [0, 0]
    assert project.traces() == []


def test_workers_and_submitters_come_and_go(project: Project, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    workers = [project.start() for _ in range(2)]
    jobs = []
    for number in range(200):
        jobs.append(project.queue.submit("Honest", "sign", [str(signed)], priority=number % 10))
        if number in {60, 120}:
            workers.append(project.start())
            assert workers.pop(0).ready().stop() == 0
    wait_until(lambda: project.queue.counts()[State.DONE] == 200, pause=0.05)
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    assert {project.queue.get(job.id).crashes for job in jobs} == {0}


def test_what_a_busy_worker_claimed_ahead_is_run_by_an_idle_one(project: Project, tmp_path: Path) -> None:
    go, begun, signed = tmp_path / "go", tmp_path / "begun", tmp_path / "signed"
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    gated = request("Honest", "wait_for", str(go), str(begun))
    behind = [request("Honest", "sign", str(signed)) for _ in range(30)]
    jobs = project.queue.submit_many([*quick, gated, *behind])
    project.start()
    wait_for_lines(begun)
    project.start()
    # New jobs all the time are no reason to keep the old ones.
    while len(lines(signed)) < 30:
        urgent = project.queue.submit("Honest", "echo", priority=9)
        wait_until(lambda: project.state(urgent) is State.DONE)  # noqa: B023 - it is called at once
    assert sorted(lines(signed)) == sorted(job.id for job in jobs[61:])
    assert project.state(jobs[60]) is State.RUNNING
    go.touch()
    wait_until(lambda: project.state(jobs[60]) is State.DONE)
