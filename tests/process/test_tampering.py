"""Whoever can write job files changes one by hand: nothing but an allowed method runs, with arguments that fit."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from tests.process.conftest import Project, lines, posix_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALLOWED = """
[bgjobs]
durability = "os"
retries    = 0

[jobs.Guarded]
class   = "guarded:Guarded"
methods = ["allowed"]
"""
GUARDED = """
def note(name):
    with open("ran", "a", encoding="utf-8") as file:
        file.write(name + "\\n")


class Guarded:
    def allowed(self, what: str, number: int = 0) -> str:
        note("Guarded.allowed")
        return what

    def hidden(self, what: str = "", number: int = 0) -> None:
        note("Guarded.hidden")

    @property
    def asked(self):
        note("Guarded.asked")


class Hidden:
    def allowed(self, what: str = "", number: int = 0) -> None:
        note("Hidden.allowed")


def allowed(what: str = "", number: int = 0) -> None:
    note("allowed")
"""
NONE: Any = object()  # leave the field out
REFUSED, CORRUPT, RUNS = "failed", "corrupt", "done"

# The field, its new value, and what becomes of the job: with which code it fails, or what the reason speaks of.
FIELDS: list[tuple[str, Any, str, str]] = [
    ("class", "Hidden", REFUSED, "not-allowed"),
    ("class", "guarded", REFUSED, "not-allowed"),
    ("class", "GUARDED", REFUSED, "not-allowed"),
    ("class", "os", REFUSED, "not-allowed"),
    ("class", "builtins", REFUSED, "not-allowed"),
    ("class", "os.system", CORRUPT, "class"),
    ("class", "guarded:Hidden", CORRUPT, "class"),
    ("class", "../Guarded", CORRUPT, "class"),
    ("class", "Gu\u0430rded", CORRUPT, "class"),
    ("class", "\uff27uarded", CORRUPT, "class"),
    ("class", "Guarded\n", CORRUPT, "class"),
    ("class", "Guarded\0", CORRUPT, "class"),
    ("class", " Guarded", CORRUPT, "class"),
    ("class", "", CORRUPT, "class"),
    ("class", "G" * 65, CORRUPT, "class"),
    ("class", None, CORRUPT, "class"),
    ("class", ["Guarded"], CORRUPT, "class"),
    ("class", NONE, CORRUPT, "class"),
    ("method", "hidden", REFUSED, "not-allowed"),
    ("method", "asked", REFUSED, "not-allowed"),
    ("method", "Allowed", REFUSED, "not-allowed"),
    ("method", "mro", REFUSED, "not-allowed"),
    ("method", "eval", REFUSED, "not-allowed"),
    ("method", "__init__", CORRUPT, "method"),
    ("method", "__class__", CORRUPT, "method"),
    ("method", "allowed()", CORRUPT, "method"),
    ("method", "allowed.__globals__", CORRUPT, "method"),
    ("method", "*", CORRUPT, "method"),
    ("method", {"name": "allowed"}, CORRUPT, "method"),
    ("method", NONE, CORRUPT, "method"),
    ("args", [], REFUSED, "bad-arguments"),
    ("args", ["x", 1, 2], REFUSED, "bad-arguments"),
    ("args", ["y"], RUNS, ""),
    ("args", {"what": "x"}, CORRUPT, "args"),
    ("args", "x", CORRUPT, "args"),
    ("args", ["x" * (256 * 1024)], CORRUPT, "arguments"),
    ("args", [json.loads("[" * 40 + "]" * 40)], CORRUPT, "deep"),
    ("kwargs", {"number": 2}, RUNS, ""),
    ("kwargs", {"unknown": 1}, REFUSED, "bad-arguments"),
    ("kwargs", {"what": "twice"}, REFUSED, "bad-arguments"),
    ("kwargs", {"self": "x"}, REFUSED, "bad-arguments"),
    ("kwargs", {"": 1}, REFUSED, "bad-arguments"),
    ("kwargs", {"__class__": 1}, REFUSED, "bad-arguments"),
    ("kwargs", [["number", 1]], CORRUPT, "kwargs"),
    ("text", True, RUNS, ""),
    ("text", "yes", CORRUPT, "text"),
    ("id", "01m832vrmd009bw7g8rhs8edcf", CORRUPT, "id"),
    ("id", "../../../etc/passwd", CORRUPT, "id"),
    ("id", NONE, CORRUPT, "id"),
    ("format", 0, CORRUPT, "format"),
    ("format", -1, CORRUPT, "format"),
    ("format", "1", CORRUPT, "format"),
    ("format", NONE, CORRUPT, "format"),
    ("priority", 9, RUNS, ""),
    ("priority", 10, CORRUPT, "priority"),
    ("priority", -1, CORRUPT, "priority"),
    ("priority", "high", CORRUPT, "priority"),
    ("priority", NONE, CORRUPT, "priority"),
    ("not_before", -1, CORRUPT, "not_before"),
    ("not_before", 10**14, CORRUPT, "not_before"),
    ("not_before", "now", CORRUPT, "not_before"),
    ("retries", -1, CORRUPT, "retries"),
    ("retries", 10**7, CORRUPT, "retries"),
    ("retries", 1.5, CORRUPT, "retries"),
    ("retry_delay", -1, CORRUPT, "retry_delay"),
    ("retry_delay", 1e300, CORRUPT, "retry_delay"),
    ("timeout", 30, RUNS, ""),
    ("timeout", 0, CORRUPT, "timeout"),
    ("timeout", -5, CORRUPT, "timeout"),
    ("timeout", 1e300, CORRUPT, "timeout"),
    ("timeout", "never", CORRUPT, "timeout"),
    ("tags", ["night"], RUNS, ""),
    ("tags", ["two words"], CORRUPT, "tags"),
    ("tags", ["t"] * 33, CORRUPT, "tags"),
    ("tags", "night", CORRUPT, "tags"),
    ("retry_of", "../..", CORRUPT, "retry_of"),
    ("submitted_at", -1, CORRUPT, "submitted_at"),
    ("submitted_at", NONE, CORRUPT, "submitted_at"),
    ("submitted_by", 0, CORRUPT, "submitted_by"),
    ("submitted_by", "root@localhost", RUNS, ""),
    ("from_user", 0, CORRUPT, "from_user"),
    ("from_user", "", CORRUPT, "from_user"),
    ("from_user", "x" * 257, CORRUPT, "from_user"),
    ("from_user", "a\0b", CORRUPT, "from_user"),
    ("from_user", "alice", RUNS, ""),
    ("module", "os", CORRUPT, "module"),
    ("owner", "Hidden", CORRUPT, "owner"),
    ("state", "done", CORRUPT, "state"),
    ("run_as", "root", CORRUPT, "run_as"),
    ("secret", [], CORRUPT, "secret"),
    ("look_only", False, CORRUPT, "look_only"),
    ("max_output", 1, CORRUPT, "max_output"),
    ("py/object", "guarded.Hidden", CORRUPT, "py/object"),
    ("!", "!!python/object/apply:os.system", CORRUPT, "!"),
]
# What is written behind line 1, and what becomes of the job.
APPENDED: list[tuple[str, bytes, str]] = [
    ("another job", b'{"format":1,"class":"Hidden","method":"allowed","args":[]}\n', RUNS),
    ("another pair", b'{"class":"Hidden","method":"hidden"}\n', RUNS),
    ("no JSON", b"import os; os.system('id')\n", RUNS),
]


class Tampered:
    """A project in whose spool somebody has changed files, before the only worker came and went."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        (root / "guarded.py").write_text(GUARDED, "utf-8")
        self.project.rewrite("allowed_jobs.toml", ALLOWED)
        self.project.queue = type(self.project.queue).open(config=str(self.project.config))
        self.ids: dict[str, str] = {}

    def change(self, name: str, how: Callable[[bytes], bytes]) -> None:
        """Submit a good job, and change its file."""
        job = self.project.queue.submit("Guarded", "allowed", ["x"])
        (path,) = self.project.spool.rglob(f"*{job.id}.json")
        path.write_bytes(how(path.read_bytes()))
        self.ids[name] = job.id

    def became(self, name: str) -> tuple[str, str]:
        """Return what became of a job, and the code of its error or the reason why its file was put aside."""
        job_id = self.ids[name]
        aside = [path.read_text("utf-8") for path in self.project.spool.glob(f"corrupt/*{job_id}*.reason")]
        if aside:
            return CORRUPT, aside[0]
        job = self.project.queue.get(job_id)
        return job.state, job.error.type if job.error else ""


def set_field(field: str, value: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        spec = json.loads(data)
        spec.pop(field, None)
        return json.dumps(spec if value is NONE else spec | {field: value}).encode() + b"\n"

    return change


def append(data: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole + data


@pytest.fixture(scope="module")
def tampered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tampered]:
    made = Tampered(tmp_path_factory.mktemp("tampered") / "project")
    for number, (field, value, _, _) in enumerate(FIELDS):
        made.change(str(number), set_field(field, value))
    for name, data, _ in APPENDED:
        made.change(name, append(data))
    made.project.drain(concurrency=2)
    yield made
    made.project.close()


@pytest.mark.parametrize(
    ("number", "state", "word"),
    [(number, state, word) for number, (_, _, state, word) in enumerate(FIELDS)],
    ids=[f"{field}={'nothing' if value is NONE else str(value)[:30]!a}" for field, value, _, _ in FIELDS],
)
def test_a_changed_field_is_refused_or_does_no_harm(tampered: Tampered, number: int, state: str, word: str) -> None:
    became, why = tampered.became(str(number))
    assert became == state, why
    assert word in why


@pytest.mark.parametrize(("name", "state"), [(name, state) for name, _, state in APPENDED])
def test_what_is_written_behind_a_job_chooses_nothing(tampered: Tampered, name: str, state: str) -> None:
    assert tampered.became(name)[0] == state


def test_of_all_the_changed_jobs_only_the_allowed_method_ran_and_only_as_often_as_jobs_are_done(
    tampered: Tampered,
) -> None:
    ran = lines(tampered.project.root / "ran")
    done = list(tampered.project.queue.jobs(state="done"))
    assert set(ran) == {"Guarded.allowed"}
    assert len(ran) == len(done)
    assert {(job.class_name, job.method) for job in done} == {("Guarded", "allowed")}


def test_every_refusal_is_one_line_of_the_error_log(tampered: Tampered) -> None:
    refused = [name for name in tampered.ids if tampered.became(name)[0] in {REFUSED, CORRUPT}]
    records = tampered.project.errors()
    assert {record["status"] for record in records} == {"REFUSED"}
    assert len(records) == len(refused)
    for number, (_, _, state, word) in enumerate(FIELDS):
        job_id = tampered.ids[str(number)]
        told = [record["message"] for record in records if job_id in (record["job"] or record["message"])]
        assert len(told) == (state != RUNS)
        assert all(word in message for message in told)


def test_a_refused_job_is_not_tried_again_whatever_retries_it_asks_for(project: Project) -> None:
    job = project.put("Honest", "not_listed", retries=1000)
    project.drain()
    ended = project.queue.get(job.id)
    assert (ended.state, ended.attempts) == (State.FAILED, ())


@posix_only
def test_a_file_of_another_user_does_not_run(project: Project) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    job = project.queue.submit("Honest", "echo", ["theirs"])
    (path,) = project.spool.rglob(f"*{job.id}.json")
    os.chown(path, 65534, 65534)
    project.drain()
    (reason,) = project.spool.glob(f"corrupt/*{job.id}*.reason")
    assert "belongs to another user" in reason.read_text("utf-8")
    assert project.log(job)[-1]["status"] != "RUNNING"
