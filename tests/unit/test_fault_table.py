"""docs/internals/faults.md has a row for every fault, and each names tests that exist, or says why there is none."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = 67
ROW = re.compile(r"^\| (?P<number>\d+) \| (?P<fault>[^|]+) \| (?P<does>[^|]+) \| (?P<tests>[^|]+) \|$")
TESTS = re.compile(r"`tests/[a-z_/]+\.py::test_[a-z0-9_]+`( `tests/[a-z_/]+\.py::test_[a-z0-9_]+`)*")
REASON = re.compile(r"not tested: .{20,}")


def rows() -> list[re.Match[str]]:
    lines = (ROOT / "docs" / "internals" / "faults.md").read_text(encoding="utf-8").splitlines()
    return [row for row in map(ROW.match, lines) if row]


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file, without importing it."""
    tree = ast.parse((ROOT / path).read_bytes())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_fault_has_one_row() -> None:
    numbers = [int(row["number"]) for row in rows()]
    assert sorted(numbers) == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("row", [pytest.param(row, id=row["number"]) for row in rows()])
def test_every_fault_names_tests_that_exist_or_says_why_there_is_none(row: re.Match[str]) -> None:
    cell = row["tests"].strip()
    assert TESTS.fullmatch(cell) or REASON.fullmatch(cell), cell
    for path, name in re.findall(r"`([^`]+)::([^`]+)`", cell):
        assert (ROOT / path).is_file(), path
        assert name in names_in(path), f"{path} has no {name}"
