"""What holds for the project as a whole, and is cheap to look up."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.resources
import io
import re
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


def test_every_silenced_check_says_why_on_the_same_line() -> None:
    silent = [
        f"{where(path, token.start[0])} {token.string}"
        for path in sources("src", "jobs", "tests", "benchmarks", "scripts")
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        if token.type == tokenize.COMMENT
        if ("noqa" in token.string and not NOQA_WITH_REASON.search(token.string))
        or ("type: ignore" in token.string and not IGNORE_WITH_REASON.search(token.string))
    ]
    assert not silent, "\n".join(silent)


def test_only_the_system_package_asks_which_system_it_runs_on() -> None:
    asking = [
        where(path, node.lineno)
        for path in sources("src")
        if "system" not in path.relative_to(ROOT / "src" / "bgjobs").parts
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("sys", "platform"), ("os", "name"), ("platform", "system")}
    ]
    assert not asking, "\n".join(asking)


def test_no_test_waits_for_a_time_without_saying_why() -> None:
    """A sleep in a loop that asks for a condition is fine, and so is one in a job or a child program of a test."""
    waiting = [
        where(path, node.lineno)
        for path in sources("tests")
        if "project" not in path.relative_to(ROOT).parts
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
