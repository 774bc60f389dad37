"""The options of a worker: when it ends by itself, what it takes, how often its runners are renewed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT, lines, request, wait_for_lines, wait_until
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Project


def test_drain_ends_when_nothing_is_left_scheduled_jobs_included(project: Project) -> None:
    now = project.queue.submit("Honest", "echo")
    later = project.queue.submit("Honest", "echo", delay=1)
    again = project.queue.submit("Honest", "fail", retries=1, retry_delay=1)
    project.drain()
    assert [project.state(job) for job in (now, later, again)] == [State.DONE, State.DONE, State.FAILED]
    assert project.traces() == []


def test_drain_waits_for_jobs_that_run_in_another_worker(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    project.start()
    wait_for_lines(notes)
    second = project.start(drain=True)
    other = project.queue.submit("Honest", "echo", delay=1)
    wait_until(lambda: project.state(other) is State.DONE)
    assert second.runs()
    go.touch()
    assert second.ended() == 0
    assert project.state(job) is State.DONE


def test_once_ends_when_nothing_is_due(project: Project) -> None:
    now = project.queue.submit("Honest", "echo")
    later = project.queue.submit("Honest", "echo", delay=3600)
    project.drain(drain=False, once=True)
    assert [project.state(job) for job in (now, later)] == [State.DONE, State.SCHEDULED]
    project.drain(drain=False, once=True)  # also when there is nothing at all to do


def test_a_worker_ends_after_so_many_jobs(project: Project) -> None:
    jobs = project.queue.submit_many([request("Honest", "echo", n) for n in range(100)])
    assert project.start(max_jobs=60, concurrency=2).ended() == 0
    assert Counter(project.state(job) for job in jobs) == {State.DONE: 60, State.QUEUED: 40}
    assert project.traces() == []


def test_not_one_job_more_even_if_urgent_ones_come(project: Project, tmp_path: Path) -> None:
    go, begun, signed = tmp_path / "go", tmp_path / "begun", tmp_path / "signed"
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    gated = request("Honest", "wait_for", str(go), str(begun))
    rest = [request("Honest", "sign", str(signed)) for _ in range(30)]
    project.queue.submit_many([*quick, gated, *rest])
    worker = project.start(max_jobs=70)
    wait_for_lines(begun)
    project.queue.submit_many([request("Honest", "sign", str(signed), priority=9) for _ in range(5)])
    go.touch()
    assert worker.ended() == 0
    assert len(lines(signed)) == 9


def test_a_worker_ends_after_its_time_and_lets_the_running_job_finish(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    seconds = 20 if ON_WINE else 2  # longer than it takes to start one
    worker = project.start(max_time=seconds)
    wait_for_lines(notes)
    # Another worker runs this one when the time of the first is over.
    later = project.queue.submit("Honest", "echo", delay=seconds)
    project.start()
    assert project.queue.wait(later.id, LIMIT).worker != worker.name
    assert worker.runs()
    go.touch()
    assert worker.ended() == 0
    assert project.state(job) is State.DONE


def test_a_worker_takes_only_the_classes_that_it_is_told_to(project: Project) -> None:
    jobs = project.queue.submit_many(
        [
            request("Honest", "echo", priority=9),
            request("Functions", "twice", "a", priority=8),
            request("Modern", "add", 1, 2, priority=7),
            request("Functions", "twice", "b", priority=1),
        ]
    )
    project.drain(only=["Functions", "Modern"])
    assert [project.state(job) for job in jobs] == [State.QUEUED, State.DONE, State.DONE, State.DONE]
    project.drain()
    assert project.state(jobs[0]) is State.DONE


def test_a_worker_takes_only_priorities_from_the_one_that_it_is_told(project: Project) -> None:
    jobs = project.queue.submit_many([request("Honest", "echo", priority=priority) for priority in range(10)])
    project.drain(min_priority="high")
    assert [project.state(job) for job in jobs] == [State.QUEUED] * 8 + [State.DONE] * 2


def test_a_runner_is_renewed_after_so_many_jobs(project: Project) -> None:
    jobs = project.queue.submit_many([request("Honest", "who") for _ in range(10)])
    project.drain(recycle=3)
    served = Counter(project.queue.get(job.id).result for job in jobs)
    assert sorted(served.values()) == [1, 3, 3, 3]


def test_short_jobs_are_counted_too(project: Project) -> None:
    jobs = project.queue.submit_many([request("Honest", "who") for _ in range(200)])
    project.drain(recycle=60)
    served = Counter(project.queue.get(job.id).result for job in jobs)
    # What was sent ahead before the last of them ended may still run there.
    assert max(served.values()) <= 60 + 16
    assert len(served) >= 3


@pytest.mark.parametrize(("method", "processes"), [("leak", 3), ("fill", 1)])
def test_a_runner_that_has_grown_is_replaced(project: Project, method: str, processes: int) -> None:
    jobs = [project.queue.submit("Honest", method, [200]) for _ in range(3)]
    project.drain(concurrency=1)
    assert len({project.queue.get(job.id).result for job in jobs}) == processes


@pytest.mark.parametrize(("most", "mib", "processes"), [("32MiB", 60, 3), ("2GiB", 200, 1)])
def test_how_much_a_runner_may_grow_can_be_set(project: Project, most: str, mib: int, processes: int) -> None:
    project.allow("retries     = 0", f'retries     = 0\nrecycle_growth = "{most}"')
    jobs = [project.queue.submit("Honest", "leak", [mib]) for _ in range(3)]
    project.drain(concurrency=1)
    assert len({project.queue.get(job.id).result for job in jobs}) == processes


def test_so_many_jobs_run_at_a_time(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    jobs = [project.queue.submit("Honest", "wait_for", [str(go), str(notes)]) for _ in range(5)]
    project.start(concurrency=3)
    wait_for_lines(notes, 3)
    go.touch()
    for job in jobs:
        assert project.queue.wait(job.id, LIMIT).state is State.DONE


def test_changed_code_is_taken_over_where_that_is_wanted(project: Project) -> None:
    worker = project.start(reload=True).ready()
    assert project.queue.wait(project.queue.submit("Functions", "twice", ["a"]).id, LIMIT).result == "aa"
    text = (project.root / "honest.py").read_text("utf-8")
    project.rewrite("honest.py", text.replace("return text * 2", "return text * 3"))
    assert project.queue.wait(project.queue.submit("Functions", "twice", ["a"]).id, LIMIT).result == "aaa"
    assert "honest.py has changed" in worker.says()


def test_code_stays_as_it_was_where_it_is_not(project: Project) -> None:
    project.start()
    assert project.queue.wait(project.queue.submit("Functions", "twice", ["a"]).id, LIMIT).result == "aa"
    text = (project.root / "honest.py").read_text("utf-8")
    project.rewrite("honest.py", text.replace("return text * 2", "return text * 3"))
    later = project.queue.submit("Functions", "twice", ["a"], delay=1.2)
    assert project.queue.wait(later.id, LIMIT).result == "aa"
