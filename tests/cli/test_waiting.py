"""`bgjobs wait` and `bgjobs logs`: until the end, and what was printed on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from bgjobs import Queue, event_log
from tests.cli.commands import (
    PATIENCE_S,
    Bgjobs,
    Finished,
    environment,
    error,
    objects,
    on_terminal,
    wait_until,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals in its Python")


@pytest.mark.parametrize(
    ("names", "status"),
    [(["done"], 0), (["failed"], 5), (["cancelled"], 6), (["done", "cancelled", "failed"], 5)],
    ids=str,
)
def test_the_exit_status_of_wait_says_how_the_jobs_ended(finished: Finished, names: list[str], status: int) -> None:
    result = finished.bgjobs("wait", *(finished.jobs[name].id for name in names))
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.count("\n") == sum(name != "done" for name in names)


def test_wait_prints_the_result_or_the_record(finished: Finished) -> None:
    done = finished.jobs["done"].id
    assert finished.bgjobs("wait", done, "--result").stdout == "5\n"
    assert finished.bgjobs("wait", finished.jobs["low"].id, "--result").stdout == "null\n"
    [record] = objects(finished.bgjobs("wait", done[-8:], "--json"))
    assert (record["id"], record["result"]) == (done, 5)


def test_wait_gives_up_after_the_timeout(finished: Finished) -> None:
    result = finished.bgjobs("wait", finished.jobs["queued"].id, "--timeout", "0.1", "--json")
    assert (result.returncode, result.stdout) == (124, "")
    assert error(result)["code"] == "timed-out"
    assert finished.bgjobs("wait", finished.jobs["queued"].id, "--timeout", "soon").returncode == 2


def test_wait_for_any_ends_with_the_first_and_names_it(finished: Finished) -> None:
    done = finished.jobs["done"].id
    result = finished.bgjobs("wait", finished.jobs["queued"].id, done, "--any")
    assert (result.returncode, result.stdout) == (0, f"{done}\n")


@posix
def test_waiting_on_a_terminal_shows_the_progress(
    project: Path, tmp_path: Path, queue: Queue, worker: subprocess.Popen[str]
) -> None:
    gate = project / "gate"
    job = queue.submit("Work", "step_by_step", [str(gate)])

    def opened(text: str) -> bool:
        if "first" in text:
            gate.touch()
        return False

    status, shown = on_terminal(["wait", job.id, "--result"], cwd=project, env=environment(tmp_path), until=opened)
    assert status == 0
    assert "Work.step_by_step running" in shown
    assert '"through"' in shown


def test_logs_prints_what_the_latest_attempt_printed(finished: Finished) -> None:
    flaky = finished.jobs["flaky"].id
    assert finished.bgjobs("logs", flaky).stdout == "attempt 2\n"
    assert finished.bgjobs("logs", flaky, "--attempt", "1").stdout == "attempt 1\n"
    assert finished.bgjobs("logs", flaky, "--attempt", "1", "--json").stdout == '{"line":"attempt 1"}\n'
    assert finished.bgjobs("logs", finished.jobs["queued"].id).stdout == ""


def test_logs_leaves_output_as_it_is_when_nobody_looks(finished: Finished) -> None:
    raw = subprocess.run(
        [sys.executable, "-m", "bgjobs", "logs", finished.jobs["hostile"].id],
        cwd=finished.root,
        env=environment(finished.root.parent),
        capture_output=True,
        check=True,
    )
    assert raw.stdout == b"\x1b]0;owned\x07\x1b[2J[bold]markup[/nope]\ttab\n"


def test_an_attempt_that_there_was_not_is_wrong_usage(finished: Finished) -> None:
    for number in ("3", "0"):
        result = finished.bgjobs("logs", finished.jobs["flaky"].id, "--attempt", number, "--json")
        assert (result.returncode, error(result)["code"]) == (2, "bad-attempt")


def test_logs_without_a_job_is_the_end_of_the_status_log(finished: Finished) -> None:
    lines = finished.bgjobs("logs", "-n", "2").stdout.splitlines()
    assert len(lines) == 2
    assert "Status: QUEUED" in lines[1]
    errors = finished.bgjobs("logs", "--errors").stdout.splitlines()
    assert all("Status: FAILED" in line for line in errors)
    [last] = objects(finished.bgjobs("logs", "--errors", "--json"))[-1:]
    assert {"at", "class", "method", "priority", "status", "job", "attempt", "message"} == set(last)


@pytest.mark.parametrize("argv", [["--attempt", "1"], ["--errors", "01m00000000000000000000000"]], ids=str)
def test_logs_refuses_what_makes_no_sense(finished: Finished, argv: list[str]) -> None:
    assert finished.bgjobs("logs", *argv).returncode == 2


def test_the_tail_of_the_log_reaches_back_into_rotated_files(bgjobs: Bgjobs, queue: Queue) -> None:
    for text in ("one", "two"):
        queue.submit("Work", "echo", [text])
    log = Path(queue.settings.log_dir, event_log.STATUS_LOG)
    log.replace(f"{log}.1")
    last = queue.submit("Work", "echo", ["three"])
    lines = bgjobs("logs", "-n", "2").stdout.splitlines()
    assert len(lines) == 2
    assert last.id in lines[1]


class Following:
    """A command whose output is read while it runs."""

    def __init__(self, project: Path, home: Path, *argv: str) -> None:
        self._path = home / "followed"
        self._file = self._path.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bgjobs", *argv], cwd=project, env=environment(home), stdout=self._file
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._file.close()

    def text(self) -> str:
        return self._path.read_text()


def test_following_the_log_goes_on_over_its_rotation(project: Path, tmp_path: Path, queue: Queue) -> None:
    ids = [queue.submit("Work", "echo", ["one"]).id]
    log = Path(queue.settings.log_dir, event_log.STATUS_LOG)
    with Following(project, tmp_path, "logs", "-f") as followed:
        wait_until(lambda: ids[0] in followed.text())
        ids.append(queue.submit("Work", "echo", ["two"]).id)
        log.replace(f"{log}.1")
        ids.append(queue.submit("Work", "echo", ["three"]).id)
        wait_until(lambda: ids[2] in followed.text())
        assert [line.partition("Job: ")[2][:26] for line in followed.text().splitlines()] == ids


def test_following_a_job_shows_its_output_as_it_comes_and_ends_with_it(
    project: Path, tmp_path: Path, queue: Queue, worker: subprocess.Popen[str]
) -> None:
    gate = project / "gate"
    job = queue.submit("Work", "step_by_step", [str(gate)])
    with Following(project, tmp_path, "logs", "-f", job.id) as followed:
        wait_until(lambda: followed.text() == "one\n")
        gate.touch()
        assert followed.process.wait(PATIENCE_S) == 0
        assert followed.text() == "one\ntwo\n"


def test_output_that_nobody_reads_on_makes_no_noise(finished: Finished) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "bgjobs", "list"],
        cwd=finished.root,
        env=environment(finished.root.parent),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")
