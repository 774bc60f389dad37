"""An attempt that takes too long is asked to stop, and then killed with all that it started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import KILLED, LIMIT, gone, lines, numbers, request, wait_for_lines

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue
    from bgjobs.job import Attempt, Job
    from tests.process.conftest import Project

KILL_AFTER = 0.5  # s; as the allowlist says for `Stubborn`


def end(queue: Queue, job: Job) -> Job:
    return queue.wait_until_ended(job.id, LIMIT)


def only_attempt(job: Job) -> Attempt:
    (attempt,) = job.attempts
    return attempt


def seconds(attempt: Attempt) -> float:
    assert attempt.finished_at is not None
    return (attempt.finished_at - attempt.started_at).total_seconds()


def test_a_method_sees_that_its_time_is_over_and_can_clean_up(shared: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = end(shared.queue, shared.queue.submit("Willing", "clean_up", [str(notes)], timeout=0.2))
    assert lines(notes) == ["begun", "JobTimeout: the timeout has passed"]
    assert job.state is State.FAILED  # it returned, but too late
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("JobTimeout", "ran longer than 0.2 s")
    assert (only_attempt(job).outcome, only_attempt(job).exit) == ("timed_out", None)
    # By the clock of the worker, who gave it the job a moment before it began.
    assert seconds(only_attempt(job)) >= 0.1
    assert [record["status"] for record in shared.whole_log(job)] == ["QUEUED", "RUNNING", "FAILED"]
    assert [record["status"] for record in shared.errors(job)] == ["TIMEOUT"]


@pytest.mark.parametrize("method", ["back_away", "clean_up_badly"])
def test_however_a_method_ends_after_its_time_it_has_timed_out(queue: Queue, tmp_path: Path, method: str) -> None:
    job = end(queue, queue.submit("Willing", method, [str(tmp_path / "notes")], timeout=0.1))
    assert (job.state, only_attempt(job).outcome, only_attempt(job).exit) == (State.FAILED, "timed_out", None)


def test_a_sleeping_method_is_woken_to_stop(queue: Queue) -> None:
    job = end(queue, queue.submit("Willing", "sleep", [60], timeout=0.2))
    attempt = only_attempt(job)
    assert (attempt.outcome, attempt.exit) == ("timed_out", None)  # no exit status: nobody had to kill it


def test_a_method_that_ignores_everything_is_killed_with_its_family(queue: Queue, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # Time enough for all five to have left their number; two of them are in a session of their own, without parents.
    # On Windows each of them is a fresh interpreter.
    timeout = 15 if sys.platform == "win32" else 2
    job = queue.submit("Stubborn", "ignore_all", [str(pids)], timeout=timeout)
    wait_for_lines(pids, 4)
    ended = end(queue, job)
    attempt = only_attempt(ended)
    assert (ended.state, attempt.outcome, attempt.exit) == (State.FAILED, "timed_out", KILLED)
    assert seconds(attempt) >= timeout + KILL_AFTER - 0.01  # it had all the time that it was promised
    assert gone(*numbers(pids))


@pytest.mark.parametrize("method", ["spin", "match"])
def test_a_method_that_cannot_be_reached_is_killed(queue: Queue, tmp_path: Path, method: str) -> None:
    pids = tmp_path / "pids"
    job = end(queue, queue.submit("Stubborn", method, [str(pids)], timeout=0.2))
    assert (job.state, only_attempt(job).outcome, only_attempt(job).exit) == (State.FAILED, "timed_out", KILLED)
    assert gone(*numbers(pids))


def test_a_job_that_timed_out_has_its_full_time_at_the_next_attempt(queue: Queue, tmp_path: Path) -> None:
    job = end(queue, queue.submit("Willing", "time_out_once", [str(tmp_path / "notes")], timeout=1, retries=1))
    assert [attempt.outcome for attempt in job.attempts] == ["timed_out", "succeeded"]
    assert job.result == "the second time"


def test_waiting_behind_another_job_takes_none_of_the_time(queue: Queue) -> None:
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to send some ahead
    slow = request("Honest", "nap", 0.5)
    hasty = [request("Honest", "echo", n, timeout=0.3) for n in range(5)]
    for job in queue.submit_many([*quick, slow, *hasty]):
        assert end(queue, job).state is State.DONE
