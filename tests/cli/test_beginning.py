"""`bgjobs init` and `bgjobs demo`: the first minutes with bgjobs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import PATIENCE_S, Bgjobs, environment, error, on_terminal
from tests.measuring import unmeasured

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals and signals of POSIX systems")


def test_a_new_project_works_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    bgjobs = Bgjobs(folder, tmp_path)
    made = bgjobs("init")
    assert made.returncode == 0
    assert {path.name for path in folder.iterdir()} == {"allowed_jobs.toml", "jobs", "spool"}
    assert bgjobs("check").returncode == 0
    job_id = bgjobs("submit", "ExampleJob", "handle", "hello").stdout.strip()
    assert bgjobs("worker", "--drain", "-q").returncode == 0
    assert bgjobs("wait", job_id, "--result").stdout == '"got hello and nothing else"\n'
    assert bgjobs("logs", job_id).stdout == "got hello and nothing else\n"


@pytest.mark.parametrize("name", ["allowed_jobs.toml", "jobs/examples.py", "spool/README.md"])
def test_init_overwrites_nothing(bgjobs: Bgjobs, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    result = bgjobs("init", str(tmp_path / "mine"), "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert str(mine) in error(result)["message"]
    assert mine.read_text() == "mine"
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [mine]


def test_the_demo_really_runs_and_says_what_to_look_at(bgjobs: Bgjobs, tmp_path: Path) -> None:
    folder = tmp_path / "tour"
    result = bgjobs("demo", "--dir", str(folder), cwd=tmp_path, env={"BGJOBS_RETRIES": "0", "BGJOBS_SPOOL": "nowhere"})
    assert (result.returncode, result.stderr) == (0, "")
    for part in (
        "RUNNING 1/4",
        "RETRY 2/4",
        "SUCCESS 3/4",
        "FAILED 2/2",
        "Try next:",
        str(folder / "allowed_jobs.toml"),
    ):
        assert part in result.stdout
    there = Bgjobs(folder, tmp_path)
    [found] = [json.loads(line) for line in there("status", "--json").stdout.splitlines()]
    assert (found["counts"]["done"], found["counts"]["failed"], found["workers"]) == (6, 1, [])


def test_a_demo_that_goes_wrong_says_so(bgjobs: Bgjobs, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nif 'worker' in sys.orig_argv: sys.exit('broken')\n")
    result = bgjobs("demo", "--dir", str(tmp_path / "tour"), env={"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert str(tmp_path / "tour" / "worker.log") in result.stderr


@posix
def test_the_demo_draws_its_jobs_on_a_terminal(tmp_path: Path) -> None:
    status, shown = on_terminal(
        ["demo", "--dir", str(tmp_path / "tour")], cwd=tmp_path, env=environment(tmp_path), columns=160
    )
    assert status == 0
    for part in ("DelayedJob.handle", "scheduled", "step ", "━", "Try next:"):
        assert part in shown


@posix
def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    # On a busy machine it may be over, with 0, before it is asked to stop: then another one is stopped.
    ended = [0]
    while ended[-1] == 0 and len(ended) < 6:
        ended.append(_stopped_demo(tmp_path / f"tour{len(ended)}"))
    assert ended[-1] == 130


def _stopped_demo(tour: Path) -> int:
    """Start a demo, stop it while jobs run, see that nothing of it is left, and return its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "demo", "--dir", str(tour)],
        cwd=tour.parent,
        env=unmeasured(environment(tour.parent)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    while "RUNNING" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in said
    bgjobs = Bgjobs(tour, tour.parent)
    assert not any(worker["alive"] for worker in json.loads(bgjobs("status", "--json").stdout)["workers"])
    return process.returncode
