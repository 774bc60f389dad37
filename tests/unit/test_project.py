"""What holds for the project as a whole, and is cheap to look up."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CODES = r"[A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*"
NOQA_WITH_REASON = re.compile(rf"# (?:ruff: )?noqa: {CODES} - \S.*")
IGNORE_WITH_REASON = re.compile(r"# type: ignore\[[a-z, -]+\]  # (?!noqa)\S.*")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def is_silent(text: str) -> bool:
    """Tell whether a comment, or the line that it is on, silences a check and does not say why."""
    return ("noqa" in text and not NOQA_WITH_REASON.search(text)) or (
        "type: ignore" in text and not IGNORE_WITH_REASON.search(text)
    )


def test_every_silenced_check_says_why_on_the_same_line() -> None:
    silent = [
        f"{where(path, token.start[0])} {token.string}"
        for path in sources("src", "jobs", "tests", "benchmarks", "scripts")
        for text in [path.read_text(encoding="utf-8")]
        if any(is_silent(line) for line in text.splitlines())
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
        if is_silent(token.string)
    ]
    assert not silent, "\n".join(silent)


DANGEROUS_MODULES = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "jsonpickle", "joblib", "marshal", "shelve", "dbm"),
    *("yaml", "ruamel", "code", "codeop", "runpy", "multiprocessing", "ctypes", "cffi", "imp", "pty"),
}
DANGEROUS_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint", "execfile"}
DANGEROUS_CALLS = {
    *("os.system", "os.popen", "os.startfile", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("asyncio.create_subprocess_shell", "concurrent.futures.ProcessPoolExecutor", "builtins.eval", "builtins.exec"),
}


def dangers(source: str, *, system: bool) -> list[tuple[int, str]]:
    """Return what in a source could run what it was given as data, each with its line.

    `system` tells that the source is of `bgjobs.system`, the place for ctypes.
    """
    modules = DANGEROUS_MODULES - {"ctypes"} if system else DANGEROUS_MODULES
    nodes = [node for node in ast.walk(ast.parse(source)) if hasattr(node, "lineno")]
    return sorted((node.lineno, what) for node in nodes for what in [*imported(node) & modules, *danger(node, modules)])


def imported(node: ast.AST) -> set[str]:
    """Return the packages that a statement imports, and the names that it gets from them."""
    match node:
        case ast.Import(names=names):
            return {name.name.partition(".")[0] for name in names}
        case ast.ImportFrom(module=str(module), level=0):
            return {module.partition(".")[0]}
        case _:
            return set()


def danger(node: ast.AST, modules: set[str]) -> Iterator[str]:
    match node:
        case ast.ImportFrom(module=module, names=names):
            whole = {f"{module}.{name.name}" for name in names}
            yield from whole & DANGEROUS_CALLS
        case ast.Name(id=name) if name in DANGEROUS_NAMES:
            yield name
        case ast.Attribute() if ast.unparse(node) in DANGEROUS_CALLS:
            yield ast.unparse(node)
        case ast.Call(func=func, args=[ast.Constant(value=str(module)), *_]):
            if ast.unparse(func).endswith("import_module") and module.partition(".")[0] in modules:
                yield module
        case ast.keyword(arg="shell", value=value):
            if not (isinstance(value, ast.Constant) and value.value is False):
                yield "shell"
        case _:
            pass


def test_nothing_in_bgjobs_runs_what_it_is_given_as_data() -> None:
    found = [
        f"{where(path, line)} {what}"
        for path in sources("src", "jobs")
        for line, what in dangers(path.read_text("utf-8"), system="system" in path.relative_to(ROOT).parts)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("import pickle as p", "pickle"),
        ("from pickle import loads", "pickle"),
        ("def f():\n    import marshal", "marshal"),
        ("import json, shelve", "shelve"),
        ("from yaml import safe_load", "yaml"),
        ("import ctypes.util", "ctypes"),
        ("import multiprocessing.pool", "multiprocessing"),
        ("importlib.import_module('pickle')", "pickle"),
        ("eval('1')", "eval"),
        ("run = eval", "eval"),
        ("builtins.eval('1')", "builtins.eval"),
        ("from builtins import exec", "builtins.exec"),
        ("exec(text)", "exec"),
        ("compile(text, '', 'exec')", "compile"),
        ("__import__('os')", "__import__"),
        ("os.system('ls')", "os.system"),
        ("run = os.system", "os.system"),
        ("from os import system", "os.system"),
        ("os.popen('ls')", "os.popen"),
        ("subprocess.run('ls', shell=True)", "shell"),
        ("subprocess.Popen('ls', shell=asked)", "shell"),
        ("subprocess.getoutput('ls')", "subprocess.getoutput"),
    ],
)
def test_whatever_would_run_data_is_found(source: str, what: str) -> None:
    assert [found for _, found in dangers(source, system=False)] == [what]


def test_only_the_system_package_may_use_ctypes() -> None:
    assert dangers("import ctypes", system=True) == []
    assert dangers("import pickle", system=True) == [(1, "pickle")]


def test_what_is_only_like_a_danger_is_none() -> None:
    assert dangers("subprocess.run(['ls'], shell=False)\nre.compile('x')\nself.exec(1)", system=False) == []


def test_the_security_rules_of_the_linter_are_on_for_all_that_is_shipped() -> None:
    lint = PROJECT["tool"]["ruff"]["lint"]
    silenced = {
        code
        for pattern, codes in lint["per-file-ignores"].items()
        if not pattern.startswith(("tests/", "benchmarks/", "scripts/"))
        for code in codes
    }
    assert lint["select"] == ["ALL"]
    assert [code for code in {*lint["ignore"], *silenced} if re.fullmatch("S[0-9]*|ALL", code)] == ["S603"]


LINTED = b"""
import os, pickle, subprocess, tempfile
pickle.loads(b"")
eval("1")
exec("1")
subprocess.run("ls " + os.name, shell=True)
os.system("ls " + os.name)
tempfile.mktemp()
open("/tmp/x")
"""


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff is among the tools of a developer")
@pytest.mark.parametrize("place", ["src/bgjobs/x.py", "src/bgjobs/system/x.py", "src/bgjobs/cli/x.py", "jobs/x.py"])
def test_the_linter_finds_what_is_insecure(place: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--output-format",
        "json",
        "--stdin-filename",
        place,
    ]
    done = subprocess.run([*command, "-"], cwd=ROOT, input=LINTED, stdout=subprocess.PIPE, check=False)
    codes = {finding["code"] for finding in json.loads(done.stdout)}
    assert codes >= {"S301", "S307", "S102", "S602", "S605", "S306", "S108"}


def test_no_test_waits_for_a_time_without_saying_why() -> None:
    """A sleep in a loop that asks for a condition is fine, and so is one in a job or a child program of a test."""
    waiting = [
        where(path, node.lineno)
        for path in sources("tests")
        if "project" not in path.relative_to(ROOT).parts and b"time.sleep" in path.read_bytes()
        for node in sleeps_outside_of_loops(ast.parse(path.read_bytes()))
        if "  # " not in path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
    ]
    assert not waiting, "\n".join(waiting)


def sleeps_outside_of_loops(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
            yield node
        if not isinstance(node, ast.While):
            yield from sleeps_outside_of_loops(node)


def test_type_checkers_of_other_projects_see_the_types() -> None:
    assert importlib.resources.files("bgjobs").joinpath("py.typed").is_file()


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    assert importlib.metadata.version("bgjobs") == PROJECT["project"]["version"]


def test_the_command_leads_to_a_function() -> None:
    module, _, name = PROJECT["project"]["scripts"]["bgjobs"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("path", PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
def test_what_the_wheel_carries_from_outside_src_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", [PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]])
def test_the_pages_that_the_package_names_exist(name: str) -> None:
    assert (ROOT / name).is_file()
