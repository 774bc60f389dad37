"""`bgjobs.system` has the same names on every system, and all that the rest of bgjobs asks it for."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(system.__file__).parent


def interface_of(platform: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Return the module of each name, as the package has it on another system."""
    spec = importlib.util.spec_from_file_location("system_elsewhere", system.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", platform)
        spec.loader.exec_module(module)
    found: dict[str, str] = module.MODULE_OF
    return found


def defined_in(module: str) -> set[str]:
    """Return the names that a module defines itself, on any system."""
    return set(_defined(ast.parse((FOLDER / f"{module}.py").read_bytes()).body))


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.If(body=inner, orelse=other):
                yield from _defined([*inner, *other])
            case _:
                pass


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_each_name_is_defined_where_the_table_says(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interface = interface_of(platform, monkeypatch)
    assert set(interface) == set(system.MODULE_OF)
    defined = {module: defined_in(module) for module in set(interface.values())}
    assert [name for name, module in interface.items() if name not in defined[module]] == []


def test_the_table_has_each_name_that_is_asked_for() -> None:
    others = [path for path in FOLDER.parent.rglob("*.py") if path.parent != FOLDER]
    nodes = [node for path in others for node in ast.walk(ast.parse(path.read_bytes()))]
    asked = {name for node in nodes for name in _asked_for(node)}
    assert asked - set(system.MODULE_OF) == set()
    assert {"birth", "move"} <= asked


def _asked_for(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(value=ast.Name(id="system"), attr=name):
            yield name
        case ast.ImportFrom(module="bgjobs.system", names=names):
            yield from (name.name for name in names)
        case _:
            pass


def test_each_name_can_be_had_and_no_other() -> None:
    assert all(getattr(system, name) is not None for name in system.MODULE_OF)
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = system.missing  # type: ignore[attr-defined]  # that is the point
