"""What other users could have written decides nothing: each command refuses it, `check` and `doctor` say what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from tests.cli.commands import ALLOWED, WORK, Bgjobs, error, objects

if TYPE_CHECKING:
    from pathlib import Path

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
    import os  # noqa: PLC0415 - Windows has no chown

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
