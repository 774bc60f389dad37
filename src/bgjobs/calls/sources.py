"""Find the source of a module, the names that it binds, and the bases of its classes, without importing anything."""

from __future__ import annotations

import ast
import builtins
import os
import sys
import threading
import warnings
from functools import lru_cache
from importlib.machinery import PathFinder, SourceFileLoader
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import Struct

from bgjobs.errors import NoSuchTargetError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec


# What a name is bound to: the last statement that binds it, or, for an import, the full name of what it imports.
Bound: TypeAlias = ast.AST | str
# By name, in the body of a module or class. Several candidates: a condition decides.
Names: TypeAlias = dict[str, tuple[Bound, ...]]

LARGEST: Final = 4 * 1024 * 1024
LONGEST_SHOWN: Final = 80
_parsing = threading.Lock()


class OpaqueError(Exception):
    """Only running the code would tell; the message says why."""


class Source(Struct, frozen=True, eq=False):
    """The names of one module, and where to look for the modules that it imports."""

    module: str
    package: str
    names: Names
    import_paths: tuple[str, ...]


def find(module: str, import_paths: Sequence[str]) -> Source:
    """Return the source of a module; `import_paths` are searched before `sys.path`.

    Raises NoSuchTargetError with the code `no-such-module`, or OpaqueError if the module has no readable source.
    """
    spec = _spec(module, import_paths)
    is_package = spec.submodule_search_locations is not None
    if spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
        if is_package:
            raise refusal("no-such-module", f"{module} is a directory without an __init__.py")
        raise OpaqueError(f"{module} is compiled or zipped: {spec.origin}")
    package = module if is_package else module.rpartition(".")[0]
    return Source(module, package, _names_of(spec.origin, package), tuple(import_paths))


def files_read(module: str, import_paths: Sequence[str]) -> Iterator[str]:
    """Go through the existing files and directories that an import of the module reads."""
    parent, where = None, [*import_paths, *sys.path]
    for part in module.split("."):
        try:
            parent = _step(module, part, parent, where)
        except (NoSuchTargetError, OpaqueError):
            return
        if parent.origin is not None and parent.has_location:
            yield parent.origin
            yield from _cached(parent.origin)
        where = list(parent.submodule_search_locations or ())
        yield from where


def _cached(path: str) -> Iterator[str]:
    """Go through the bytecode directory of a module and its file: Python runs that in place of the source."""
    if path.endswith(".py") and sys.implementation.cache_tag is not None:
        # Not as this process would name it: a runner knows neither PYTHONPYCACHEPREFIX nor -O.
        folder, name = os.path.split(path)
        yield os.path.join(folder, "__pycache__")
        yield os.path.join(folder, "__pycache__", f"{name[:-3]}.{sys.implementation.cache_tag}.pyc")


def names_in(body: Iterable[ast.AST], package: str) -> Names:
    """Return what each name of a body is bound to; relative imports start at `package`."""
    names: Names = {}
    for name, bound, certain in _bindings(body, package, certain=True):
        names[name] = (bound,) if certain else (*names.get(name, ()), bound)
    return names


def sole_binding(names: Names, name: str) -> Bound | None:
    """Return what a name is bound to, or None. Raises OpaqueError if a condition decides."""
    found = names.get(name, ())
    if len(found) > 1:
        raise OpaqueError(f"what {name} is depends on a condition")
    return found[0] if found else None


def full_name(expression: ast.expr, scopes: tuple[Names, ...]) -> str:
    """Return the full name of an expression, such as `datetime.date`, or "" if it is unknown.

    The innermost of the `scopes` comes first.
    """
    match expression:
        case ast.Attribute(value=value, attr=attr):
            above = full_name(value, scopes)
            return above and f"{above}.{attr}"
        case ast.Name(id=name):
            found = next((names[name] for names in scopes if name in names), None)
            if found is None:
                is_builtin = name in vars(builtins) and not any("*" in names for names in scopes)
                return f"builtins.{name}" if is_builtin else ""
            return found[0] if len(found) == 1 and isinstance(found[0], str) else ""
        case _:
            return ""


def shown(expression: ast.expr) -> str:
    """Return the source text of an expression as one line, cut if it is long."""
    text = " ".join(ast.unparse(expression).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def refusal(code: str, message: str, name: str = "", known: Iterable[str] = ()) -> NoSuchTargetError:
    """Return the error for an unknown name, with the most similar known name as its hint."""
    public = sorted({key for key in known if not key.startswith("_")})
    hint = did_you_mean(name, public, "correct the allowlist or the source")
    return NoSuchTargetError(message, hint=hint, code=code)


# ------------------------------------------------------------------------------------- from a module to its file


def _spec(module: str, import_paths: Sequence[str]) -> ModuleSpec:
    """Find a module step by step: `find_spec` of a dotted name would import, and so run, its parents."""
    first, *inner = module.split(".")
    spec = _step(module, first, None, (*import_paths, *sys.path))
    for part in inner:
        spec = _step(module, part, spec, spec.submodule_search_locations or ())
    return spec


def _step(module: str, part: str, parent: ModuleSpec | None, where: Sequence[str]) -> ModuleSpec:
    folders = list(where)
    found = PathFinder.find_spec(part, folders)
    if found is None:
        # A directory that changed twice within one tick of its clock looks unchanged to the finder: search again.
        PathFinder.invalidate_caches()
        found = PathFinder.find_spec(part, folders)
    if found is None:
        raise _unfound(module, part, parent, folders)
    return found


def _unfound(module: str, part: str, parent: ModuleSpec | None, folders: Iterable[str]) -> Exception:
    finders = (str(getattr(finder, "__module__", "")) for finder in sys.meta_path)
    if parent is None and any(name.startswith("__editable__") for name in finders):
        return OpaqueError(f"{module} may be one of the editable installs that only an import can find")
    if parent is not None and parent.origin is not None and "__path__" in _names_of(parent.origin, ""):
        return OpaqueError(f"the package above {module} sets its own __path__")
    known = [name for folder in folders for name in _modules_in(folder)]
    return refusal("no-such-module", f"no module {module} in the import_paths", part, known)


def _modules_in(folder: str) -> list[str]:
    try:
        names = {name.removesuffix(".py") for name in os.listdir(folder)} - sys.stdlib_module_names - {"bgjobs"}  # noqa: TID251 - source files, not the queue's
    except OSError:
        return []
    return [name for name in names if name.isidentifier()]


# ------------------------------------------------------------------------------------- from a file to its names


def _names_of(path: str, package: str) -> Names:
    try:
        found = os.stat(path)
        if found.st_size > LARGEST:
            raise OpaqueError(f"{path} is larger than 4 MiB")
        return _parsed(path, package, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise OpaqueError(f"cannot read {path}: {error.strerror}") from None
    except SyntaxError as error:
        raise OpaqueError(f"{path}:{error.lineno or 1}: not valid Python") from None
    except ValueError:  # a null byte, before Python 3.12
        raise OpaqueError(f"{path}:1: not valid Python") from None


@lru_cache(maxsize=64)
def _parsed(path: str, package: str, _changed_ns: int, _size: int) -> Names:
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    # The lock: two threads inside `catch_warnings` can leave the filters of the whole process changed.
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about the code of jobs are not for the user of this command
        return names_in(ast.parse(content, path).body, package)


def _bindings(body: Iterable[ast.AST], package: str, *, certain: bool) -> Iterator[tuple[str, Bound, bool]]:
    """Go through the bindings of a body, also inside `if`, `try`, `with` and loops, but not inside functions."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node, certain
            case ast.Import():
                for alias in node.names:
                    whole, first = alias.name, alias.name.partition(".")[0]
                    yield alias.asname or first, whole if alias.asname else first, certain
            case ast.ImportFrom():
                module = _absolute(node, package)
                for alias in node.names:
                    yield alias.asname or alias.name, f"{module}.{alias.name}", certain
            case ast.AnnAssign(value=None):
                pass  # declares a name, binds nothing
            case _:
                inner = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr)]
                stored = (name for part in ast.iter_child_nodes(node) for name in _stored(part))
                yield from ((name, node, certain) for name in stored)
                yield from _bindings(inner, package, certain=certain and isinstance(node, ast.With))


def _stored(part: ast.AST) -> Iterator[str]:
    if isinstance(part, ast.expr | ast.withitem):
        for name in ast.walk(part):
            if isinstance(name, ast.Name) and not isinstance(name.ctx, ast.Load):
                yield name.id


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


# A class with its module, or a text that says why a part of the order is not known.
Step: TypeAlias = "tuple[ast.ClassDef, Source] | str"

DEEPEST: Final = 50  # re-exports in a row that are followed
NEUTRAL: Final = frozenset({"abc.abstractmethod"}).union(  # decorators that return the function itself
    f"{module}.{name}" for module in ("typing", "typing_extensions") for name in ("final", "override")
)
CLASS_NEUTRAL: Final = NEUTRAL | {"dataclasses.dataclass", "functools.total_ordering"}


def lookup_order(source: Source, cls: ast.ClassDef) -> list[Step]:
    """Return the order in which classes are searched for a method, like the MRO, without classes of Python itself.

    A text in it stands for a class that cannot be read and may define any method.
    """
    return _lookup_order(source, cls, {})


def _lookup_order(source: Source, cls: ast.ClassDef, seen: dict[ast.ClassDef, list[Step]]) -> list[Step]:
    if cls in seen:
        return seen[cls]
    seen[cls] = [f"the bases of {cls.name} form a circle"]  # until they are known
    obstacle = _obstacle(source, cls)
    found: list[Step] = [obstacle, (cls, source)] if obstacle else [(cls, source)]
    for base in cls.bases:
        found += _base(source, cls, base, seen)
    seen[cls] = list(dict.fromkeys(reversed(found)))[::-1]  # a shared base comes after all that share it
    return seen[cls]


def _obstacle(source: Source, cls: ast.ClassDef) -> str:
    """Return why the methods of the class may differ from its body, or ""."""
    for decorator in cls.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if full_name(called, (source.names,)) not in CLASS_NEUTRAL:
            return f"class {cls.name} is decorated with {shown(decorator)}"
    for keyword in cls.keywords:
        if keyword.arg in {None, "metaclass"} and not _is_standard(full_name(keyword.value, (source.names,))):
            return f"class {cls.name} has the metaclass {shown(keyword.value)}"
    return ""


def _base(source: Source, cls: ast.ClassDef, base: ast.expr, seen: dict[ast.ClassDef, list[Step]]) -> list[Step]:
    expression = base.value if isinstance(base, ast.Subscript) else base
    try:
        local = sole_binding(source.names, expression.id) if isinstance(expression, ast.Name) else None
        if isinstance(local, ast.ClassDef):
            return _lookup_order(source, local, seen)
        full = full_name(expression, (source.names,))
        if _is_standard(full):
            return []  # methods of Python's own classes are never approved
        home, found = _imported_class(full, source.import_paths)
    except (OpaqueError, NoSuchTargetError) as error:
        return [f"the base {shown(base)} of {cls.name} cannot be read ({error})"]
    return _lookup_order(home, found, seen)


def _imported_class(full: str, import_paths: tuple[str, ...]) -> tuple[Source, ast.ClassDef]:
    for _ in range(DEEPEST):
        module, _, name = full.rpartition(".")
        if not module:
            break
        source = find(module, import_paths)
        bound = sole_binding(source.names, name)
        if isinstance(bound, ast.ClassDef):
            return source, bound
        if not isinstance(bound, str):
            break
        full = bound
    raise OpaqueError("no plain class")


def _is_standard(full: str) -> bool:
    return full.partition(".")[0] in sys.stdlib_module_names
