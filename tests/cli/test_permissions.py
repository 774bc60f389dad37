"""What other users could have written decides nothing: each command refuses it, `check` and `doctor` say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from tests.cli.commands import (
    ALLOWED,
    PATIENCE_S,
    WORK,
    Bgjobs,
    Result,
    environment,
    error,
    make_project,
    objects,
    open_queue,
)
from tests.measuring import unmeasured
from tests.sweeping import part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs import Queue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
COMMANDS = [
    ["submit", "Work", "echo", "x"],
    ["batch", "lines.jsonl"],
    ["run", "Work", "echo", "x"],
    ["worker", "--drain"],
    ["status"],
    ["list"],
    ["jobs"],
    ["cancel", "--all"],
]


@pytest.fixture
def marking(project: Path) -> Path:
    """Return the file that the job module of the project writes when it is imported."""
    sound = ALLOWED.partition("[jobs.Missing]")[0]
    (project / "allowed_jobs.toml").write_text(sound, encoding="utf-8")
    (project / "work.py").write_text(f"open('imported', 'w').close()\n{WORK}", encoding="utf-8")
    return project / "imported"


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_an_allowlist_that_others_can_write_to_is_refused_in_one_line(
    bgjobs: Bgjobs, project: Path, marking: Path, argv: list[str]
) -> None:
    allowlist = project / "allowed_jobs.toml"
    (project / "lines.jsonl").write_text('{"class":"Work","method":"echo","args":["x"]}\n', encoding="utf-8")
    allowlist.chmod(0o666)
    result = bgjobs(*argv)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"bgjobs: {allowlist} can be changed by every user: chmod o-w {allowlist}\n"
    if argv[0] != "worker":
        assert error(bgjobs(argv[0], "--json", *argv[1:]))["code"] == "open-to-others"
    assert not (project / "spool").exists()
    assert not marking.exists()


@pytest.mark.parametrize("argv", [["run", "Work", "echo", "x"], ["worker", "--drain"]], ids=lambda argv: argv[0])
def test_a_module_that_others_can_write_to_is_not_run(
    bgjobs: Bgjobs, queue: Queue, project: Path, marking: Path, argv: list[str]
) -> None:
    job = queue.submit("Work", "echo", ["x"])
    (project / "work.py").chmod(0o666)
    result = bgjobs(*argv)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"bgjobs: {project / 'work.py'} can be changed by every user: chmod o-w {project}/work.py\n"
    assert queue.get(job.id).state == "queued"
    assert not marking.exists()
    (project / "work.py").chmod(0o644)
    assert bgjobs("worker", "--drain").returncode == 0
    assert queue.get(job.id).state == "done"


def test_several_places_are_counted(bgjobs: Bgjobs, project: Path) -> None:
    project.chmod(0o777)
    (project / "work.py").chmod(0o666)
    said = bgjobs("worker", "--drain").stderr
    assert said == f"bgjobs: {project} can be changed by every user: chmod o-w {project}\n"  # found as it was read
    project.chmod(0o1777)
    said = bgjobs("worker", "--drain").stderr
    assert said.endswith(f"chmod o-w {project} (1 more: see `bgjobs check`)\n")


@pytest.mark.parametrize("name", ["allowed_jobs.toml", "work.py"])
def test_check_lists_it_and_imports_nothing(bgjobs: Bgjobs, project: Path, marking: Path, name: str) -> None:
    assert bgjobs("check").returncode == 0
    assert marking.exists()  # as long as all is sound, it does import
    marking.unlink()
    (project / name).chmod(0o666)
    result = bgjobs("check")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == f"{project / name} can be changed by every user: chmod o-w {project / name}\n"
    [found] = objects(bgjobs("check", "--json"))
    assert found["permissions_checked"]
    assert [problem["class"] for problem in found["problems"]] == [""]
    assert not marking.exists()


def test_check_lists_a_spool_that_others_can_write_to(bgjobs: Bgjobs, project: Path, marking: Path) -> None:
    assert bgjobs("submit", "Work", "echo", "x").returncode == 0
    assert bgjobs("check").returncode == 0
    (project / "spool" / "pending").chmod(0o777)
    result = bgjobs("check")
    assert result.returncode == 1
    assert f"{project / 'spool' / 'pending'} is open to other users (mode 0777): chmod 700 it" in result.stdout


@pytest.mark.parametrize("name", ["allowed_jobs.toml", "work.py", "spool", "spool/pending"])
def test_doctor_lists_it_as_wrong(bgjobs: Bgjobs, queue: Queue, project: Path, marking: Path, name: str) -> None:
    queue.submit("Work", "echo", ["x"])
    (project / name).chmod(0o777)
    result = bgjobs("doctor")
    assert (result.returncode, result.stderr) == (1, "")
    assert f"wrong: {project / name} " in result.stdout
    [found] = objects(bgjobs("doctor", "--json"))
    wrong = {(finding["code"], finding["path"]) for finding in found["findings"] if finding["serious"]}
    assert wrong == {("open-to-others", str(project / name))}
    assert not marking.exists()


def test_doctor_does_not_open_the_spool_of_an_allowlist_that_others_can_write_to(
    bgjobs: Bgjobs, project: Path, marking: Path
) -> None:
    (project / "allowed_jobs.toml").chmod(0o666)
    assert bgjobs("doctor", "--repair").returncode == 1
    assert not (project / "spool").exists()


@pytest.mark.parametrize("mode", [0o777, 0o703])
def test_a_worker_refuses_a_spool_that_others_can_write_to(
    bgjobs: Bgjobs, queue: Queue, project: Path, marking: Path, mode: int
) -> None:
    job = queue.submit("Work", "echo", ["x"])
    pending = project / "spool" / "pending"
    pending.chmod(mode)
    result = bgjobs("worker", "--drain")
    assert result.returncode == 1
    assert result.stderr.startswith(f"bgjobs: {pending} is open to other users")
    assert result.stderr.count("\n") == 1
    assert queue.get(job.id).state == "queued"


@pytest.mark.skipif(not system.is_elevated(), reason="only root can give files to others")
def test_an_allowlist_of_another_user_is_refused(bgjobs: Bgjobs, project: Path) -> None:
    os.chown(project / "allowed_jobs.toml", 65534, -1)
    result = bgjobs("submit", "--json", "Work", "echo", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert error(result)["code"] == "not-ours"


def test_a_project_made_with_umask_002_works(bgjobs: Bgjobs, project: Path, marking: Path, queue: Queue) -> None:
    for path in (project, *project.rglob("*")):
        path.chmod(path.stat().st_mode | 0o020)
    job = queue.submit("Work", "echo", ["x"])
    (project / "spool").chmod(0o775)
    assert bgjobs("worker", "--drain").returncode == 0
    assert queue.get(job.id).state == "done"
    assert bgjobs("check").returncode == 0


def test_a_worker_that_runs_as_root_says_so_and_runs(bgjobs: Bgjobs, marking: Path) -> None:
    result = bgjobs("worker", "--drain")
    assert result.returncode == 0
    assert ("running as root: so do all jobs" in result.stderr) == system.is_elevated()


# Another user, for real


@pytest.fixture
def seen() -> Iterator[Path]:
    """Return a folder that other users may enter, unlike those of the other tests."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# Loaded before it becomes another user, who may not be able to read where Python is installed.
AS_NOBODY = """
import difflib, json, os, pkgutil, sys, bgjobs
for found in pkgutil.walk_packages(bgjobs.__path__, "bgjobs."):
    if not found.name.endswith("__main__") and not {"windows", "darwin"} & set(found.name.replace("_", ".").split(".")):
        __import__(found.name)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
from bgjobs.cli.app import run
sys.exit(run(json.loads(sys.argv[1])))
"""


def as_nobody(*argv: str, cwd: Path) -> Result:
    """Run a command line as another user."""
    if not system.is_elevated():
        pytest.skip("only root can act as another user")
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, json.dumps(argv)],
        cwd=cwd,
        env=unmeasured(environment(cwd)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    "argv",
    part([["submit", "Work", "echo", "x"], ["list"], ["status"], ["cancel", "--all"], ["logs"]], tried=2),
    ids=lambda argv: argv[0],
)
@pytest.mark.parametrize("whose", ["our", "their own"])
def test_another_user_can_do_nothing_with_our_spool(seen: Path, argv: list[str], whose: str) -> None:
    project = make_project(seen / "project")
    queue = open_queue(project)
    job = queue.submit("Work", "login", ["ann"], {"password": "hunter2"})
    theirs = make_project(seen / "theirs")
    for path in (theirs, *theirs.iterdir()):
        os.chown(path, 65534, 65534)
    named = ["--spool", str(project / "spool")] if whose == "their own" else []
    result = as_nobody(*argv, *named, cwd=theirs if named else project)
    assert result.returncode == 1, result
    assert result.stderr.count("\n") == 1
    assert "Permission denied" in result.stderr or "no right to" in result.stderr
    assert (job.id in result.stdout + result.stderr, "hunter2" in result.stdout + result.stderr) == (False, False)
    assert queue.get(job.id).state == "queued"
    assert len(list(queue.jobs())) == 1


@pytest.mark.skipif(not system.is_elevated(), reason="only root can give files to others")
def test_an_allowlist_that_another_user_left_in_a_directory_above_is_not_taken_for_ours(seen: Path) -> None:
    here = seen / "shared" / "mine"
    here.mkdir(parents=True)
    here.parent.chmod(0o1777)
    (here.parent / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    os.chown(here.parent / "allowed_jobs.toml", 65534, -1)
    result = subprocess.run(
        [sys.executable, "-m", "bgjobs", "submit", "--json", "Work", "echo", "x"],
        cwd=here,
        env=environment(here),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert error(result)["code"] == "not-ours"
    assert {path.name for path in here.parent.iterdir()} == {"allowed_jobs.toml", "mine"}
