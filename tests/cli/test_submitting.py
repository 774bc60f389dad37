"""`bgjobs submit`: what gets into the queue, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.ids import ID
from bgjobs.job import State
from tests.cli.commands import Bgjobs, environment, error, objects

if TYPE_CHECKING:
    from bgjobs import Queue

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a device file of POSIX systems")


def count(queue: Queue) -> int:
    return sum(queue.counts().values())


def test_submit_prints_the_id_alone(bgjobs: Bgjobs, queue: Queue) -> None:
    result = bgjobs("submit", "Work", "echo", "hello")
    assert (result.returncode, result.stderr) == (0, "")
    assert ID.fullmatch(result.stdout.removesuffix("\n"))
    assert queue.get(result.stdout.strip()).args == ("hello",)


def test_submit_with_json_prints_an_object_with_the_id(bgjobs: Bgjobs, queue: Queue) -> None:
    [found] = objects(bgjobs("submit", "Work", "echo", "hello", "--json"))
    assert list(found) == ["id"]
    assert queue.get(found["id"]).state is State.QUEUED


def test_every_option_of_submit_reaches_the_job(bgjobs: Bgjobs, queue: Queue) -> None:
    result = bgjobs(
        *("submit", "Work", "add", "-k", "a=1", "-k", "b=2", "-p", "HIGH", "-d", "2h", "-r", "7", "--retry-delay", "9"),
        *("--timeout", "1m", "--tag", "one", "--tag", "two"),
    )
    job = queue.get(result.stdout.strip())
    assert (job.kwargs, job.text, job.priority, job.retries, job.tags) == (
        {"a": "1", "b": "2"},
        True,
        8,
        7,
        ("one", "two"),
    )
    assert (job.retry_delay, job.timeout) == (timedelta(seconds=9), timedelta(minutes=1))
    assert job.not_before - job.submitted_at == timedelta(hours=2)


@pytest.mark.parametrize(
    ("zone", "text", "moment"),
    [
        ("XXX-5", "2033-12-01 09:00", datetime(2033, 12, 1, 4, 0, tzinfo=UTC)),
        ("XXX-5", "2033-12-01T09:00Z", datetime(2033, 12, 1, 9, 0, tzinfo=UTC)),
        ("XXX-5", "2033-12-01T09:00+02:00", datetime(2033, 12, 1, 7, 0, tzinfo=UTC)),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2033-03-27 02:30", datetime(2033, 3, 27, 1, 30, tzinfo=UTC)),  # left out
    ],
)
@posix
def test_at_is_local_unless_it_says_otherwise(
    bgjobs: Bgjobs, queue: Queue, zone: str, text: str, moment: datetime
) -> None:
    result = bgjobs("submit", "Work", "nothing", "--at", text, env={"TZ": zone})
    assert queue.get(result.stdout.strip()).not_before == moment


def test_text_becomes_what_the_annotation_says_and_json_keeps_its_types(bgjobs: Bgjobs, queue: Queue) -> None:
    as_text = queue.get(bgjobs("submit", "Work", "add", "4").stdout.strip())
    as_json = queue.get(bgjobs("submit", "Work", "kinds", "--args", '[1, "1", 1.5, null, [true]]').stdout.strip())
    by_name = queue.get(bgjobs("submit", "Work", "add", "--args", '{"a": 4}').stdout.strip())
    assert (as_text.args, as_text.text) == (("4",), True)
    assert (as_json.args, as_json.text) == ((1, "1", 1.5, None, [True]), False)
    assert by_name.kwargs == {"a": 4}


def test_an_argument_that_begins_with_a_dash_goes_after_two_dashes(bgjobs: Bgjobs, queue: Queue) -> None:
    result = bgjobs("submit", "Work", "add", "--", "-5", "-6")
    assert queue.get(result.stdout.strip()).args == ("-5", "-6")
    refused = bgjobs("submit", "Work", "add", "-5")
    assert refused.returncode == 2
    assert "goes after --" in refused.stderr


REFUSALS = [
    # wrong usage
    (2, "usage", ["submit", "Work"]),
    (2, "usage", ["submit", "Work", "echo", "x", "--colour"]),
    (2, "usage", ["submit", "Work", "echo", "x", "--retries", "many"]),
    (2, "usage", ["submit", "Work", "echo", "x", "--priority"]),
    (2, "bad-priority", ["submit", "Work", "echo", "x", "-p", "10"]),
    (2, "bad-delay", ["submit", "Work", "echo", "x", "--delay", "-5"]),
    (2, "bad-delay", ["submit", "Work", "echo", "x", "--delay", "5", "--at", "2033-12-01"]),
    (2, "bad-at", ["submit", "Work", "echo", "x", "--at", "tomorrow"]),
    (2, "bad-retries", ["submit", "Work", "echo", "x", "--retries", "-1"]),
    (2, "bad-retry-delay", ["submit", "Work", "echo", "x", "--retry-delay", "-1"]),
    (2, "bad-timeout", ["submit", "Work", "echo", "x", "--timeout", "0"]),
    (2, "bad-tag", ["submit", "Work", "echo", "x", "--tag", "two words"]),
    (2, "bad-keyword", ["submit", "Work", "echo", "-k", "text"]),
    (2, "bad-args", ["submit", "Work", "echo", "--args", "[1,"]),
    (2, "bad-args", ["submit", "Work", "echo", "--args", '"text"']),
    (2, "bad-args", ["submit", "Work", "echo", "--args", '{"text": "a", "text": "b"}']),
    (2, "bad-args", ["submit", "Work", "echo", "--args", "[NaN]"]),
    (2, "bad-args", ["submit", "Work", "echo", "--args", '["\\ud800"]']),
    (2, "bad-args", ["submit", "Work", "echo", "--args", "[" * 100_000]),
    (2, "bad-args", ["submit", "Work", "echo", "--args", '["a"]', "b"]),
    # refused
    (3, "bad-name", ["submit", "os.system", "echo", "x"]),
    (3, "bad-name", ["submit", "W\u043erk", "echo", "x"]),
    (3, "not-allowed", ["submit", "Nowhere", "echo", "x"]),
    (3, "bad-name", ["submit", "Work", "__init__"]),
    (3, "no-such-method", ["submit", "Missing", "not_there"]),
    (3, "bad-arguments", ["submit", "Work", "echo"]),
    (3, "bad-arguments", ["submit", "Work", "echo", "x", "y"]),
    (3, "bad-arguments", ["submit", "Work", "echo", "-k", "txt=x"]),
    (3, "bad-arguments", ["submit", "Work", "echo", "x", "-k", "text=y"]),
    (3, "bad-arguments", ["submit", "Work", "add", "one"]),
    (3, "bad-arguments", ["submit", "Work", "echo", "--args", '["' + "x" * 20_000 + '"' + ',"y"]']),
    (3, "bad-arguments", ["submit", "Work", "kinds", "--args", "[" * 40 + "]" * 40]),
    (3, "bad-arguments", ["submit", "Work", "kinds", "--args", "[1e999]"]),
    (3, "repeated", ["submit", "Work", "echo", "-k", "text=a", "-k", "text=b"]),
]


@pytest.mark.parametrize(("status", "code", "argv"), REFUSALS, ids=lambda part: str(part)[:60])
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_queued(
    bgjobs: Bgjobs, queue: Queue, status: int, code: str, argv: list[str]
) -> None:
    assert count(queue) == 0
    result = bgjobs(argv[0], "--json", *argv[1:])
    assert (result.returncode, result.stdout) == (status, "")
    assert error(result)["code"] == code
    assert "Traceback" not in result.stderr
    assert count(queue) == 0


def test_a_refusal_is_one_line_that_says_what_which_and_what_to_do(bgjobs: Bgjobs, project: Path) -> None:
    result = bgjobs("submit", "Wrok", "echo", "x")
    assert result.stderr == f"bgjobs: class Wrok is not in {project / 'allowed_jobs.toml'}: did you mean Work?\n"


def test_a_refusal_is_in_both_logs(bgjobs: Bgjobs, project: Path) -> None:
    bgjobs("submit", "Work", "format_disk")
    bgjobs("submit", "Work", "echo", "-k", "text=a", "-k", "text=b")
    for name in ("background_jobs.log", "background_jobs_errors.log"):
        lines = (project / "spool" / "logs" / name).read_text().splitlines()
        assert len(lines) == 2
        assert all("Status: REFUSED" in line for line in lines)


def test_a_refusal_as_the_very_first_command_does_not_spoil_the_spool(bgjobs: Bgjobs) -> None:
    assert bgjobs("submit", "Nowhere", "echo").returncode == 3
    assert bgjobs("submit", "Work", "echo", "x").returncode == 0


def test_nothing_from_outside_reaches_the_terminal_raw(bgjobs: Bgjobs) -> None:
    result = bgjobs("submit", "Work\x1b[2J\n\u202e", "echo")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there a command line is text")
def test_an_option_of_bytes_that_are_no_text_is_refused_in_json_too(bgjobs: Bgjobs) -> None:
    result = bgjobs("submit", "Work", "echo", "--\udcff", "--json")
    assert result.returncode == 2
    assert error(result)["code"] == "usage"
    assert "\\udcff" in error(result)["message"]


def test_without_an_allowlist_nothing_can_be_submitted(bgjobs: Bgjobs, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = bgjobs("submit", "Work", "echo", "x", cwd=empty)
    assert result.returncode == 1
    assert "bgjobs init" in result.stderr
    assert bgjobs("submit", "Work", "echo", "x", "--config", "gone.toml").returncode == 1


def test_a_mistake_in_the_allowlist_is_told_with_file_and_line(bgjobs: Bgjobs, project: Path) -> None:
    allowlist = project / "allowed_jobs.toml"
    allowlist.write_text(allowlist.read_text().replace('retry_delay = "0.1s"', 'retry_daily = "1s"'))
    result = bgjobs("submit", "Work", "echo", "x")
    assert result.returncode == 1
    assert f"{allowlist}:4:" in result.stderr
    assert "retry_daily" in result.stderr


@posix
def test_an_unusable_spool_is_told_in_one_line(bgjobs: Bgjobs) -> None:
    result = bgjobs("submit", "Work", "echo", "x", "--spool", "/dev/null/spool", "--json")
    assert result.returncode == 1
    assert error(result)["code"] == "unusable-spool"


def test_the_options_win_over_the_variables_and_the_variables_over_the_place(
    bgjobs: Bgjobs, project: Path, tmp_path: Path
) -> None:
    elsewhere = {"BGJOBS_CONFIG": str(project / "allowed_jobs.toml"), "BGJOBS_SPOOL": str(tmp_path / "by-variable")}
    bgjobs("submit", "Work", "echo", "x", cwd=tmp_path, env=elsewhere)
    assert (tmp_path / "by-variable" / "VERSION").exists()
    bgjobs("submit", "Work", "echo", "x", "--spool", "by-option", cwd=tmp_path, env=elsewhere)
    assert (tmp_path / "by-option" / "VERSION").exists()
    assert not (project / "spool").exists()


def test_a_dry_run_checks_all_and_queues_nothing(bgjobs: Bgjobs, queue: Queue) -> None:
    [shown] = objects(bgjobs("submit", "Work", "add", "1", "-p", "high", "-d", "1h", "--dry-run", "--json"))
    assert "id" not in shown
    assert (shown["class"], shown["args"], shown["priority"]) == ("Work", ["1"], 8)
    text = bgjobs("submit", "Work", "login", "ann", "hunter2", "--dry-run")
    assert (text.returncode, text.stderr) == (0, "")
    assert "Work.login" in text.stdout
    assert "hunter2" not in text.stdout
    assert bgjobs("submit", "Work", "add", "one", "--dry-run").returncode == 3
    assert count(queue) == 0


@posix
def test_an_id_that_cannot_be_printed_is_no_success(bgjobs: Bgjobs, project: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        argv = [sys.executable, "-m", "bgjobs", "submit", "Work", "echo", "x"]
        result = subprocess.run(
            argv, cwd=project, env=environment(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "No space left" in result.stderr


@posix
@pytest.mark.parametrize(
    ("words", "status"), [(["submit", "Work", "echo", "x"], 0), (["cancel", "0" * 26], 4), (["nix"], 2)]
)
def test_the_exit_status_tells_what_standard_error_cannot_take(
    project: Path, tmp_path: Path, words: list[str], status: int
) -> None:
    with Path("/dev/full").open("wb") as full:
        argv = [sys.executable, "-m", "bgjobs", *words]
        result = subprocess.run(
            argv, cwd=project, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert result.returncode == status


def test_submit_loads_only_what_it_needs(bgjobs: Bgjobs, project: Path, tmp_path: Path) -> None:
    bgjobs("submit", "Work", "echo", "x")  # the first one sets up the spool, which takes more
    program = (
        "import sys; from bgjobs.cli.app import run; run(['submit', 'Work', 'echo', 'x']); "
        "import json; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert not loaded & {"rich", "filelock", "psutil", "asyncio", "platformdirs", "pydantic", "click", "markdown_it"}
    assert "work" not in loaded


def test_wait_ends_with_the_job_and_tells_how_it_ended(bgjobs: Bgjobs, worker: subprocess.Popen[str]) -> None:
    done = bgjobs("submit", "Work", "add", "2", "--wait", "--json")
    first, record = objects(done)
    assert done.returncode == 0
    assert record["id"] == first["id"]
    assert (record["state"], record["result"]) == ("done", 3)
    failed = bgjobs("submit", "Work", "fail", "no such month", "--wait")
    assert failed.returncode == 5
    assert ID.fullmatch(failed.stdout.strip())
    assert failed.stderr == f"bgjobs: job {failed.stdout.strip()} failed: ValueError: no such month\n"


def test_follow_shows_what_all_attempts_print_on_stderr(bgjobs: Bgjobs, worker: subprocess.Popen[str]) -> None:
    result = bgjobs("submit", "Work", "flaky", "--retries", "1", "--follow")
    assert result.returncode == 0
    assert ID.fullmatch(result.stdout.strip())
    assert result.stderr == "attempt 1\nattempt 2\n"


def test_the_id_is_out_before_the_waiting_begins(project: Path, tmp_path: Path, queue: Queue) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "submit", "Work", "nothing", "--wait"],
        cwd=project,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    job_id = process.stdout.readline().strip()
    queue.cancel(job_id)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 6
    assert said == f"bgjobs: job {job_id} was cancelled\n"


@posix
@pytest.mark.parametrize("words", ["submit Work nothing", "submit Work nothing --json", "retry ID"])
@pytest.mark.parametrize("kind", ["full", "unread", "closed"])
def test_a_job_whose_id_cannot_be_printed_is_named_as_queued(
    project: Path, queue: Queue, tmp_path: Path, words: str, kind: str
) -> None:
    old = queue.submit("Work", "nothing")
    queue.cancel(old.id)
    if kind == "unread":
        reading, stdout = os.pipe()
        os.close(reading)
    else:
        stdout = os.open("/dev/full", os.O_WRONLY)
    through = ["sh", "-c", 'exec "$@" >&-', "sh"] if kind == "closed" else []
    argv = [*through, sys.executable, "-m", "bgjobs", *words.replace("ID", old.id).split()]
    result = subprocess.run(
        argv, cwd=project, env=environment(tmp_path), stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(stdout)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    [job] = queue.jobs(state="queued")
    assert f"job {job.id} is queued, but its id could not be printed: " in result.stderr
