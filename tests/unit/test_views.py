"""What the command line and a page draw: overviews, jobs in full and in order, and why a job has not begun."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bgjobs import clock
from bgjobs.errors import NoSuchJobError, TimedOutError, UsageError
from bgjobs.job import Attempt, Job, JobError, State
from bgjobs.requests import filter_of
from bgjobs.store import Filter, WorkerInfo, WorkerView
from bgjobs.views import jobs, overview
from bgjobs.views.jobs import ORDERS, JobView, Wait
from tests.cli.commands import make_project, open_queue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bgjobs import Queue

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
UNKNOWN = "01m00000000000000000000000"
ALL = Filter()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return open_queue(make_project(tmp_path))


def seen(*, alive: bool = True, responsive: bool = True, **info: Any) -> WorkerView:
    about: dict[str, Any] = {"host": "web1", "pid": 7, "concurrency": 1, "started_at": NOW, "version": "0"} | info
    return WorkerView(id=UNKNOWN, info=WorkerInfo(**about), alive=alive, responsive=responsive)


def job_in(state: State, charged: int = 0) -> Job:
    later = NOW + timedelta(minutes=5)
    return Job(
        id=UNKNOWN,
        class_name="Work",
        method="echo",
        priority=5,
        not_before=later,
        submitted_at=NOW,
        retries=3,
        state=state,
        charged=charged,
    )


DEAD, STOPPED, AT_WORK = seen(alive=False), seen(responsive=False), seen()
REPAIRING = seen(concurrency=0)  # `doctor --repair` takes a place, and runs no job
OTHERS = [seen(only=("Other",)), seen(only=("Other", "Work"), min_priority=6), seen(min_priority=8)]


@pytest.mark.parametrize(
    ("job", "workers", "reason"),
    [
        (job_in(State.QUEUED), [], "no-worker"),
        (job_in(State.QUEUED), [DEAD], "no-worker"),
        (job_in(State.QUEUED), [DEAD, STOPPED], "stopped-workers"),
        (job_in(State.QUEUED), [DEAD, STOPPED, AT_WORK], "turn"),
        (job_in(State.QUEUED), [REPAIRING], "no-worker"),
        (job_in(State.QUEUED), OTHERS, "not-taken"),
        (job_in(State.QUEUED), [*OTHERS, STOPPED], "stopped-workers"),
        (job_in(State.QUEUED), [*OTHERS, seen(only=("Work",), min_priority=5)], "turn"),
        (job_in(State.SCHEDULED), [], "delay"),
        (job_in(State.SCHEDULED, charged=1), [AT_WORK], "backoff"),
        *((job_in(state), [], None) for state in State if state not in {State.QUEUED, State.SCHEDULED}),
    ],
    ids=str,
)
def test_what_a_job_waits_for(job: Job, workers: Sequence[WorkerView], reason: str | None) -> None:
    found = jobs.wait_of(job, workers)
    assert (found and found.reason) == reason
    assert (found and found.until) == (job.not_before if job.state is State.SCHEDULED else None)


def test_a_job_in_full_says_what_it_waits_for_or_which_job_retries_it(queue: Queue) -> None:
    job = queue.submit("Work", "echo", ["x"])
    assert jobs.one(queue, job.id) == JobView(queue.get(job.id), waits_for=Wait("no-worker"))
    queue.cancel(job.id)
    assert jobs.one(queue, job.id) == JobView(queue.get(job.id))
    again = queue.retry(job.id)
    found = jobs.one(queue, job.id[-10:])
    assert found == JobView(queue.get(job.id), retried_by=again.id)
    assert jobs.record(queue, found) == queue.to_json(found.job) | {"retried_by": again.id}


def test_the_record_of_a_job_hides_its_secrets(queue: Queue) -> None:
    job = queue.submit("Work", "login", ["ann", "hunter2"])
    assert jobs.record(queue, jobs.one(queue, job.id))["args"] == ["ann", "***"]


def test_many_jobs_come_in_the_order_that_is_asked_for(queue: Queue) -> None:
    low = queue.submit("Work", "echo", ["x"], priority=2, delay=60)
    high = queue.submit("Work", "add", [1], priority=8, delay=120)
    other = queue.submit("Other", "handle", priority=5)
    expected = {
        "newest": [other, high, low],
        "oldest": [low, high, other],
        "priority": [high, other, low],
        "due": [other, low, high],
        "finished": [other, high, low],
        "class": [other, high, low],
        "state": [other, low, high],
    }
    assert expected.keys() == ORDERS.keys()
    for order, wanted in expected.items():
        assert [view.job.id for view in jobs.many(queue, ALL, order)] == [job.id for job in wanted], order
        assert [view.job.id for view in jobs.many(queue, ALL, order, 2)] == [job.id for job in wanted[:2]], order


def test_many_jobs_are_told_with_those_that_retry_them_however_many_they_are(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "FIRST_CHUNK", 2)
    old = [queue.submit("Work", "nothing", delay=60) for _ in range(7)]
    for job in old:
        queue.cancel(job.id)
    new = {job.id: queue.retry(job.id).id for job in old}
    found = {view.job.id: view.retried_by for view in jobs.many(queue, ALL)}
    assert found == new | dict.fromkeys(new.values())


def test_ids_are_found_once_each_in_the_order_in_which_they_are_named(queue: Queue) -> None:
    first, second = (queue.submit("Work", "nothing") for _ in range(2))
    found = jobs.ids(queue, [second.id, first.id[-20:], "x", UNKNOWN[-9:], second.id[-22:], "x"])
    assert [one if isinstance(one, str) else type(one) for one in found] == [
        second.id,
        first.id,
        UsageError,
        NoSuchJobError,
    ]


def test_a_wait_ends_with_the_first_job_or_with_all_and_gives_up_in_time(queue: Queue) -> None:
    ended, left = queue.submit("Work", "nothing", delay=60), queue.submit("Work", "nothing", delay=60)
    queue.cancel(ended.id)
    shown: list[int] = []
    [found] = jobs.until_ended(queue, [left.id, ended.id], first=True, show=lambda all_of: shown.append(len(all_of)))
    assert (found.id, shown) == (ended.id, [2])
    with pytest.raises(TimedOutError, match=f"job {left.id} is scheduled: wait again"):
        jobs.until_ended(queue, [left.id, ended.id], timeout=0.01)
    queue.cancel(left.id)
    begun = time.monotonic()
    both = jobs.until_ended(queue, [left.id, ended.id], timeout=60)
    assert [job.id for job in both] == [left.id, ended.id]
    assert time.monotonic() - begun < 30


def test_an_overview_of_a_queue_that_nobody_has_used_makes_no_spool(queue: Queue) -> None:
    found = overview.look(queue, NOW)
    assert overview.to_json(found, queue) == {
        "counts": {state.value: 0 for state in State},
        "oldest_queued_s": None,
        "workers": [],
        "running": [],
    }


def test_an_overview_says_how_long_the_oldest_job_has_waited(queue: Queue) -> None:
    job = queue.submit("Work", "nothing")
    queue.submit("Work", "nothing", delay=60)
    found = overview.look(queue, job.not_before + timedelta(seconds=90))
    assert (found.counts[State.QUEUED], found.counts[State.SCHEDULED]) == (1, 1)
    assert overview.to_json(found, queue)["oldest_queued_s"] == pytest.approx(90)


def test_conditions_admit_what_they_say(queue: Queue) -> None:
    now = clock.now()
    error = JobError(type="ValueError", message="No such page")
    attempt = Attempt(number=1, started_at=now)
    job = replace(job_in(State.FAILED, charged=1), tags=("rent",), error=error, attempts=(attempt,), submitted_at=now)
    admitted: dict[str, Any] = {
        "state": "failed,done",
        "class_name": "Work",
        "method": "echo",
        "priority": "normal",
        "tag": "rent",
        "since": "2h",
        "until": now + timedelta(seconds=1),
        "error": "no such",
    }
    assert filter_of(now, **admitted).admits(job)
    others: dict[str, Any] = {
        "state": ["done"],
        "class_name": "Other",
        "method": "add",
        "priority": 4,
        "tag": "rents",
        "since": now + timedelta(seconds=1),
        "until": "2h",
        "error": "other",
    }
    for name, value in others.items():
        condition: dict[str, Any] = {name: value}
        assert not filter_of(now, **condition).admits(job), name
        with pytest.raises(UsageError, match=f"bad {name}"):
            filter_of(now, **{**condition, name: 5j})


def test_no_condition_admits_every_job_that_is_listed() -> None:
    assert filter_of(NOW, state=None, tag=None, since=None) == Filter()
    assert filter_of(NOW, default=frozenset({State.DONE})).states == {State.DONE}
