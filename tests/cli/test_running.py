"""`bgjobs run` and `bgjobs worker`: in the foreground, and until there is nothing left to do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.cli.commands import PATIENCE_S, Bgjobs, environment, wait_until
from tests.measuring import unmeasured

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue

UNWILLING = """
import time

class Unwilling:
    def sleep(self):
        said = "asleep"
        while True:
            try:
                print(said, flush=True)
                time.sleep(60)
            except BaseException:
                said = "sleeps on"
"""
UNWILLING_ALLOWED = """
[jobs.Unwilling]
class = "unwilling:Unwilling"
methods = ["sleep"]
kill_after = "1h"
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process alone")


def test_run_prints_the_result_on_stdout_and_the_output_on_stderr(bgjobs: Bgjobs, queue: Queue) -> None:
    result = bgjobs("run", "Work", "echo", "hello")
    assert (result.returncode, result.stdout, result.stderr) == (0, '"hello"\n', "hello\n")
    assert bgjobs("run", "Work", "add", "40", "-k", "b=2").stdout == "42\n"
    assert bgjobs("run", "Work", "kinds", "--args", '[1, "1", null]').stdout == '["int","str","NoneType"]\n'
    assert bgjobs("run", "Work", "nothing").stdout == ""
    assert not any(queue.counts().values())


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["Work", "fail", "because"], 5, "Work.fail failed: ValueError: because"),
        (["Work", "leave"], 5, "Work.leave failed: "),
        (["Work", "sleep", "60", "--timeout", "0.001"], 5, "Work.sleep failed: JobTimeout: "),
        (["Work", "add", "one"], 3, "does not fit int"),
        (["Nowhere", "fail"], 3, "is not in"),
        (["Work", "fail", "--retries", "3"], 2, "no such option"),
    ],
    ids=str,
)
def test_run_fails_as_a_job_would(bgjobs: Bgjobs, argv: list[str], status: int, said: str) -> None:
    result = bgjobs("run", *argv)
    assert (result.returncode, result.stdout) == (status, "")
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_failed_run_is_told_as_json_too(bgjobs: Bgjobs) -> None:
    result = bgjobs("run", "Work", "fail", "--json")
    assert json.loads(result.stderr.splitlines()[-1])["error"]["code"] == "job-failed"


@posix
def test_ctrl_c_ends_a_run_and_its_process(project: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "run", "Work", "sleep", "60"],
        cwd=project,
        env=unmeasured(environment(tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert process.stderr.readline() == "asleep\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)  # returns once nobody holds the pipe any more
    assert process.returncode == 130
    assert "Traceback" not in said


@posix
def test_a_second_ctrl_c_kills_what_a_run_has_started(project: Path, tmp_path: Path) -> None:
    (project / "unwilling.py").write_text(UNWILLING, "utf-8")
    with (project / "allowed_jobs.toml").open("a", encoding="utf-8") as allowlist:
        allowlist.write(UNWILLING_ALLOWED)
    process = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "run", "Unwilling", "sleep"],
        cwd=project,
        env=unmeasured(environment(tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for said in ("asleep\n", "sleeps on\n"):
        assert process.stderr.readline() == said
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130


def test_a_draining_worker_ends_when_all_is_done(bgjobs: Bgjobs, queue: Queue) -> None:
    jobs = [queue.submit("Work", "nothing"), queue.submit("Work", "nothing", delay=0.5), queue.submit("Work", "fail")]
    result = bgjobs("worker", "--drain", "-c", "2")
    assert (result.returncode, result.stdout) == (0, "")
    assert "worker " in result.stderr
    assert [queue.get(job.id).state for job in jobs] == [State.DONE, State.DONE, State.FAILED]


def test_a_worker_takes_only_what_it_is_told_to(bgjobs: Bgjobs, queue: Queue) -> None:
    low, other, high = (
        queue.submit("Work", "nothing", priority="low"),
        queue.submit("Other", "handle", priority="high"),
        queue.submit("Work", "nothing", priority="high"),
    )
    result = bgjobs("worker", "--once", "-q", "-c", "1", "--only", "Work", "--min-priority", "normal")
    assert (result.returncode, result.stderr) == (0, "")
    assert [queue.get(job.id).state for job in (low, other, high)] == [State.QUEUED, State.QUEUED, State.DONE]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-c", "0"], "--concurrency"),
        (["--only", "Nowhere"], "not in"),
        (["--min-priority", "11"], "bad priority"),
        (["--max-time", "soon"], "bad --max-time"),
        (["--grace", "-1"], "bad --grace"),
        (["--max-jobs", "0"], "--max-jobs"),
    ],
    ids=str,
)
def test_a_worker_refuses_options_that_cannot_be(bgjobs: Bgjobs, argv: list[str], said: str) -> None:
    result = bgjobs("worker", *argv)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr


@posix
def test_a_worker_ends_well_when_it_is_told_to_stop(worker: subprocess.Popen[str], queue: Queue) -> None:
    job = queue.submit("Work", "sleep", [60])
    wait_until(lambda: queue.get(job.id).state is State.RUNNING)
    worker.terminate()
    worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 0
    assert queue.get(job.id).state is State.QUEUED
    assert queue.get(job.id).attempt == 0
