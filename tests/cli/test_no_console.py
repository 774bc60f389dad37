"""Without a console: standard streams that are closed, or None as under pythonw.exe. All goes on, and says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from bgjobs.spool.doctor import fsck
from bgjobs.spool.layout import Layout
from tests.cli.commands import PATIENCE_S, environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs import Queue

# As a service manager, cron or a shell's `<&- >&- 2>&-` may start it: the next file that is opened gets number 0.
CLOSED = """
import os, sys
for descriptor in {which}:
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, "-m", "bgjobs", *sys.argv[1:]])
"""
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="exec starts a new process there")
# As pythonw.exe does, before anything of bgjobs is imported.
NONE = """
import sys
sys.stdin = sys.stdout = sys.stderr = sys.__stdin__ = sys.__stdout__ = sys.__stderr__ = None
from bgjobs.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(
    params=[
        pytest.param(CLOSED.format(which=(0, 1, 2)), marks=posix_only),
        pytest.param(CLOSED.format(which=(2,)), marks=[posix_only, pytest.mark.sweep]),
        pytest.param(NONE, marks=pytest.mark.sweep if sys.platform != "win32" else ()),
    ],
    ids=["closed", "no errors", "none"],
)
def run(request: pytest.FixtureRequest, project: Path) -> Callable[..., int]:
    """Return what runs a command without a console, and returns its exit status."""

    def run(*words: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", request.param, *words],
            cwd=project,
            env=environment(project.parent),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        # A job in the foreground prints where it finds a descriptor, also under a Python that has no stream for it.
        assert done.stderr == b"" or "run" in words
        return done.returncode

    return run


def test_jobs_are_submitted_run_and_looked_at(run: Callable[..., int], project: Path, queue: Queue) -> None:
    (project / "jobs.jsonl").write_text('{"class":"Work","method":"echo","args":["two"]}\n' * 2, encoding="utf-8")
    assert run("submit", "Work", "echo", "one") == 0
    assert run("batch", "jobs.jsonl") == 0
    assert run("submit", "Work", "hostile") == 0
    assert run("submit", "Work", "leave") == 0
    assert run("worker", "--drain", "-c", "2") == 0
    jobs = list(queue.jobs())
    assert sorted(str(job.result) for job in jobs if job.state is State.DONE) == ["one", "two", "two"]
    assert len([job for job in jobs if job.state is State.FAILED]) == 2
    assert [finding for finding in fsck.check(Layout(queue.settings.spool)) if finding.serious] == []
    for words in (["status"], ["status", jobs[0].id], ["list"], ["logs"], ["jobs"], ["doctor"], ["check"]):
        assert run(*words) in {0, 1}


def test_what_a_job_prints_goes_to_its_own_output(run: Callable[..., int], queue: Queue) -> None:
    job = queue.submit("Work", "echo", ["to be kept"])
    assert run("worker", "--drain", "-c", "1") == 0
    assert queue._store.read_output(queue.get(job.id), 1) == b"to be kept\n"
    # And what the worker would have said is in no file that happened to get the number of a stream.
    assert not [path for path in Path(queue.settings.spool).rglob("*.json") if b"bgjobs:" in path.read_bytes()]


def test_mistakes_are_told_by_the_exit_status(run: Callable[..., int]) -> None:
    assert run("submit", "Work", "no_such_method") == 3
    assert run("submit", "Work", "echo", "x", "--priority", "17") == 2
    assert run("status", "00000000") == 4
    assert run() == 0


def test_a_worker_in_the_background_starts_and_stops(run: Callable[..., int], queue: Queue) -> None:
    job = queue.submit("Work", "nothing")
    assert run("worker", "--detach", "-c", "1") == 0
    try:
        wait_until(lambda: queue.get(job.id).state is State.DONE)
    finally:
        assert run("worker", "--stop") == 0
    assert queue.workers() == []


def test_a_job_runs_in_the_foreground(run: Callable[..., int]) -> None:
    assert run("run", "Work", "add", "1") == 0
    assert run("run", "Work", "fail") == 5
