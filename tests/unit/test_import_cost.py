"""Submitting from Python is cheap: what only workers or the command line need is not imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bgjobs
from bgjobs import system

ENVIRONMENT = system.base_environment(os.environ) | {"PYTHONPATH": str(Path(bgjobs.__file__).parents[1])}
HEAVY = {"typer", "click", "rich", "filelock", "psutil", "asyncio", "platformdirs", "pydantic", "multiprocessing"}
# What the standard library has for other purposes, and what Typer, msgspec and tomllib do without.
NEEDLESS = {
    "_hashlib",
    "_strptime",
    "concurrent",
    "dataclasses",
    "email",
    "hashlib",
    "http",
    "json",
    "logging",
    "socket",
}
# Of ours, what only those need who look at jobs, run them, or change them.
OF_OTHERS = {
    "bgjobs.calls.text_values",
    "bgjobs.services",
    "bgjobs.spool.listing",
    "bgjobs.spool.doctor",
    "bgjobs.spool.session",
    "bgjobs.spool.control",
    "bgjobs.spool.upcoming",
    "bgjobs.spool.inbox.importer",
    "bgjobs.locks",
    "bgjobs.spool.find",
    "bgjobs.spool.prune",
    "bgjobs.spool.reading",
    "bgjobs.spool.recover",
    "bgjobs.spool.worker_dir",
    "bgjobs.store",
    "bgjobs.views",
    "bgjobs.web",
    "bgjobs.worker",
}
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"
ALLOWED = """
[jobs.Mail]
class = "mail:Mail"
methods = ["send"]
"""
COMMAND = """
import sys
from bgjobs.cli import main
sys.argv = ["bgjobs", *{words!r}]
with open("printed", "w", encoding="utf-8") as sys.stdout:
    assert main() == 0
sys.stdout = sys.__stdout__
loaded = sorted(sys.modules)
import json
print(json.dumps(loaded))
"""
SUBMIT = "from bgjobs import run_background_job; run_background_job('Mail', 'send', ['Tony'])"


def loaded_by(code: str, cwd: Path) -> set[str]:
    """Return which modules a fresh interpreter has loaded after this code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LOADED}"],
        env=ENVIRONMENT,
        cwd=cwd,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


def loaded_by_command(words: list[str], cwd: Path) -> set[str]:
    """Return which modules a command has loaded in the end."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(words=words)],
        env=ENVIRONMENT,
        cwd=cwd,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


def heads(names: set[str]) -> set[str]:
    """Return the names, and those of the packages that they are in."""
    return {name.rsplit(".", dots)[0] for name in names for dots in range(name.count(".") + 1)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a spool, and one job in it."""
    (tmp_path / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    (tmp_path / "mail.py").write_text("class Mail:\n    def send(self, to, times: int = 1): ...\n", encoding="utf-8")
    loaded_by(SUBMIT, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "Mail", "send", "Tony"],
        [
            "submit",
            "Mail",
            "send",
            "-k",
            "to=Tony",
            "--priority",
            "high",
            "--delay",
            "5m",
            "--retries",
            "2",
            "--tag",
            "x",
        ],
        ["submit", "Mail", "send", "Tony", "--json"],
    ],
)
def test_the_submit_command_loads_what_it_needs_and_no_more(words: list[str], project: Path) -> None:
    loaded = loaded_by_command(words, project)
    unavoidable = loaded_by("import msgspec, tomllib, typer", project)
    assert not heads(loaded) & (HEAVY - {"typer", "click"})
    assert not heads(loaded - unavoidable) & NEEDLESS
    assert not heads(loaded) & OF_OTHERS
    assert {"bgjobs.cli.commands.submit", "bgjobs.spool.submit"} <= loaded


def test_what_only_some_submissions_need_is_loaded_for_them(project: Path) -> None:
    assert "bgjobs.calls.text_values" in loaded_by_command(["submit", "Mail", "send", "Tony", "3"], project)
    assert "json" in loaded_by_command(["submit", "Mail", "send", "--args", '["Tony"]'], project)


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["list"], ["list", "--json"]])
def test_looking_at_a_queue_without_workers_loads_nothing_heavy(words: list[str], project: Path) -> None:
    loaded = loaded_by_command(words, project)
    assert not heads(loaded) & (HEAVY - {"typer", "click"})
    assert not heads(loaded) & {"bgjobs.worker", "bgjobs.services", "bgjobs.spool.session", "bgjobs.spool.upcoming"}


@pytest.mark.parametrize(
    "code",
    [
        "import bgjobs",
        "from bgjobs import run_background_job",
        "from bgjobs import Queue, Request",
        "from bgjobs import current_job, Retry, Fail, JobTimeout, JobCancelled",
    ],
)
def test_importing_bgjobs_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    loaded = loaded_by(code, tmp_path)
    assert "bgjobs" in loaded
    assert not loaded & HEAVY


def test_import_bgjobs_alone_loads_none_of_its_modules(tmp_path: Path) -> None:
    assert {name for name in loaded_by("import bgjobs", tmp_path) if name.startswith("bgjobs")} == {"bgjobs"}


def test_submitting_into_a_spool_that_is_there_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    (tmp_path / "mail.py").write_text("class Mail:\n    def send(self, to): ...\n", encoding="utf-8")
    loaded_by(SUBMIT, tmp_path)  # the first one sets the spool up
    loaded = loaded_by(SUBMIT, tmp_path)
    assert not loaded & HEAVY
    assert "mail" not in loaded  # nor any code of the job


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bgjobs.nothing  # type: ignore[attr-defined]  # what the type checker finds, Python has to find as well


def test_every_public_name_can_be_imported() -> None:
    for name in bgjobs.__all__:
        assert getattr(bgjobs, name)
