"""A worker that somebody stopped keeps its jobs: nobody takes them, and it goes on with them when it is continued."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from tests.cli.commands import Bgjobs
from tests.process.conftest import LIMIT, lines, request, wait_for_lines, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Project, Worker

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("stopping a process is POSIX", allow_module_level=True)
assert sys.platform != "win32"


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def shown(project: Project, *options: str) -> str:
    """Return what `bgjobs status` prints."""
    return Bgjobs(project.root, project.root)("status", *options).stdout


def of(worker: Worker, project: Project) -> dict[str, Any]:
    """Return what `bgjobs status` knows of a worker."""
    (found,) = (one for one in json.loads(shown(project, "--json"))["workers"] if one["pid"] == worker.pid)
    return dict(found)


def test_a_stopped_worker_is_not_robbed_while_another_does_everything_else(project: Project, tmp_path: Path) -> None:
    go, notes, signed = tmp_path / "go", tmp_path / "notes", tmp_path / "signed"
    frozen = project.start(concurrency=2)
    held = [project.queue.submit("Honest", "wait_for", [str(go), str(notes)]) for _ in range(2)]
    wait_for_lines(notes, 2)
    assert (of(frozen, project)["alive"], of(frozen, project)["responsive"]) == (True, True)
    frozen.send(signal.SIGSTOP)
    other = project.start()
    everything_else = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(150)])
    late = project.queue.submit("Honest", "sign", [str(signed)], delay=1)
    for job in (*everything_else, late):
        assert project.queue.wait_until_ended(job.id, LIMIT).worker == other.name
    # By now the other one has looked at the stopped one a good many times.
    assert [project.state(job) for job in held] == [State.RUNNING, State.RUNNING]
    assert (of(frozen, project)["alive"], of(frozen, project)["responsive"]) == (True, False)
    assert of(other, project)["responsive"]
    assert f"{frozen.name}  unresponsive" in shown(project)
    frozen.send(signal.SIGCONT)
    go.touch()
    for job in held:
        done = project.queue.wait_until_ended(job.id, LIMIT)
        assert (done.state, outcomes(done), done.worker) == (State.DONE, ["succeeded"], frozen.name)
    assert of(frozen, project)["responsive"]
    assert sorted(lines(notes)) == sorted(job.id for job in held)
    assert sorted(lines(signed)) == sorted(job.id for job in (*everything_else, late))
    assert [frozen.stop(), other.stop()] == [0, 0]
    assert project.traces() == []


@pytest.mark.sweep
def test_workers_that_are_stopped_and_continued_at_any_moment_run_each_job_once(
    project: Project, tmp_path: Path
) -> None:
    signed, choose = tmp_path / "signed", random.Random(41)
    workers = [project.start(concurrency=2).ready() for _ in range(2)]
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed), 0.001) for _ in range(400)])
    seen = 0
    while seen < 400:
        worker = choose.choice(workers)
        worker.send(signal.SIGSTOP)
        # Perhaps in the middle of a claim, and with the lock of all claims: the other one goes on all the same,
        # unless the stopped one holds all that is left.
        held = len(list(project.spool.glob(f"claimed/{of_claims(project, worker)}/*")))
        wait_until(lambda: len(lines(signed)) >= min(seen + 60, 400 - held))  # noqa: B023 - it is called at once
        worker.send(signal.SIGCONT)
        seen = max(seen + 60, len(lines(signed)))
    wait_until(lambda: project.queue.counts()[State.DONE] == 400)
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    assert [worker.stop() for worker in workers] == [0, 0]
    assert project.traces() == []


def of_claims(project: Project, worker: Worker) -> str:
    """Return the id of a worker, as its directories have it."""
    (found,) = (one.id for one in project.queue.workers() if one.info.pid == worker.pid)
    return found


def test_a_runner_that_was_stopped_is_killed_when_its_time_is_over(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    worker = project.start()
    job = project.queue.submit("Stubborn", "sleep", [60, str(notes)], timeout=1)
    wait_for_lines(notes)
    for runner in worker.runners():
        os.kill(runner, signal.SIGSTOP)
    done = project.queue.wait_until_ended(job.id, LIMIT)
    assert (done.state, outcomes(done)) == (State.FAILED, ["timed_out"])
    after = project.queue.submit("Honest", "echo", ["next"])
    assert project.queue.wait(after.id, LIMIT).result == "next"
