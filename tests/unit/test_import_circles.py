"""No module of bgjobs imports itself by way of others, whether at run time, in a function, or for the type checker."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bgjobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SOURCE = Path(bgjobs.__file__).parent


def imports(tree: ast.AST, modules: Iterable[str]) -> Iterator[str]:
    """Go through the modules that a source imports anywhere in it; a package stands for its `__init__`."""
    known = frozenset(modules)
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name in known)
            case ast.ImportFrom(module=str(module), names=names):
                inner = {f"{module}.{name.name}" for name in names}
                yield from inner & known
                # The package itself counts where one of its own names is asked for, not where it is only passed.
                if module in known and inner - known:
                    yield module
            case _:
                pass


def graph() -> dict[str, set[str]]:
    """Return which modules of bgjobs each of them imports."""
    paths = {_name(path): path for path in SOURCE.rglob("*.py")}
    found = {name: set(imports(ast.parse(path.read_bytes()), paths)) for name, path in paths.items()}
    return {name: others - {name} for name, others in found.items()}


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(imported: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of modules in which each one reaches every other: Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in imported[module]:
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[-len(group) :]
            if len(group) > 1:
                found.add(frozenset(group))

    for module in imported:
        if module not in order:
            visit(module)
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(graph()) == set()


@pytest.mark.parametrize(
    ("imported", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, set()),
        ({"a": {"b"}, "b": {"a"}}, {frozenset("ab")}),
        ({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}, {frozenset("bc")}),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, {frozenset("ab"), frozenset("cd")}),
    ],
    ids=["a chain", "a pair", "a pair within a chain", "two pairs"],  # sets have no order of their own
)
def test_circles_are_found(imported: dict[str, set[str]], found: set[frozenset[str]]) -> None:
    assert circles(imported) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import p.a", {"p.a"}),
        ("from p import a", {"p.a"}),
        ("from p import name", {"p"}),
        ("from p.a import name", {"p.a"}),
        ("def f():\n    from p import a", {"p.a"}),
        ("if TYPE_CHECKING:\n    from p.a import Name", {"p.a"}),
        ("import os\nfrom os import path", set()),
    ],
    ids=str,
)
def test_every_import_counts(source: str, found: set[str]) -> None:
    assert set(imports(ast.parse(source), ["p", "p.a"])) == found
