"""Which job is next: the one of the highest priority, then the oldest; none before its time."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

from bgjobs.job import State
from tests.process.conftest import LIMIT, lines, request, wait_for_lines, wait_until
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Project


def started(project: Project, jobs: list[Job]) -> list[Job]:
    return [project.queue.get(job.id) for job in jobs]


def test_a_backlog_runs_by_priority_and_then_by_age(project: Project, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    dice = random.Random(7)
    priorities = [dice.randrange(10) for _ in range(300)]
    requests = [request("Honest", "sign", str(signed), priority=priority) for priority in priorities]
    jobs = project.queue.submit_many(requests[:250])
    jobs += [project.queue.submit_many([each])[0] for each in requests[250:]]  # in buckets of others' making
    project.drain()
    expected = sorted(jobs, key=lambda job: (-job.priority, job.not_before, job.id))
    assert lines(signed) == [job.id for job in expected]
    moments = [job.attempts[0].started_at for job in started(project, expected)]
    assert moments == sorted(moments)


def test_delays_are_respected_and_then_priorities(project: Project, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    dice = random.Random(11)
    jobs = project.queue.submit_many(
        request("Honest", "sign", str(signed), priority=dice.randrange(10), delay=dice.choice([0, 1, 2, 3]))
        for _ in range(80)
    )
    project.drain()
    done = started(project, jobs)
    assert {job.state for job in done} == {State.DONE}
    for job in done:
        assert job.attempts[0].started_at >= job.not_before
    # Nothing of a lower priority went first, among those that were due at the same time.
    order = {job_id: place for place, job_id in enumerate(lines(signed))}
    for job in done:
        for other in done:
            if job.not_before == other.not_before and job.priority > other.priority:
                assert order[job.id] < order[other.id]


def test_a_delayed_job_starts_soon_after_its_moment(project: Project) -> None:
    project.start().ready()
    delays = [0.21, 0.42, 0.63, 0.84, 1.05, 1.26]
    jobs = project.queue.submit_many(request("Honest", "echo", delay=delay) for delay in delays)
    late = []
    for job in jobs:
        done = project.queue.wait(job.id, LIMIT)
        late.append(done.attempts[0].started_at - job.not_before)
    assert min(late) >= timedelta(0)
    # Of several, one at least: a worker that only looked each second would be later with most of them.
    assert ON_WINE or min(late) < timedelta(milliseconds=500)  # it takes longer to start an attempt


def test_a_job_of_high_priority_overtakes_those_that_were_claimed_ahead(project: Project, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    project.queue.submit_many([request("Honest", "sign", str(signed), 0.002) for _ in range(300)])
    project.start()
    wait_until(lambda: len(lines(signed)) > 100, pause=0)
    urgent = project.queue.submit("Honest", "sign", [str(signed)], priority="high")
    before = len(lines(signed))
    wait_for_lines(signed, 301)
    # The one that ran, and some that began while the news was on its way, on a machine that may be slow.
    assert lines(signed).index(urgent.id) <= before + 60


def test_a_job_overtakes_what_waits_even_behind_something_more_urgent(project: Project, tmp_path: Path) -> None:
    signed, go, begun = tmp_path / "signed", tmp_path / "go", tmp_path / "begun"
    quick = [request("Honest", "echo", n, priority=9) for n in range(60)]  # so short that the worker works ahead
    gated = request("Honest", "wait_for", str(go), str(begun), priority=9)
    first = request("Honest", "sign", str(signed), priority=8)
    last = [request("Honest", "sign", str(signed), priority=5) for _ in range(30)]
    jobs = project.queue.submit_many([*quick, gated, first, *last])
    project.start()
    wait_for_lines(begun)
    between = project.queue.submit("Honest", "sign", [str(signed)], priority=7)
    wait_until(lambda: project.state(between) is State.RUNNING)  # which says that the worker has seen it
    # Seen, but perhaps what was sent ahead is not recalled yet. It is before the worker sees a second one.
    second = project.queue.submit("Honest", "sign", [str(signed)], priority=6)
    wait_until(lambda: project.state(second) is State.RUNNING)
    go.touch()
    wait_for_lines(signed, 33)
    others = [line for line in lines(signed) if line != second.id]
    assert others == [jobs[61].id, between.id, *(job.id for job in jobs[62:])]


def test_jobs_that_have_come_back_keep_their_age(project: Project, tmp_path: Path) -> None:
    signed, go = tmp_path / "signed", tmp_path / "go"
    old = project.queue.submit("Honest", "wait_for", [str(go), str(signed)])
    others = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(50)])
    worker = project.start(grace=0)
    wait_for_lines(signed)
    assert worker.stop() == 0
    go.touch()
    project.drain()
    assert lines(signed) == [old.id, old.id, *(job.id for job in others)]


def test_waiting_makes_a_job_more_urgent_where_that_is_wanted(project: Project, tmp_path: Path) -> None:
    project.allow("[bgjobs]\n", "[bgjobs]\nage_boost = 0.3\n")
    signed = tmp_path / "signed"
    old = project.queue.submit("Honest", "sign", [str(signed)], priority=4)
    other = project.queue.submit("Honest", "sign", [str(signed)], priority=6, delay=1)
    wait_until(lambda: project.state(other) is State.QUEUED)
    project.drain()
    assert lines(signed) == [old.id, other.id]
