"""A job module whose every line tells on whoever runs it: refusals, and commands that only look, run none of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from bgjobs import Request
from tests.cli.commands import PATIENCE_S, Bgjobs, environment, error, open_queue

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue
    from bgjobs.job import Job

ALLOWED = """
[bgjobs]
retries = 0

[jobs.Trap]
class = "trap:Trap"
methods = ["run", "asked", "cached", "described", "inner", "yields", "gone", "decorated"]

[jobs.Snare]
class = "snare:Snare"
methods = ["run", "asked", "inner", "yields", "gone"]

[jobs.Odd]
class = "snare:Nobody"
methods = ["run"]

[jobs.Lost]
class = "nowhere:Trap"
methods = ["run"]

[jobs.Functions]
class = "snare"
methods = ["loose", "nothing"]
"""
# Whatever runs leaves its name; `imported` is the first, so a file that is not there means that nothing ran at all.
TRAP = """
from pathlib import Path


def mark(name):
    with Path(__file__).with_name("marks").open("a", encoding="utf-8") as file:
        file.write(name + "\\n")
    return name


mark("imported")


def __getattr__(name):
    mark("module.__getattr__")
    raise AttributeError(name)


def __dir__():
    mark("module.__dir__")
    return []


def decorator(function):
    mark("decorator")
    return function


class Meta(type):
    def __prepare__(*_):
        mark("__prepare__")
        return {}

    def __call__(cls):
        mark("Meta.__call__")
        return super().__call__()

    def __getattribute__(cls, name):
        mark("Meta.__getattribute__")
        return super().__getattribute__(name)

    def __getattr__(cls, name):
        mark("Meta.__getattr__")
        raise AttributeError(name)

    @property
    def gone(cls):
        mark("Meta.gone")

    def __instancecheck__(cls, other):
        mark("__instancecheck__")
        return True

    def __subclasscheck__(cls, other):
        mark("__subclasscheck__")
        return True

    def __repr__(cls):
        return mark("Meta.__repr__")


class Descriptor:
    def __set_name__(self, owner, name):
        mark("__set_name__")

    def __get__(self, instance, owner):
        mark("__get__")
        return lambda: None

    def __repr__(self):
        return mark("Descriptor.__repr__")


class Base:
    def __init_subclass__(cls):
        mark("__init_subclass__")


class Trap(Base, metaclass=Meta):
    described = Descriptor()

    def __init__(self):
        mark("__init__")

    def run(self, text: mark("annotation"), number: int = len(mark("default"))) -> mark("returns"):
        mark("run")
        return text

    @property
    def asked(self):
        mark("property")

    @__import__("functools").cached_property
    def cached(self):
        mark("cached_property")

    @decorator
    def decorated(self, text: str):
        mark("decorated")

    class inner:
        mark("inner")

    def yields(self):
        mark("yields")
        yield

    def __getattribute__(self, name):
        mark("__getattribute__")
        return super().__getattribute__(name)

    def __del__(self):
        mark("__del__")
"""
# The same without what makes reading the source useless: with a metaclass, a class may have any method.
SNARE = """
from trap import decorator, mark

mark("snare imported")


class Snare:
    mark("body")

    def __init__(self):
        mark("__init__")

    def run(self, text: mark("annotation"), number: int = len(mark("default"))) -> mark("returns"):
        mark("run")

    @property
    def asked(self):
        mark("property")

    class inner:
        mark("inner")

    def yields(self):
        yield mark("yields")


@decorator
def wrapped():
    mark("wrapped")


def loose(text: str = mark("default of a function")):
    mark("loose")
"""
AT_IMPORT = {
    "imported",
    "decorator",
    "__prepare__",
    "__set_name__",
    "__init_subclass__",
    "default",
    "inner",
}
if sys.version_info < (3, 14):  # from then on annotations run when somebody asks for them, and here nobody does
    AT_IMPORT |= {"annotation", "returns"}

REFUSED: list[tuple[str, list[str]]] = [
    ("bad-name", ["trap.Trap", "run", "x"]),
    ("bad-name", ["Trap", "__init__"]),
    ("bad-name", ["Trap", "r\u0443n", "x"]),
    ("not-allowed", ["trap", "run", "x"]),
    ("not-allowed", ["Meta", "mro"]),
    ("not-allowed", ["Trap", "mark"]),
    ("not-allowed", ["snare", "run"]),
    ("no-such-module", ["Lost", "run"]),
    ("no-such-class", ["Odd", "run"]),
    ("no-such-method", ["Snare", "gone"]),
    ("no-such-method", ["Functions", "nothing"]),
    ("not-a-method", ["Snare", "asked"]),
    ("not-a-method", ["Snare", "inner"]),
    ("not-a-method", ["Snare", "yields"]),
    ("bad-arguments", ["Snare", "run"]),
    ("bad-arguments", ["Snare", "run", "x", "1", "2"]),
    ("bad-arguments", ["Snare", "run", "x", "one"]),
    ("bad-arguments", ["Snare", "run", "x", "-k", "unknown=1"]),
    ("bad-arguments", ["Snare", "run", "--args", '["x", {"a": ' + "[" * 40 + "]" * 40 + "}]"]),
    ("bad-arguments", ["Functions", "loose", "x", "-k", "text=y"]),
    ("repeated", ["Trap", "run", "-k", "text=x", "-k", "text=y"]),
]
LOOKS = [
    ["submit", "Trap", "run", "x", "--dry-run"],
    ["jobs"],
    ["jobs", "--json"],
    ["jobs", "--schema"],
    ["status"],
    ["list"],
    ["list", "--json"],
    ["doctor"],
    ["doctor", "--repair"],
    ["logs"],
    ["logs", "--errors"],
    ["prune"],
    ["cancel", "--all"],
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    (root / "trap.py").write_text(TRAP, encoding="utf-8")
    (root / "snare.py").write_text(SNARE, encoding="utf-8")
    return root


def marks(project: Path) -> set[str]:
    path = project / "marks"
    return set(path.read_text("utf-8").split("\n")[:-1]) if path.exists() else set()


def put(queue: Queue, class_name: str, method: str, args: list[str]) -> Job:
    """Store a job as another program may, without the checks of `submit`."""
    job = queue.prepare(Request(class_name="Functions", method="loose"))
    job = msgspec.structs.replace(job, class_name=class_name, method=method, args=tuple(args))
    queue._store.submit([job])
    return job


@pytest.mark.parametrize(("code", "argv"), REFUSED, ids=lambda part: str(part)[:50])
def test_a_refusal_at_submission_runs_nothing_of_the_module_and_has_its_code_in_both_places(
    bgjobs: Bgjobs, project: Path, code: str, argv: list[str]
) -> None:
    result = bgjobs("submit", "--json", *argv)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert error(result)["code"] == code
    assert marks(project) == set()
    (line,) = (project / "spool" / "logs" / "background_jobs_errors.log").read_text("utf-8").splitlines()
    assert f"Priority: -, Status: REFUSED, Job: -, Attempt: -, Message: {code}: " in line
    assert list(project.glob("spool/pending/**/*.json")) == []


def test_a_submission_that_is_good_runs_nothing_of_the_module_either(bgjobs: Bgjobs, project: Path) -> None:
    assert bgjobs("submit", "Trap", "run", "x", "2").returncode == 0
    assert bgjobs("submit", "Trap", "decorated", "x").returncode == 0
    assert bgjobs("submit", "Snare", "run", "x", "2").returncode == 0
    assert bgjobs("submit", "Functions", "loose").returncode == 0
    assert marks(project) == set()


def test_looking_runs_nothing_of_the_module(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    queue.submit("Trap", "run", ["x"], delay=3600)
    for argv in LOOKS:
        assert bgjobs(*argv).returncode == 0, argv
        assert marks(project) == set(), argv


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
@pytest.mark.parametrize("words", ["bgjobs submit ", "bgjobs submit Trap ", "bgjobs submit Trap r", "bgjobs status "])
def test_completion_runs_nothing_of_the_module(bgjobs: Bgjobs, project: Path, words: str) -> None:
    asked = {"_BGJOBS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert bgjobs(env=asked).returncode == 0
    assert marks(project) == set()


def test_a_refusal_at_the_claim_runs_nothing_of_the_module(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    names = [("Meta", "mro"), ("Trap", "mark"), ("trap", "run")]
    jobs = {name: put(queue, *name, ["x"]) for name in names}
    assert bgjobs("worker", "--drain", "-c", "1").returncode == 0
    for name, job in jobs.items():
        ended = queue.get(job.id)
        assert (ended.state, ended.error and ended.error.type) == ("failed", "not-allowed"), name
    assert marks(project) == set()


def test_what_only_the_runner_can_refuse_runs_the_import_and_nothing_else(
    bgjobs: Bgjobs, queue: Queue, project: Path
) -> None:
    codes = dict.fromkeys(("asked", "cached", "described", "inner", "yields"), "not-a-method")
    jobs = {method: put(queue, "Trap", method, []) for method in (*codes, "gone")}
    assert bgjobs("worker", "--drain", "-c", "1").returncode == 0
    for method, job in jobs.items():
        ended = queue.get(job.id)
        assert (ended.state, ended.error and ended.error.type) == ("failed", codes.get(method, "no-such-method")), (
            method
        )
    assert marks(project) == AT_IMPORT


def test_the_trap_does_tell_on_who_runs_it(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    job = queue.submit("Trap", "run", ["x"])
    assert bgjobs("worker", "--drain").returncode == 0
    assert queue.get(job.id).result == "x"
    assert marks(project) >= AT_IMPORT | {"Meta.__call__", "__init__", "run"}


PROGRAM = """
import atexit, json, sys
argv, told = json.loads(sys.argv[1]), sys.argv[2]

@atexit.register
def tell():
    with open(told, "w") as file:
        json.dump(sorted(sys.modules), file)

from bgjobs.cli.app import run
sys.exit(run(argv))
"""


@pytest.mark.parametrize(
    "argv",
    [
        ["submit", "Trap", "run", "x"],
        ["status"],
        ["jobs"],
        ["doctor"],
        ["check"],
        ["run", "Trap", "run", "x"],
        ["worker", "--drain"],
    ],
    ids=lambda argv: argv[0],
)
def test_the_modules_of_jobs_are_in_none_of_our_own_processes(
    project: Path, queue: Queue, tmp_path: Path, argv: list[str]
) -> None:
    job = queue.submit("Trap", "run", ["x"])
    told = tmp_path / "modules"
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, json.dumps(argv), str(told)],
        cwd=project,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    modules = json.loads(told.read_text("utf-8"))
    assert "bgjobs.queue" in modules
    assert "trap" not in modules, done.stderr
    assert "snare" not in modules
    ran = argv[0] in {"check", "run", "worker"}  # these import it, in a child
    assert ("imported" in marks(project)) == ran
    if argv[0] == "worker":
        assert open_queue(project).get(job.id).state == "done"
