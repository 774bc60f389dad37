"""Nothing that a job, a file or a person's words say can command a terminal, forge a line, or be taken for markup."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs.events import Decided, Submitted
from bgjobs.job import JobError, Progress, Raised, State, Succeeded
from bgjobs.lifecycle import Ended, failed
from tests import sweeping
from tests.cli.commands import Bgjobs, Finished, environment, make_project, on_terminal, open_queue

if TYPE_CHECKING:
    from bgjobs import Queue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals, and no such file names")

# A title, a screen cleared, a line end, a forged line, letters that run backwards, and markup that is never closed.
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n[2026-11-23] Class: Forged\u202e\u2028\x9b31m\x85[red]here[/foo]\ud800"
PLAIN = HOSTILE.replace("\ud800", "")
SHOWN = "[red]here[/foo]"
FORBIDDEN = set("\x07\r\u202e\u2028\x9b\x85") | {"\x1b]", "\x1b[2J", "\n[2026-11-23]"}
COMMANDS = {
    "status": ["status"],
    "status of a job": ["status", "{failed}"],
    "status of a job that is done": ["status", "{done}"],
    "list": ["list"],
    "the log": ["logs"],
    "the error log": ["logs", "--errors"],
    "output": ["logs", "{done}"],
    "wait": ["wait", "{failed}"],
    "wait for a result": ["wait", "--result", "{done}"],
    "cancel": ["cancel", "{done}", HOSTILE.replace("\ud800", "")],
    "an unknown command": [PLAIN],
    "an unknown option": ["list", f"--{PLAIN}"],
    "a bad state": ["list", "--state", PLAIN],
    "a bad tag": ["submit", "Work", "echo", "x", "--tag", PLAIN],
    "a refused class": ["submit", PLAIN, "echo"],
    "a refused method": ["submit", "Work", PLAIN],
    "a refused argument": ["submit", "Work", "add", PLAIN],
    "an unknown argument": ["submit", "Work", "add", f"{PLAIN}=1"],
    "run": ["run", "Work", "fail", PLAIN],
    "a dry run": ["submit", "Work", "echo", PLAIN, "--dry-run"],
    "doctor": ["doctor"],
    "prune": ["prune", "--older", PLAIN],
    "another spool": ["list", "--spool", f"{{root}}/{PLAIN.replace('/', '')}"],
    "another config": ["check", "--config", PLAIN],
    "jobs": ["jobs", "--config", "{root}/hostile.toml"],
    "check": ["check", "--config", "{root}/broken.toml"],
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A project in which everything that can be chosen from outside is hostile."""
    root = make_project(tmp_path_factory.mktemp("hostile") / "project")
    queue = open_queue(root)
    kept = Finished(root, queue, Bgjobs(root, root.parent))
    done = _stored(queue, "echo", [PLAIN])
    failed = _stored(queue, "fail", [PLAIN])
    worker = kept.bgjobs("worker", "--drain")
    assert worker.returncode == 0, worker.stderr
    kept.jobs = {"done": queue.get(done), "failed": queue.get(failed)}
    (root / "spool" / "pending" / PLAIN.replace("/", "")).touch()
    Path(os.fsdecode(bytes(root / "spool" / "pending") + b"/[red]\xff")).touch()
    text = (root / "allowed_jobs.toml").read_text("utf-8")
    escaped = "".join(f"\\U{ord(letter):08x}" for letter in PLAIN)
    (root / "hostile.toml").write_text(text.replace("What tests need", escaped), "utf-8")
    (root / "broken.toml").write_text(text + f'\n[jobs."{escaped}"]\n', "utf-8")
    return kept


def _stored(queue: Queue, method: str, args: list[str]) -> str:
    """Store a job as a foreign program may: with hostile words where bgjobs itself puts none."""
    job = replace(queue.submit("Work", "echo", ["x"], delay=3600), method=method, args=tuple(args))
    queue.cancel(job.id)
    queue.delete(job.id)
    queue._store.submit([replace(job, submitted_by=PLAIN, not_before=job.submitted_at)])
    queue.events.emit(Submitted(replace(job, submitted_by=HOSTILE), job.submitted_at))
    running = replace(job, charged=1, worker=HOSTILE)
    queue.events.emit(Decided(running, Ended(State.DONE), Succeeded(note=HOSTILE), job.submitted_at))
    error = JobError(HOSTILE, HOSTILE)
    running = replace(running, progress=Progress(1, 2, HOSTILE))
    queue.events.emit(Decided(running, failed(error), Raised(error), job.submitted_at))
    return job.id


def words(hostile: Finished, name: str) -> list[str]:
    values = {key: job.id for key, job in hostile.jobs.items()} | {"root": str(hostile.root)}
    found = []
    for word in COMMANDS[name]:
        for key, value in values.items():
            word = word.replace(f"{{{key}}}", value)  # noqa: PLW2901 - word by word
        found.append(word)
    return found


def is_harmless(shown: str) -> list[str]:
    """Return what of the shown text could do something; colours that are ours are none of it."""
    return sorted(part for part in FORBIDDEN if part in shown)


@pytest.mark.parametrize("name", sweeping.part(COMMANDS, tried=6))
def test_what_is_shown_on_a_terminal_is_harmless(hostile: Finished, name: str) -> None:
    _, shown = on_terminal(words(hostile, name), cwd=hostile.root, env=environment(hostile.root.parent), columns=400)
    text = shown.replace("\r\n", "\n").replace("\r\x1b[", "\x1b[")  # the terminal's own line ends, and a bar drawn anew
    own = ["\n[2026-11-23]"] if name == "output" else []  # what a job prints may have lines
    assert is_harmless(text) == own
    assert "Traceback (most" not in text or name == "status of a job"
    assert "internal error" not in text


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"output"}))  # which goes into a file as it is
def test_what_goes_into_a_pipe_is_harmless(hostile: Finished, name: str) -> None:
    result = hostile.bgjobs(*words(hostile, name))
    for text in (result.stdout, result.stderr):
        assert is_harmless(text) == []
        assert "\x1b" not in text
        assert "internal error" not in text
    as_json = hostile.bgjobs(*words(hostile, name), "--json")
    assert is_harmless(as_json.stdout + as_json.stderr) == []
    assert len(as_json.stderr.splitlines()) <= (2 if name in {"cancel", "run"} else 1)


@pytest.mark.parametrize("name", ["list", "status of a job", "the log", "wait", "run", "jobs"])
def test_markup_is_shown_as_it_was_written(hostile: Finished, name: str) -> None:
    _, shown = on_terminal(words(hostile, name), cwd=hostile.root, env=environment(hostile.root.parent), columns=1200)
    assert SHOWN in shown


def test_watching_a_hostile_progress_on_a_terminal_is_harmless(project: Path, bgjobs: Bgjobs, queue: Queue) -> None:
    job = queue.submit("Work", "hostile")
    assert bgjobs("worker", "--drain").returncode == 0
    status, shown = on_terminal(["status", "--watch", job.id], cwd=project, env=environment(project.parent))
    assert status == 0
    assert is_harmless(shown.replace("\r\n", "\n").replace("\r", "")) == []
