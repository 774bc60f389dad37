"""Nothing in the worker reads a clock but what acts: decisions take the moment as a value."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import bgjobs.worker

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(bgjobs.worker.__file__).parent
READERS = {
    "announce.py: ErrorLog.write",  # the moment of a line in the log
    "duties/recover.py: recover",  # when an attempt was found lost, after the search for it
    "duties/recover.py: repair",
    "duties/recover.py: _recover_all",
    "fetch.py: Fetcher._claim",  # a claim may take long: what follows is decided as of its end
    "pool.py: Pool.close",  # it waits
    "shutdown.py: StopRequests.add",  # when the signal came
}
ACTS_ALWAYS = {"loop.py", "foreground.py"}


def reads(tree: ast.AST, within: str = "") -> Iterator[str]:
    """Go through the functions that read a clock, or name one to be read by what they call."""
    for node in ast.iter_child_nodes(tree):
        name = f"{within}.{node.name}".strip(".") if isinstance(node, ast.FunctionDef | ast.ClassDef) else within
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"clock", "time"}:
            yield name
        yield from reads(node, name)


def test_no_decision_of_the_worker_reads_a_clock() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        file = path.relative_to(SOURCES).as_posix()
        if file not in ACTS_ALWAYS and not file.startswith("child/"):
            found |= {f"{file}: {name}" for name in reads(ast.parse(path.read_text("utf-8")))}
    assert found == READERS
