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
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"
ALLOWED = """
[jobs.Mail]
class = "mail:Mail"
methods = ["send"]
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
