"""A command that refuses what it is asked for makes nothing where somebody has mistyped the spool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgjobs import system
from bgjobs.cli import app
from bgjobs.event_log import ERROR_LOG
from tests.cli.commands import make_project

ID = "01m00000000000000000000000"
LINES = [{"class": "Work", "method": "nothing"}, {"class": "Work", "method": "forbidden"}]
REFUSED: dict[str, list[str]] = {
    "a job that is not allowed": ["submit", "Work", "forbidden"],
    "a job whose arguments do not fit": ["submit", "Work", "add", "two"],
    "a job with a bad delay": ["submit", "Work", "nothing", "--delay", "soon"],
    "a job with an argument given twice": ["submit", "Work", "add", "-k", "a=1", "-k", "a=2"],
    "a job with an argument that is no text": ["submit", "Work", "echo", "\udcff"],
    "a rehearsal": ["submit", "--dry-run", "Work", "forbidden"],
    "jobs of a batch": ["batch", "jobs.jsonl"],
    "a run in the foreground": ["run", "Work", "forbidden"],
    "a retry": ["retry", ID],
    "a cancel": ["cancel", ID],
    "a deletion": ["delete", ID],
    "a look": ["status"],
    "a look into the logs": ["logs"],
    "a worker of a class that is not there": ["worker", "--only", "Nothing"],
}


def below(place: Path) -> list[Path]:
    return sorted(place.rglob("*"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path / "project")
    (root / "jobs.jsonl").write_text("\n".join(map(json.dumps, LINES)), "utf-8")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("place", ["absent", "empty", "used"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_makes_nothing_where_there_is_no_spool(
    root: Path, capsys: pytest.CaptureFixture[str], what: str, place: str
) -> None:
    spool = root.parent / place
    if place != "absent":
        spool.mkdir()
    if place == "used":
        (spool / "logs").mkdir()
        (spool / "letter.txt").write_text("Dear Ann", "utf-8")
    before = below(root.parent)
    command, *rest = REFUSED[what]
    assert app.run([command, "--spool", str(spool), *rest]) != 0
    assert capsys.readouterr().err.count("\n") == 1
    assert [path for path in below(root.parent) if "__pycache__" not in path.parts] == before


def test_a_worker_that_is_refused_leaves_no_log_among_other_files(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "notes").mkdir()
    (root / "notes" / "letter.txt").write_text("Dear Ann", "utf-8")
    assert app.run(["worker", "--log", "--spool", "notes", "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "not-empty"
    assert below(root / "notes") == [root / "notes" / "letter.txt"]


def test_a_network_disk_gets_no_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "network_filesystem", lambda path: "nfs4" if Path(path).exists() else None)
    assert app.run(["submit", "Work", "nothing", "--spool", "far/away"]) == 1
    assert not (root / "far").exists()


@pytest.mark.parametrize("words", [[], ["--spool", "there"]], ids=str)
def test_a_refusal_is_logged_in_the_spool_of_the_project_and_in_one_that_is_there(root: Path, words: list[str]) -> None:
    if words:
        assert app.run(["submit", "Work", "nothing", *words]) == 0
    assert app.run(["submit", "Work", "forbidden", *words]) == 3
    [log] = root.rglob(ERROR_LOG)
    assert log.read_text("utf-8").count("Status: REFUSED") == 1
