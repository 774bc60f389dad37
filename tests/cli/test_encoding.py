"""What is printed into a pipe or file is UTF-8 with plain line ends, and every path may have spaces and any letters."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import environment, make_project, open_queue

if TYPE_CHECKING:
    from pathlib import Path

ODD = "Über uns – 日本 & 100% (1)"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a project in a directory with a strange name."""
    return make_project(tmp_path / ODD / "my project")


def printed(project: Path, tmp_path: Path, *arguments: str) -> bytes:
    """Return the bytes that a command prints without being told which encoding to use, run in a strange directory."""
    plain = {
        name: text for name, text in environment(tmp_path).items() if name not in {"PYTHONUTF8", "PYTHONIOENCODING"}
    }
    command = [sys.executable, "-m", "bgjobs", *arguments]
    done = subprocess.run(
        command,
        cwd=project,
        env=plain | {"LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout


def test_text_in_a_pipe_is_utf_8_with_plain_line_ends(odd: Path, tmp_path: Path) -> None:
    job = printed(odd, tmp_path, "submit", "Work", "echo", "grün – 日本")
    assert job.endswith(b"\n")
    assert b"\r" not in job
    shown = printed(odd, tmp_path, "status", job.decode().strip())
    assert "grün – 日本" in shown.decode("utf-8")
    assert b"\r" not in shown


def test_a_job_runs_and_its_output_is_kept_whatever_the_directory_is_called(odd: Path, tmp_path: Path) -> None:
    job = printed(odd, tmp_path, "submit", "Work", "echo", "grün – 日本").decode().strip()
    printed(odd, tmp_path, "worker", "--drain", "-q", "-c", "1")
    assert open_queue(odd).get(job).result == "grün – 日本"
    assert printed(odd, tmp_path, "logs", job).decode("utf-8") == "grün – 日本\n"


def test_a_log_has_plain_line_ends_on_every_system(odd: Path, tmp_path: Path) -> None:
    printed(odd, tmp_path, "submit", "Work", "echo", "one")
    assert (odd / "spool" / "logs" / "background_jobs.log").read_bytes().count(b"\r") == 0
    assert all(b"\r" not in path.read_bytes() for path in (odd / "spool").rglob("*.json"))


def test_an_allowlist_with_the_line_ends_of_windows_is_read(odd: Path, tmp_path: Path) -> None:
    config = odd / "allowed_jobs.toml"
    config.write_bytes(config.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    (odd / "work.py").write_bytes((odd / "work.py").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    job = printed(odd, tmp_path, "submit", "Work", "add", "2", "-k", "b=3").decode().strip()
    printed(odd, tmp_path, "worker", "--drain", "-q", "-c", "1")
    assert open_queue(odd).get(job).result == 5


def test_a_batch_with_the_line_ends_of_windows_is_read(odd: Path, tmp_path: Path) -> None:
    lines = b'{"class":"Work","method":"echo","args":["one"]}\r\n{"class":"Work","method":"echo","args":["two"]}\r\n'
    (odd / "jobs.jsonl").write_bytes(lines)
    assert len(printed(odd, tmp_path, "batch", "jobs.jsonl").split(b"\n")) == 3


def test_a_batch_on_standard_input_with_the_line_ends_of_windows_is_read(odd: Path, tmp_path: Path) -> None:
    lines = (
        b'{"class":"Work","method":"echo","args":["one"]}\r\n\r\n{"class":"Work","method":"echo","args":["two"]}\r\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "bgjobs", "batch", "-"],
        cwd=odd,
        env=environment(tmp_path),
        input=lines,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(job.args[0] for job in open_queue(odd).jobs()) == ["one", "two"]


def test_a_job_file_of_another_program_with_the_line_ends_of_windows_is_taken(odd: Path, tmp_path: Path) -> None:
    printed(odd, tmp_path, "worker", "--drain", "-q", "-c", "1")
    place = odd / "spool" / "incoming"
    (place / "one.json").write_bytes(b'{"format":1,"class":"Work","method":"echo","args":["one"]}\r\n')
    (place / "two.json").write_bytes(b'{\r\n  "format": 1,\r\n "class": "Work", "method": "add", "args": [1]\r\n}\r\n')
    printed(odd, tmp_path, "worker", "--drain", "-q", "-c", "1")
    jobs = list(open_queue(odd).jobs())
    assert sorted(str(job.result) for job in jobs) == ["2", "one"]
    assert all(b"\r" not in path.read_bytes() for path in (odd / "spool").rglob("*.json"))


def test_two_classes_whose_names_differ_in_case_alone_are_two(odd: Path, tmp_path: Path) -> None:
    config = odd / "allowed_jobs.toml"
    config.write_text(
        config.read_text("utf-8") + '\n[jobs.WORK]\nclass = "work:Other"\nmethods = ["handle"]\n', "utf-8"
    )
    printed(odd, tmp_path, "submit", "Work", "echo", "x")
    printed(odd, tmp_path, "submit", "WORK", "handle")
    printed(odd, tmp_path, "worker", "--drain", "-q", "-c", "1")
    jobs = list(open_queue(odd).jobs())
    assert {(job.class_name, job.method, str(job.state)) for job in jobs} == {
        ("Work", "echo", "done"),
        ("WORK", "handle", "done"),
    }
    assert printed(odd, tmp_path, "list", "--class", "WORK").count(b"\n") == 1


def test_names_that_differ_in_case_alone_are_never_both_made(odd: Path, tmp_path: Path) -> None:
    for _ in range(5):
        printed(odd, tmp_path, "submit", "Work", "echo", "x")
    printed(odd, tmp_path, "worker", "--drain", "-q", "-c", "1")
    for folder, folders, files in os.walk(odd / "spool"):
        names = [name for name in (*folders, *files) if name not in {"README.md", "VERSION"}]
        assert names == [name.lower() for name in names], folder
