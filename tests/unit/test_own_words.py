"""No message of ours ends in the words of somebody else's exception: those change with its releases."""

from __future__ import annotations

import ast
import builtins
import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bgjobs
from bgjobs.errors import SpoolError, why

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(bgjobs.__file__).parent
TREES = {path.relative_to(SOURCES).as_posix(): ast.parse(path.read_text("utf-8")) for path in SOURCES.rglob("*.py")}
FOREIGN = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}
AS_TEXT = {"str", "repr", "ascii", "format", "print"}
WORDS = {
    "args",
    "msg",
    "message",
    "reason",
    "object",
    "doc",
}  # of exceptions of the standard library; ours say it as well
# Where it may be, and why.
ALLOWED = {
    "errors.py why": "the one place that says what the system says, and of which file",
    "cli/app.py _bug": "a bug: whoever looks for it needs all there is",
    "calls/binding.py _convert": "only if it is a MisfitError, which is ours",
    "config/settings.py _parse": "only the number of the line is taken from it",
    "worker/child/outcome.py _message": "what a job raised is shown as it is",
    "spool/inbox/importer.py _report_once": "a SpoolError; of an OSError only what the system says",
}


# By the name of each class of ours: those of the classes that it is made of.
CLASSES = {
    node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
}


def of_ours() -> set[str]:
    """Return the names of the exceptions that bgjobs defines."""
    found: set[str] = set()
    while more := {name for name, above in CLASSES.items() if above & (FOREIGN | found)} - found:
        found |= more
    return found


OURS = of_ours()


def names_in(kind: ast.expr) -> set[str]:
    """Return the names of the types in what `except` or an annotation says, without the modules that they are from."""
    if isinstance(kind, ast.Tuple):
        return {name for part in kind.elts for name in names_in(part)}
    if isinstance(kind, ast.BinOp):
        return names_in(kind.left) | names_in(kind.right)
    return {ast.unparse(kind).rpartition(".")[2]}


def is_foreign(kind: ast.expr | None, *, is_annotation: bool = False) -> bool:
    """Tell whether something else than exceptions of ours may be there."""
    if kind is None:
        return not is_annotation
    names = names_in(kind)
    if is_annotation:
        return any(name in FOREIGN or (name.endswith("Error") and name not in CLASSES) for name in names)
    return bool(names - OURS)


def shown(name: str, node: ast.AST) -> bool:
    """Tell whether this step takes the words of the exception of this name."""

    def is_it(part: ast.AST) -> bool:
        if isinstance(part, ast.BoolOp):
            return any(map(is_it, part.values))
        return isinstance(part, ast.Name) and part.id == name

    match node:
        case ast.FormattedValue(value=value):
            return is_it(value)
        case ast.Call(func=ast.Name(id=function), args=args):
            return function in AS_TEXT and any(map(is_it, args))
        case ast.Call(func=ast.Attribute(attr="format" | "join"), args=args):
            return any(map(is_it, args))
        case ast.BinOp(op=ast.Mod(), right=right):
            return any(map(is_it, ast.walk(right)))
        case ast.Attribute(value=value, attr=attribute):
            return is_it(value) and attribute in WORDS
        case _:
            return False


def quoted(tree: ast.AST, function: str = "") -> Iterator[tuple[str, int]]:
    """Go through the places where words of a foreign exception become text: the function, and the line."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        names: list[str] = []
        if isinstance(node, ast.ExceptHandler) and node.name and is_foreign(node.type):
            names = [node.name]
        elif isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [one.arg for one in given if is_foreign(one.annotation, is_annotation=True)]
        for name in names:
            yield from ((inside, part.lineno) for part in ast.walk(node) if shown(name, part))  # type: ignore[attr-defined]  # all that is `shown` has one
        yield from quoted(node, inside)


def places() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path, tree in TREES.items():
        for function, line in quoted(tree):
            found.setdefault(f"{path} {function}", []).append(line)
    return found


def test_no_message_ends_in_the_words_of_a_foreign_exception() -> None:
    assert {place: lines for place, lines in places().items() if place not in ALLOWED} == {}


def test_what_is_allowed_is_there() -> None:
    assert ALLOWED.keys() - places().keys() == set()


def test_it_would_be_found() -> None:
    source = """
def one():
    try: ...
    except (BgjobsError, ValueError) as error:
        raise BgjobsError(f"bad: {error}")
def two():
    try: ...
    except json.JSONDecodeError as error:
        raise BgjobsError("bad: " + str(error))
    except OSError as error:
        raise BgjobsError(f"bad: {error.strerror}")
    except spool.SpoolError as error:
        raise BgjobsError(f"bad: {error}")
def three(error: OSError | BgjobsError):
    print("bad: %s" % error, error.args, error.strerror or error)
def four(error: JobError | None, text: str):
    print(error, text)
"""
    found = [function for function, _ in quoted(ast.parse(source))]
    assert found == ["one", "two", "three", "three", "three"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "broken"), "broken"),
        (OSError(errno.EIO, "broken", "a/b"), "broken (a/b)"),
        (OSError(errno.EIO, "broken", b"a/b"), "broken (a/b)"),
        (OSError(errno.EIO, "broken", 5), "broken"),
        (OSError("in one word"), "in one word"),
        (OSError(), "OSError"),
        (SpoolError("it is gone", hint="look for it"), "it is gone: look for it"),
    ],
)
def test_why_something_failed_has_no_number_and_no_quotes(error: OSError | SpoolError, said: str) -> None:
    assert why(error) == said
