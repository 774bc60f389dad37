"""Walk through a class and its bases in the order in which Python looks for a method, from source text alone."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from bgjobs import sources
from bgjobs.errors import NoSuchTargetError
from bgjobs.sources import OpaqueError

if TYPE_CHECKING:
    from bgjobs.sources import Source

# A class and the module that it is in; a text stands for what cannot be known, and says why.
Step: TypeAlias = "tuple[ast.ClassDef, Source] | str"

DEEPEST: Final = 50  # re-exports in a row that are followed
NEUTRAL: Final = frozenset({"abc.abstractmethod"}).union(  # decorators that give back the very function they get
    f"{module}.{name}" for module in ("typing", "typing_extensions") for name in ("final", "override")
)
CLASS_NEUTRAL: Final = NEUTRAL | {"dataclasses.dataclass", "functools.total_ordering"}


def steps(source: Source, cls: ast.ClassDef) -> list[Step]:
    """Return where to look for a method of a class of this module: the nearest definition is the one that counts.

    What comes after a text may be hidden by what it stands for. Classes of Python's own library are left out.
    """
    return _steps(source, cls, {})


def _steps(source: Source, cls: ast.ClassDef, seen: dict[ast.ClassDef, list[Step]]) -> list[Step]:
    if cls in seen:
        return seen[cls]
    seen[cls] = [f"the bases of {cls.name} go round in a circle"]  # until they are known
    obstacle = _obstacle(source, cls)
    found: list[Step] = [obstacle, (cls, source)] if obstacle else [(cls, source)]
    for base in cls.bases:
        found += _base(source, cls, base, seen)
    seen[cls] = list(dict.fromkeys(reversed(found)))[::-1]  # a shared base comes after all that share it
    return seen[cls]


def _obstacle(source: Source, cls: ast.ClassDef) -> str:
    """Return why the class may not have the methods that its body shows, or nothing."""
    for decorator in cls.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if sources.origin(called, (source.names,)) not in CLASS_NEUTRAL:
            return f"class {cls.name} is decorated with {sources.shown(decorator)}"
    for keyword in cls.keywords:
        if keyword.arg in {None, "metaclass"} and not _is_standard(sources.origin(keyword.value, (source.names,))):
            return f"class {cls.name} has the metaclass {sources.shown(keyword.value)}"
    return ""


def _base(source: Source, cls: ast.ClassDef, base: ast.expr, seen: dict[ast.ClassDef, list[Step]]) -> list[Step]:
    expression = base.value if isinstance(base, ast.Subscript) else base
    try:
        local = sources.only(source.names, expression.id) if isinstance(expression, ast.Name) else None
        if isinstance(local, ast.ClassDef):
            return _steps(source, local, seen)
        full = sources.origin(expression, (source.names,))
        if _is_standard(full):
            return []  # methods of Python's own classes are never approved
        home, found = _imported_class(full, source.import_paths)
    except (OpaqueError, NoSuchTargetError) as error:
        return [f"the base {sources.shown(base)} of {cls.name} cannot be read ({error})"]
    return _steps(home, found, seen)


def _imported_class(full: str, import_paths: tuple[str, ...]) -> tuple[Source, ast.ClassDef]:
    for _ in range(DEEPEST):
        module, _, name = full.rpartition(".")
        if not module:
            break
        source = sources.find(module, import_paths)
        bound = sources.only(source.names, name)
        if isinstance(bound, ast.ClassDef):
            return source, bound
        if not isinstance(bound, str):
            break
        full = bound
    raise OpaqueError("no plain class")


def _is_standard(full: str) -> bool:
    return full.partition(".")[0] in sys.stdlib_module_names
