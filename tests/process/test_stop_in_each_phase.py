"""Whenever and however often a worker is asked to stop: it does, and every job ends with what it deserves."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import lines, request, wait_for_lines, wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Project, Worker

SHORT, COUNT = 0.001, 60


def starting(project: Project, signed: Path) -> Worker:
    worker = project.start()
    wait_until(lambda: list(project.spool.glob("workers/*")))
    return worker


def busy(project: Project, signed: Path) -> Worker:
    worker = project.start(concurrency=2)
    wait_for_lines(signed, COUNT // 3)
    return worker


def between_attempts(project: Project, signed: Path) -> Worker:
    worker = project.start(concurrency=2)
    wait_until(lambda: project.queue.counts()[State.SCHEDULED])
    return worker


def recovering(project: Project, signed: Path) -> Worker:
    dead = project.start(concurrency=2)
    wait_for_lines(signed, COUNT // 3)
    dead.kill()
    known = set(project.spool.glob("workers/*"))
    worker = project.start()
    # Not before: what imports at the start of an interpreter, as coverage does, may swallow a Ctrl-C.
    wait_until(lambda: set(project.spool.glob("workers/*")) - known)
    return worker


@pytest.mark.parametrize(
    ("phase", "name", "times"),
    part(
        [
            (starting, "SIGTERM", 2),
            (busy, "SIGINT", 2),
            (recovering, "SIGINT", 2),
            (between_attempts, "SIGTERM", 1),
            (starting, "SIGHUP", 1),
            (busy, "SIGTERM", 1),
            (busy, "SIGHUP", 1),
        ],
        tried=3,
    ),
)
def test_whenever_a_worker_is_asked_to_stop_it_does_and_no_job_suffers(
    project: Project, tmp_path: Path, phase: object, name: str, times: int
) -> None:
    if sys.platform == "win32" and name != "SIGTERM":
        pytest.skip("there is one way to ask on Windows, and no signal")
    number = getattr(signal, name)
    signed, tries = tmp_path / "signed", tmp_path / "tries"
    stubborn = project.queue.submit("Honest", "fail_first", [str(tries), 2], retries=3, retry_delay=0.3)
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed), SHORT) for _ in range(COUNT)])
    assert callable(phase)
    worker = phase(project, signed)
    for _ in range(times):
        worker.ask_to_stop(number)
    assert worker.ended() == 0
    assert "Traceback" not in worker.says()
    project.drain(concurrency=2)
    assert project.queue.get(stubborn.id).result == 3
    assert project.queue.get(stubborn.id).attempt == 3
    runs = lines(signed)
    for job in jobs:
        done = project.queue.get(job.id)
        outcomes = [attempt.outcome for attempt in done.attempts]
        assert (done.state, outcomes[-1], outcomes.count("succeeded"), done.attempt) == (State.DONE, "succeeded", 1, 1)
        assert 1 <= runs.count(job.id) <= len(outcomes)  # one that was interrupted may have signed before
        assert phase is recovering or done.crashes == 0
    assert project.traces() == []
