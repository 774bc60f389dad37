"""A method may be a coroutine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs.job import State
from tests.process.conftest import KILLED, LIMIT, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue


def test_a_coroutine_runs_to_its_end(queue: Queue) -> None:
    assert queue.wait(queue.submit("Modern", "add", [2, 3]).id, LIMIT).result == 5


def test_a_coroutine_that_raises_is_a_failed_attempt(queue: Queue) -> None:
    job = queue.wait_until_ended(queue.submit("Modern", "fail").id, LIMIT)
    assert job.error is not None
    assert (job.state, job.error.type, job.error.message) == (State.FAILED, "LookupError", "not in the loop")
    assert "modern.py" in job.error.traceback


def test_a_coroutine_that_takes_too_long_cleans_up(queue: Queue, tmp_path: Path) -> None:
    left = tmp_path / "left"
    job = queue.wait_until_ended(queue.submit("Modern", "sleep", [str(left), 60], timeout=0.3).id, LIMIT)
    assert [(attempt.outcome, attempt.exit) for attempt in job.attempts] == [("timed_out", None)]
    assert left.exists()


def test_a_coroutine_that_is_cancelled_cleans_up(queue: Queue, tmp_path: Path) -> None:
    left = tmp_path / "left"
    job = queue.submit("Modern", "sleep", [str(left), 60])
    wait_until((tmp_path / "left.begun").exists)
    queue.cancel(job.id)
    cancelled = queue.wait_until_ended(job.id, LIMIT)
    assert [(attempt.outcome, attempt.exit) for attempt in cancelled.attempts] == [("cancelled", None)]
    assert left.exists()


def test_a_coroutine_that_does_not_let_go_is_killed(queue: Queue) -> None:
    job = queue.wait_until_ended(queue.submit("Modern", "cling", timeout=0.3).id, LIMIT)
    assert [(attempt.outcome, attempt.exit) for attempt in job.attempts] == [("timed_out", KILLED)]
