"""Real command lines, each a process of its own, in a project of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import PATIENCE_S, Bgjobs, Finished, environment, make_project, open_queue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs import Queue


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def bgjobs(project: Path, tmp_path: Path) -> Bgjobs:
    return Bgjobs(project, tmp_path)


@pytest.fixture
def queue(project: Path) -> Queue:
    return open_queue(project)


@pytest.fixture
def worker(project: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker that runs while the test does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "worker", "-c", "2", "--grace", "0s"],
        cwd=project,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A project with ended jobs, for tests that only look."""
    root = make_project(tmp_path_factory.mktemp("finished") / "project")
    queue = open_queue(root)
    kept = Finished(root, queue, Bgjobs(root, root.parent))
    kept.jobs = {
        "done": queue.submit("Work", "add", ["2"], {"b": "3"}, text=True, tags=["good"], priority="high"),
        "failed": queue.submit("Work", "fail", ["bad\nnews"]),
        "hostile": queue.submit("Work", "hostile"),
        "login": queue.submit("Work", "login", ["ann"], {"password": "hunter2"}),
        "flaky": queue.submit("Work", "flaky", retries=1),
        "low": queue.submit("Other", "handle"),
    }
    worker = kept.bgjobs("worker", "--drain", "-c", "2")
    assert worker.returncode == 0, worker.stderr
    kept.jobs["cancelled"] = queue.submit("Work", "echo", ["never"], delay=3600)
    queue.cancel(kept.jobs["cancelled"].id)
    kept.jobs["scheduled"] = queue.submit("Work", "echo", ["later"], delay=3600)
    kept.jobs["queued"] = queue.submit("Work", "echo", ["soon"])
    return kept
