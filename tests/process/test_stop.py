"""A worker that is asked to stop claims nothing more, waits a while for what runs, and puts the rest back."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import (
    LIMIT,
    gone,
    lines,
    numbers,
    posix_only,
    request,
    slowness,
    wait_for_lines,
    wait_until,
)
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Project


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def messages(project: Project, job: Job) -> list[str]:
    return [f"{record['status']}: {record['message']}" for record in project.log(job)][1:]


@pytest.mark.parametrize("number", [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGINT])
def test_a_running_job_may_finish_within_the_grace(project: Project, tmp_path: Path, number: int) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    worker = project.start(grace=LIMIT)
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    worker.ask_to_stop(number)
    wait_until(lambda: f"stopping: waiting up to {LIMIT:g} s for running jobs" in worker.says())
    late = project.queue.submit("Honest", "echo")
    go.touch()
    assert worker.ended() == 0
    done = project.queue.get(job.id)
    assert (done.state, done.result, outcomes(done)) == (State.DONE, "it came", ["succeeded"])
    assert project.state(late) is State.QUEUED
    assert project.traces() == []


def test_after_the_grace_a_running_job_is_interrupted_and_put_back_uncharged(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    worker = project.start(grace="0.3s")
    job = project.queue.submit("Willing", "back_away", [str(notes)])
    wait_for_lines(notes)
    assert worker.stop() == 0
    assert lines(notes) == ["begun", "left"]  # it was asked, and could clean up
    back = project.queue.get(job.id)
    assert (back.state, back.attempt, back.crashes) == (State.QUEUED, 0, 0)
    assert outcomes(back) == ["interrupted"]
    assert messages(project, job)[1:] == ["QUEUED: handed back: the worker stops"]
    assert project.errors(job) == []
    assert project.traces() == []


def test_a_job_that_was_interrupted_runs_again_with_all_its_attempts(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)], retries=0)
    for count in (1, 2):
        worker = project.start(grace=0)
        wait_for_lines(notes, count)  # a default binds the loop variable
        assert worker.stop() == 0
    go.touch()
    project.drain()
    done = project.queue.get(job.id)
    assert (done.state, done.attempt) == (State.DONE, 1)
    assert outcomes(done) == ["interrupted", "interrupted", "succeeded"]


def test_a_method_that_cleans_up_and_returns_when_interrupted_has_not_done_its_job(
    project: Project, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    worker = project.start(grace=0)
    job = project.queue.submit("Willing", "clean_up", [str(notes)])
    wait_for_lines(notes)
    assert worker.stop() == 0
    assert lines(notes) == ["begun", "JobCancelled: the worker stops"]
    assert project.state(job) is State.QUEUED
    assert outcomes(project.queue.get(job.id)) == ["interrupted"]


def test_a_second_request_interrupts_at_once(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    worker = project.start(grace="1h")
    job = project.queue.submit("Willing", "back_away", [str(notes)])
    wait_for_lines(notes)
    worker.ask_to_stop()
    wait_until(lambda: "stopping" in worker.says())
    worker.ask_to_stop()
    assert worker.ended() == 0
    assert outcomes(project.queue.get(job.id)) == ["interrupted"]
    assert project.traces() == []


def test_a_job_that_ignores_the_interruption_is_killed_with_its_family_and_put_back(
    project: Project, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    worker = project.start(grace=0)
    job = project.queue.submit("Stubborn", "ignore_all", [str(pids)])
    wait_for_lines(pids, 4)
    assert worker.stop() == 0
    assert gone(*numbers(pids))
    back = project.queue.get(job.id)
    assert (back.state, back.attempt, outcomes(back)) == (State.QUEUED, 0, ["interrupted"])
    assert project.traces() == []


def test_a_third_request_kills_at_once(project: Project, tmp_path: Path) -> None:
    project.allow('kill_after = "0.5s"', 'kill_after = "1h"')
    pids = tmp_path / "pids"
    worker = project.start(grace="1h")
    job = project.queue.submit("Stubborn", "spin", [str(pids)])
    wait_for_lines(pids)
    slow, asked = slowness(), time.monotonic()

    def asked_again() -> bool:  # and again, because two at once may count as one
        worker.ask_to_stop()
        return gone(*numbers(pids))

    wait_until(asked_again, pause=0.02)
    assert worker.ended() == 0
    # The second request alone would have waited for 5 seconds.
    assert time.monotonic() - asked < 4 * max(slow, slowness())
    assert gone(*numbers(pids))
    assert outcomes(project.queue.get(job.id)) == ["interrupted"]


@posix_only
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_requests_without_end_change_nothing_about_how_it_ends(project: Project, tmp_path: Path, name: str) -> None:
    project.allow('kill_after = "0.5s"', 'kill_after = "1h"')
    pids = tmp_path / "pids"
    worker = project.start(grace="1h", concurrency=2)
    job = project.queue.submit("Stubborn", "spin", [str(pids)])
    wait_for_lines(pids)

    def asked_again() -> bool:  # also while it leaves, and while its interpreter ends
        worker.send(getattr(signal, name))
        return not worker.runs()

    wait_until(asked_again, pause=0.0005)
    assert (worker.ended(), "Traceback" in worker.says(), "Exception" in worker.says()) == (0, False, False)
    assert outcomes(project.queue.get(job.id)) == ["interrupted"]
    assert project.traces() == []


def test_jobs_that_were_not_begun_are_handed_back_uncharged(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    gated = request("Honest", "wait_for", str(go), str(notes))
    jobs = project.queue.submit_many([*quick, gated, *quick])
    worker = project.start(grace=LIMIT)
    wait_for_lines(notes)
    worker.ask_to_stop()
    wait_until(lambda: "stopping: " in worker.says())
    wait_until(lambda: len(list(project.spool.glob("claimed/*/*.json"))) == 1)  # only the one that runs
    go.touch()
    assert worker.ended() == 0
    for job in jobs[61:]:
        back = project.queue.get(job.id)
        assert (back.state, back.attempts) == (State.QUEUED, ())
    assert project.traces() == []
    project.drain()
    assert project.queue.counts()[State.DONE] == len(jobs)
    assert project.queue.get(jobs[-1].id).attempt == 1


def test_an_idle_worker_stops_at_once(project: Project) -> None:
    worker = project.start(concurrency=3, grace="1h").ready()
    runners = worker.runners()
    assert worker.stop() == 0
    assert gone(*runners)
    assert project.traces() == []


def test_a_worker_that_is_asked_before_it_is_ready_stops(project: Project) -> None:
    worker = project.start(concurrency=8)
    wait_until(lambda: list(project.spool.glob("workers/*")))
    assert worker.stop() == 0
    assert project.traces() == []
    job = project.queue.submit("Honest", "echo")
    project.drain()
    assert project.state(job) is State.DONE


@pytest.mark.skipif(ON_WINE, reason="Wine takes as long to start a runner as this worker lives")
def test_the_grace_is_counted_from_the_request_even_if_the_time_is_over_already(
    project: Project, tmp_path: Path
) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    worker = project.start(max_time="2s", grace="2s")
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    # Another worker lets some time pass: more than the grace, and after the time of the first one is over.
    project.queue.submit("Honest", "nap", [5])
    project.drain(drain=False, once=True)
    assert worker.runs()
    worker.ask_to_stop()
    wait_until(lambda: "stopping" in worker.says() or not worker.runs())
    go.touch()
    assert worker.ended() == 0
    assert outcomes(project.queue.get(job.id)) == ["succeeded"]
