"""A cancelled job does not run, or does not run on; it ends exactly once."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT, gone, lines, numbers, request, wait_for_lines, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue
    from bgjobs.job import Job
    from tests.process.conftest import Project

KILL_AFTER = 0.5  # s; as the allowlist says for `Stubborn`
STEP_S = 0.02 if sys.platform == "win32" else 0.005  # what runs there hears of a cancellation later
SLACK = 10.0  # s; for a machine that is busy with other things


def end(queue: Queue, job: Job) -> Job:
    return queue.wait_until_ended(job.id, LIMIT)


def assert_one_file_each(project: Project, jobs: list[Job]) -> None:
    """Each job lies in one place; a request that came too late goes away, too, if not at once."""
    ids = [job.id for job in jobs]
    wait_until(
        lambda: (
            len([path for path in project.spool.rglob("*") if path.name[-31:-5] in ids or path.name[-26:] in ids])
            == len(ids)
        )
    )


@pytest.mark.parametrize("delay", [0, 3600])
def test_a_pending_job_is_cancelled_at_once_and_never_runs(project: Project, tmp_path: Path, delay: int) -> None:
    notes = tmp_path / "notes"
    job = project.queue.submit("Honest", "sign", [str(notes)], delay=delay)
    assert project.queue.cancel(job.id) == "cancelled"
    cancelled = project.queue.get(job.id)
    assert (cancelled.state, cancelled.attempts) == (State.CANCELLED, ())
    assert cancelled.finished_at is not None
    project.drain()
    assert project.queue.get(job.id) == cancelled
    assert not notes.exists()
    assert [record["status"] for record in project.log(job)] == ["QUEUED", "CANCELLED"]
    assert project.errors(job) == []


def test_a_job_that_waits_for_another_attempt_is_cancelled(queue: Queue) -> None:
    job = queue.submit("Honest", "fail", retries=5, retry_delay="1h")
    wait_until(lambda: queue.get(job.id).state is State.SCHEDULED)
    assert queue.cancel(job.id) == "cancelled"
    cancelled = queue.get(job.id)
    assert (cancelled.state, cancelled.attempt) == (State.CANCELLED, 1)


def test_a_running_method_sees_the_cancellation_and_can_clean_up(shared: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = shared.queue.submit("Willing", "clean_up", [str(notes)], retries=5)
    wait_for_lines(notes)
    assert shared.queue.cancel(job.id) in {"requested", "cancelled"}  # a quick worker has done it before we look
    cancelled = end(shared.queue, job)
    assert (cancelled.state, cancelled.result) == (State.CANCELLED, None)
    assert [(attempt.outcome, attempt.exit) for attempt in cancelled.attempts] == [("cancelled", None)]
    assert lines(notes)[1].startswith("JobCancelled: the job was cancelled (")
    assert [record["status"] for record in shared.whole_log(job)] == ["QUEUED", "RUNNING", "CANCELLED"]
    assert shared.errors(job) == []


@pytest.mark.parametrize("method", ["back_away", "clean_up_badly"])
def test_however_a_method_ends_after_that_the_job_is_cancelled(queue: Queue, tmp_path: Path, method: str) -> None:
    notes = tmp_path / "notes"
    job = queue.submit("Willing", method, [str(notes)], retries=5)
    wait_for_lines(notes)
    queue.cancel(job.id)
    assert [attempt.outcome for attempt in end(queue, job).attempts] == ["cancelled"]
    assert queue.get(job.id).state is State.CANCELLED


def test_what_a_method_has_started_does_not_outlive_its_cancellation(queue: Queue, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = queue.submit("Willing", "leave_family", [str(pids)])
    wait_for_lines(pids, 2)
    queue.cancel(job.id)
    assert [(attempt.outcome, attempt.exit) for attempt in end(queue, job).attempts] == [("cancelled", None)]
    wait_until(lambda: gone(*numbers(pids)))


def test_a_method_that_ignores_everything_is_killed_with_its_family(queue: Queue, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = queue.submit("Stubborn", "ignore_all", [str(pids)], retries=5)
    wait_for_lines(pids, 4)
    asked = time.monotonic()
    assert queue.cancel(job.id) in {"requested", "cancelled"}
    wait_until(lambda: gone(*numbers(pids)), limit=KILL_AFTER + 1 + SLACK)
    assert time.monotonic() - asked >= KILL_AFTER - 0.01  # it had the time to stop by itself
    assert end(queue, job).state is State.CANCELLED
    assert [(attempt.outcome) for attempt in queue.get(job.id).attempts] == ["cancelled"]


def test_a_second_cancellation_changes_nothing(queue: Queue, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = queue.submit("Stubborn", "spin", [str(pids)])
    wait_for_lines(pids)
    assert [queue.cancel(job.id), queue.cancel(job.id)] == ["requested", "requested"]
    cancelled = end(queue, job)
    assert cancelled.state is State.CANCELLED
    assert queue.cancel(job.id) == "too late"
    assert queue.get(job.id) == cancelled


def test_a_job_that_has_ended_cannot_be_cancelled(queue: Queue) -> None:
    job = queue.wait(queue.submit("Honest", "echo", [1]).id, LIMIT)
    assert queue.cancel(job.id) == "too late"
    assert queue.get(job.id) == job


def test_a_cancellation_that_races_the_end_leaves_one_of_the_two_states(shared: Project, tmp_path: Path) -> None:
    found, jobs = set(), []
    for number in range(25):
        notes = tmp_path / f"notes-{number}"
        job = shared.queue.submit("Stubborn", "finish_nearly", [str(notes), number % 20 * STEP_S], retries=3)
        wait_for_lines(notes)  # a default binds the loop variable
        answer = shared.queue.cancel(job.id)
        ended = end(shared.queue, job)
        assert (answer, ended.state) in {
            ("cancelled", State.CANCELLED),  # it was so quick that nothing is left to ask for
            ("requested", State.CANCELLED),
            ("requested", State.DONE),
            ("too late", State.DONE),
        }
        assert ended.result == ("just in time" if ended.state is State.DONE else None)
        assert [record["status"] for record in shared.whole_log(job)][2:] in (["SUCCESS"], ["CANCELLED"])
        jobs.append(job)
        found.add(ended.state)
    assert State.CANCELLED in found
    assert_one_file_each(shared, jobs)


def test_a_cancellation_that_races_the_start_leaves_one_of_the_two_states(shared: Project) -> None:
    jobs = []
    for number in range(25):
        job = shared.queue.submit("Honest", "echo", [number])
        answer = shared.queue.cancel(job.id)
        ended = end(shared.queue, job)
        if ended.state is State.DONE:
            assert answer in {"too late", "requested"}
        else:
            assert (answer, ended.state) in {("cancelled", State.CANCELLED), ("requested", State.CANCELLED)}
        assert len(shared.whole_log(job)) in {2, 3}
        jobs.append(job)
    assert_one_file_each(shared, jobs)


def test_a_job_that_was_claimed_ahead_is_cancelled_and_the_others_run(project: Project, tmp_path: Path) -> None:
    gate, signed = tmp_path / "gate", tmp_path / "signed"
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    gated = request("Honest", "wait_for", str(gate), str(tmp_path / "begun"))
    held = [gated, *(request("Honest", "sign", str(signed)) for _ in range(20))]
    jobs = project.queue.submit_many([*quick, *held])
    project.start()
    wait_until((tmp_path / "begun").exists)
    unlucky, lucky = jobs[61:81:2], jobs[62:81:2]
    for job in unlucky:
        project.queue.cancel(job.id)
    assert [end(project.queue, job).state for job in unlucky] == [State.CANCELLED] * 10
    gate.touch()
    assert [end(project.queue, job).state for job in lucky] == [State.DONE] * 10
    assert lines(signed) == [job.id for job in lucky]


def test_a_job_whose_worker_died_is_cancelled_by_the_next_worker(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = project.queue.submit("Willing", "back_away", [str(notes)])
    first = project.start()
    wait_for_lines(notes)
    first.kill()
    assert project.queue.cancel(job.id) in {"requested", "cancelled"}
    project.start()
    cancelled = end(project.queue, job)
    assert cancelled.state is State.CANCELLED
    assert [attempt.outcome for attempt in cancelled.attempts] == ["cancelled"]
    assert lines(notes) == ["begun"]
    assert project.whole_log(job)[-1]["status"] == "CANCELLED"
