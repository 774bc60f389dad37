"""Whoever can write the spool puts a link in the place of a directory: nothing outside is deleted, cut or moved."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bgjobs.ids import id_ms
from bgjobs.job import moment
from bgjobs.spool import layout
from tests.cli.commands import Bgjobs
from tests.process.conftest import wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.process.conftest import Project

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="links need a right of their own there; Wine makes none"
)
OLD_S = 10 * 24 * 3600


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that is none of the queue's, with files in it that are old."""
    made = tmp_path / "outside"
    for name in ("precious", "notes.json", "old/deep/file"):
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"data")
    for path in (made, *made.rglob("*")):
        os.utime(path, (time.time() - OLD_S,) * 2)
    return made


def there(outside: Path) -> list[str]:
    return sorted(str(path.relative_to(outside)) for path in outside.rglob("*"))


def swap(project: Project, name: str, outside: Path) -> None:
    """Put a link in the place of a directory of the spool."""
    project.queue.submit_many([])
    path = project.spool / name
    if path.exists():
        path.rename(project.root / f"aside-{path.name}")
    path.symlink_to(outside)


def ran(project: Project, *command: str) -> subprocess.CompletedProcess[str]:
    return Bgjobs(project.root, project.root)(*command)


@pytest.mark.parametrize("name", part([*layout.DIRECTORIES, "pending/5-normal"], tried=2))
def test_a_worker_refuses_a_spool_with_a_link_in_the_place_of_a_directory(
    project: Project, outside: Path, name: str
) -> None:
    before = there(outside)
    swap(project, name, outside)
    worker = project.start(drain=True)
    assert worker.ended() == 1
    assert f"{project.spool / name} is a link" in worker.says()
    assert there(outside) == before


@pytest.mark.parametrize(
    "name", part(["tmp", "done", "tmp/trash", "corrupt", "failed", "cancelled", "output"], tried=2)
)
def test_pruning_deletes_nothing_beyond_a_link(project: Project, outside: Path, name: str) -> None:
    hour = outside / "2020010100"
    hour.mkdir()
    (hour / "precious").write_bytes(b"data")
    before = there(outside)
    swap(project, name, outside)
    ran(project, "prune", "--older", "1s", "--state", "done,failed,cancelled,corrupt")
    ran(project, "doctor", "--repair")
    assert there(outside) == before


@pytest.mark.parametrize("how", ["link", "second name", "pipe"])
def test_what_lies_in_the_place_of_an_output_is_not_shown(project: Project, outside: Path, how: str) -> None:
    job = project.queue.submit("Honest", "echo", ["x"])
    project.drain()
    folder = project.spool / "output" / layout.hour(moment(id_ms(job.id)))
    folder.mkdir(exist_ok=True)
    path = folder / f"{job.id}.1.log"
    path.unlink(missing_ok=True)
    (outside / "precious").write_text("in confidence")
    if how == "link":
        path.symlink_to(outside / "precious")
    elif how == "second name":
        path.hardlink_to(outside / "precious")
    else:
        os.mkfifo(path)
    for options in ([], ["--json"], ["--follow"]):
        shown = ran(project, "logs", job.id, *options)
        assert shown.returncode == 1
        assert "in confidence" not in shown.stdout + shown.stderr
        assert "internal" not in shown.stderr


def test_a_link_that_comes_while_the_worker_runs_leads_no_file_of_a_job_outside(
    project: Project, outside: Path
) -> None:
    before = there(outside)
    job = project.queue.submit("Honest", "wait_for", [str(project.root / "go")])
    worker = project.start().ready()
    wait_until(lambda: project.state(job) == "running")
    for later in range(3):
        hour = layout.hour(moment(id_ms(job.id) + later * 3_600_000))
        for name in (f"done/{hour}", f"failed/{hour}", f"output/{hour}"):
            swap(project, name, outside)
    (project.root / "go").touch()
    wait_until(lambda: "cannot store" in worker.says() or project.state(job) != "running")
    worker.stop()
    assert there(outside) == before


def test_what_a_link_in_the_place_of_a_runners_output_names_is_neither_cut_nor_moved(
    project: Project, outside: Path
) -> None:
    big = outside / "big"
    big.write_bytes(b"x" * 20_000_000)
    job = project.queue.submit("Honest", "wait_for", [str(project.root / "go")])
    project.start().ready()
    wait_until(lambda: project.state(job) == "running")
    (output,) = project.spool.glob("workers/*/r0.out")
    output.unlink()
    output.symlink_to(big)
    (project.root / "go").touch()
    after = project.queue.submit("Honest", "echo", ["after"])
    assert project.queue.wait(after.id, 30).result == "after"
    assert project.state(job) == "done"
    assert big.stat().st_size == 20_000_000
    assert not [path for path in project.spool.rglob("*.log") if path.is_symlink()]
