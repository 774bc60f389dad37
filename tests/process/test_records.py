"""What a runner writes down itself: a success is on record before its worker hears of it, and no job runs twice."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT, posix_only, request, wait_for_lines, wait_until
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Project


def recorded(project: Project, job: Job) -> list[dict[str, Any]]:
    """Return the lines of a claimed job's file."""
    for path in project.spool.glob(f"claimed/*/*-{job.id}.json"):
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    return []


@posix_only
def test_a_job_that_ended_before_its_worker_heard_of_it_does_not_run_again(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    worker = project.start(concurrency=2).ready()
    jobs = [project.queue.submit("Honest", "wait_for", [str(go), str(notes)]) for _ in range(2)]
    wait_for_lines(notes, 2)
    worker.send(signal.SIGSTOP)  # deaf, while its runners go on
    go.touch()
    wait_until(lambda: all(recorded(project, job)[-1].get("event") == "end" for job in jobs))
    assert [project.state(job) for job in jobs] == [State.RUNNING] * 2
    worker.kill()
    project.drain()
    for job in jobs:
        done = project.queue.wait_until_ended(job.id, LIMIT)
        assert (done.state, done.result, len(done.attempts), done.crashes) == (State.DONE, "it came", 1, 0)
    wait_for_lines(notes, 2)
    assert len(notes.read_text().splitlines()) == 2


def test_a_success_is_recorded_once_with_its_progress_and_its_result(project: Project, tmp_path: Path) -> None:
    go = tmp_path / "go"
    project.start().ready()
    job = project.queue.submit("Honest", "step", [str(go), 2, 4])
    wait_until(lambda: (seen := project.queue.get(job.id)).progress is not None and seen.progress.done == 2)
    go.touch()
    done = project.queue.wait_until_ended(job.id, LIMIT)
    (path,) = project.spool.glob(f"done/*/{job.id}.json")
    _, *events = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [event["event"] for event in events] == ["start", "end"]
    assert (done.state, done.result) == (State.DONE, None)
    assert events[1]["progress"] == {"done": 2.0, "total": 4.0, "message": "on the way"}


def test_with_finish_fsync_the_worker_writes_the_end_and_the_runner_does_not(project: Project) -> None:
    project.allow("[bgjobs]", "[bgjobs]\nfinish_fsync = true")
    job = project.queue.submit("Honest", "echo", ["hello"])
    project.drain()
    done = project.queue.wait_until_ended(job.id, LIMIT)
    (path,) = project.spool.glob(f"done/*/{job.id}.json")
    assert [json.loads(line).get("event") for line in path.read_bytes().splitlines()] == [None, "start", "end"]
    assert (done.state, done.result) == (State.DONE, "hello")


@pytest.mark.skipif(ON_WINE, reason="every process has a console host there, a child as well")
def test_runners_that_were_started_ahead_take_over_and_none_is_left_of_them(project: Project) -> None:
    count = 600
    jobs = project.queue.submit_many(request("Honest", "who") for _ in range(count))
    worker = project.start(concurrency=2, recycle=100)
    pids = [project.queue.wait_until_ended(job.id, LIMIT).result for job in jobs]
    assert all(pids.count(pid) <= 100 for pid in set(pids))
    # What is not needed any more goes, within a few looks.
    wait_until(lambda: len([one for one in psutil.Process(worker.pid).children() if one.is_running()]) == 2)
