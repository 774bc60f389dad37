"""Say what an approved method takes, from its source text alone: nothing of it is imported or run."""

from __future__ import annotations

import ast
import builtins
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder, SourceFileLoader
from inspect import Parameter
from inspect import Signature as Parameters
from typing import TYPE_CHECKING, Final, TypeAlias

from bgjobs.errors import NoSuchTargetError
from bgjobs.secrets import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from inspect import _ParameterKind

# What each name of a module or class body may stand for: the statement that bound it last, or, for an import, what
# it imports, spelled in full. Several candidates: it depends on a condition.
Names: TypeAlias = dict[str, tuple[ast.AST | str, ...]]

LARGEST: Final = 4 * 1024 * 1024
DEEPEST: Final = 50  # re-exports in a row that are followed
LONGEST_TEXT: Final = 80
NEUTRAL: Final = frozenset({"abc.abstractmethod"}).union(  # decorators that give back the very function they get
    f"{module}.{name}" for module in ("typing", "typing_extensions") for name in ("final", "override")
)
CLASS_NEUTRAL: Final = NEUTRAL | {"dataclasses.dataclass", "functools.total_ordering"}
LITERALS: Final = frozenset({"typing.Literal", "typing_extensions.Literal"})
VALUES: Final = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set)
PROPERTIES: Final = frozenset({"builtins.property", "functools.cached_property"})
VARIADIC: Final = frozenset({Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD})
_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The source cannot say what the method takes, and `reason` says why. The runner will find out."""

    reason: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation: its source text, and the same with every name spelled in full (an empty one: not known)."""

    text: str
    full: ast.expr

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Default:
    """The default of a parameter: its source text, never its value."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Signature:
    """What a method takes, without `self` or `cls`. Annotations are `Annotation`s, defaults are `Default`s."""

    name: str
    inspect_signature: Parameters
    doc: str = ""
    is_async: bool = False

    def text(self) -> str:
        """Return it as one line, such as `pick_up(name: str, time: str, place: str)`."""
        return f"{self.name}{self.inspect_signature}"

    def hidden(self, secret: frozenset[str]) -> frozenset[str]:
        """Return which arguments of a call are secret, given the names of secret parameters, as `masked` takes it."""
        places = list(self.inspect_signature.parameters.values())
        if any(part.name in secret and part.kind in VARIADIC for part in places):
            return ALL  # whatever such a parameter collects has no name or place of its own
        return secret | {f"#{place}" for place, part in enumerate(places) if part.name in secret}


def read(module: str, owner: str | None, method: str, import_paths: Sequence[str]) -> Signature | Unreadable:
    """Return what `owner.method` of a module takes, or with no owner its function `method`.

    `import_paths` are searched before `sys.path`. Raises NoSuchTargetError with the code `no-such-module`,
    `no-such-class`, `no-such-method` or `not-a-method` where the source is readable and says so.
    """
    try:
        source = _source(module, (*import_paths, *sys.path))
        return _of_module(source, method) if owner is None else _of_class(source, owner, method)
    except _OpaqueError as error:
        return Unreadable(str(error))
    except (RecursionError, MemoryError):
        return Unreadable(f"the source of {module} is nested too deeply")


def annotation_in(module: str, text: str, import_paths: Sequence[str]) -> Annotation | None:
    """Return what the text of an annotation means among the names of a module, or None if only running it tells."""
    try:
        source = _source(module, (*import_paths, *sys.path))
        return Annotation(text, _in_full(_unquoted(text), (source.names,)))
    except (_OpaqueError, NoSuchTargetError, RecursionError, MemoryError):
        return None


class _OpaqueError(Exception):
    """Only running the code could tell."""


# ------------------------------------------------------------------------------------- from a module to its names


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    module: str
    package: str
    names: Names
    search: tuple[str, ...]


Steps: TypeAlias = list[tuple[ast.ClassDef | str, _Source]]


def _source(module: str, search: tuple[str, ...]) -> _Source:
    spec = _spec(module, search)
    is_package = spec.submodule_search_locations is not None
    if spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
        if is_package:
            raise _missing("no-such-module", f"{module} is a directory without an __init__.py", "", ())
        raise _OpaqueError(f"{module} is compiled or zipped: {spec.origin}")
    package = module if is_package else module.rpartition(".")[0]
    return _Source(module, package, _top_names(spec.origin, package), search)


def _spec(module: str, search: Iterable[str]) -> ModuleSpec:
    """Find a module step by step: `find_spec` of a dotted name would import, and so run, its parents."""
    where: list[str] | None = list(search)
    parent: ModuleSpec | None = None
    for part in module.split("."):
        found = None if where is None else _find(part, where)
        if found is None:
            raise _unfound(module, part, parent, where)
        parent, inside = found, found.submodule_search_locations
        where = None if inside is None else list(inside)
    if parent is None:
        raise _missing("no-such-module", "no module without a name", "", ())
    return parent


def _find(part: str, where: Sequence[str]) -> ModuleSpec | None:
    found = PathFinder.find_spec(part, where)
    if found is None:
        # A directory that changed twice within one tick of its clock looks unchanged to the finder: look again.
        PathFinder.invalidate_caches()
        found = PathFinder.find_spec(part, where)
    return found


def _unfound(module: str, part: str, parent: ModuleSpec | None, where: Sequence[str] | None) -> Exception:
    if parent is None and any(_module_of(finder).startswith("__editable__") for finder in sys.meta_path):
        return _OpaqueError(f"{module} may be one of the editable installs that only an import can find")
    if parent is not None and parent.origin is not None and "__path__" in _top_names(parent.origin, ""):
        return _OpaqueError(f"the package above {module} sets its own __path__")
    known = [] if where is None else [name for folder in where for name in _modules_in(folder)]
    return _missing("no-such-module", f"no module {module} in the import_paths", part, known)


def _module_of(finder: object) -> str:
    own = getattr(finder, "__module__", "")
    return own if isinstance(own, str) else ""


def _modules_in(folder: str) -> list[str]:
    try:
        names = {name.removesuffix(".py") for name in os.listdir(folder)} - sys.stdlib_module_names
    except OSError:
        return []
    return [name for name in names if name.isidentifier()]


def _top_names(path: str, package: str) -> Names:
    try:
        found = os.stat(path)
        if found.st_size > LARGEST:
            raise _OpaqueError(f"{path} is larger than 4 MiB")
        return _parsed(path, package, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise _OpaqueError(f"cannot read {path}: {error.strerror}") from None
    except SyntaxError as error:
        raise _OpaqueError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    except ValueError as error:  # a null byte, before Python 3.12
        raise _OpaqueError(f"{path}:1: {error}") from None


@lru_cache(maxsize=64)
def _parsed(path: str, package: str, _changed_ns: int, _size: int) -> Names:
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    # The lock: two threads inside `catch_warnings` can leave the filters of the whole process changed.
    with _reading, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a doubtful escape in somebody's code is not a matter of this command
        return _names(ast.parse(content, path).body, package)


def _names(body: Iterable[ast.AST], package: str) -> Names:
    names: Names = {}
    for name, bound, certain in _bindings(body, package, certain=True):
        names[name] = (bound,) if certain else (*names.get(name, ()), bound)
    return names


def _bindings(body: Iterable[ast.AST], package: str, *, certain: bool) -> Iterator[tuple[str, ast.AST | str, bool]]:
    """Go through what binds a name of this body, also inside `if`, `try`, `with` and loops, but in no function."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node, certain
            case ast.Import():
                for alias in node.names:
                    whole, first = alias.name, alias.name.partition(".")[0]
                    yield alias.asname or first, whole if alias.asname else first, certain
            case ast.ImportFrom():
                origin = _absolute(node, package)
                for alias in node.names:
                    yield alias.asname or alias.name, f"{origin}.{alias.name}", certain
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
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _only(names: Names, name: str) -> ast.AST | str | None:
    """Return what a name stands for, or None if nothing binds it."""
    found = names.get(name, ())
    if len(found) > 1:
        raise _OpaqueError(f"what {name} is depends on a condition")
    return found[0] if found else None


# ---------------------------------------------------------------------------------- from names to the one function


def _of_module(source: _Source, method: str) -> Signature:
    bound = _only(source.names, method)
    if bound is None:
        raise _absent(source, "no-such-method", f"{source.module} has no function {method}", method)
    if isinstance(bound, str):
        raise _elsewhere("no-such-method", f"{source.module}.{method}", bound)
    return _signature(f"{source.module}.{method}", bound, (source.names,), in_class=False)


def _of_class(source: _Source, owner: str, method: str) -> Signature:
    cls = _only(source.names, owner)
    if cls is None:
        raise _absent(source, "no-such-class", f"{source.module} has no class {owner}", owner)
    if isinstance(cls, str):
        raise _elsewhere("no-such-class", f"{source.module}.{owner}", cls)
    if isinstance(cls, ast.FunctionDef | ast.AsyncFunctionDef):
        raise _missing("no-such-class", f"{source.module}.{owner} is a function, not a class", "", ())
    if not isinstance(cls, ast.ClassDef):
        raise _OpaqueError(f"{source.module}.{owner} is made by an assignment")
    label, known = f"{source.module}:{owner}", list[str]()
    for step, home in _lineage(source, cls, {}):
        if isinstance(step, str):
            raise _OpaqueError(step)
        names = _names(step.body, home.package)
        bound = _only(names, method)
        if bound is not None:
            return _signature(f"{label}.{method}", bound, (names, home.names), in_class=True)
        known += names
    raise _missing("no-such-method", f"{label} has no method {method}", method, known)


def _lineage(source: _Source, cls: ast.ClassDef, seen: dict[ast.ClassDef, Steps]) -> Steps:
    """Return a class and its bases in the order of the look-up; a text stands for what cannot be known, and why."""
    if cls in seen:
        return seen[cls]
    seen[cls] = [(f"the bases of {cls.name} go round in a circle", source)]  # until they are known
    obstacle = _obstacle(source, cls)
    steps: Steps = [(obstacle, source)] if obstacle else []
    steps.append((cls, source))
    for base in cls.bases:
        steps += _base(source, cls, base, seen)
    order: dict[ast.ClassDef | str, _Source] = {}
    for step, home in reversed(steps):
        order.setdefault(step, home)  # a shared base comes after all that share it
    seen[cls] = list(reversed(order.items()))
    return seen[cls]


def _obstacle(source: _Source, cls: ast.ClassDef) -> str:
    """Return why the class may not have the methods that its body shows, or nothing."""
    for decorator in cls.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if _origin(called, (source.names,)) not in CLASS_NEUTRAL:
            return f"class {cls.name} is decorated with {_text(decorator)}"
    for keyword in cls.keywords:
        if keyword.arg in {None, "metaclass"} and not _is_standard(_origin(keyword.value, (source.names,))):
            return f"class {cls.name} has the metaclass {_text(keyword.value)}"
    return ""


def _base(source: _Source, cls: ast.ClassDef, base: ast.expr, seen: dict[ast.ClassDef, Steps]) -> Steps:
    expression = base.value if isinstance(base, ast.Subscript) else base
    try:
        local = _only(source.names, expression.id) if isinstance(expression, ast.Name) else None
        if isinstance(local, ast.ClassDef):
            return _lineage(source, local, seen)
        full = _origin(expression, (source.names,))
        if _is_standard(full):
            return []  # methods of Python's own classes are never approved
        home, found = _imported_class(full, source.search)
    except (_OpaqueError, NoSuchTargetError) as error:
        return [(f"the base {_text(base)} of {cls.name} cannot be read ({error})", source)]
    return _lineage(home, found, seen)


def _imported_class(full: str, search: tuple[str, ...]) -> tuple[_Source, ast.ClassDef]:
    for _ in range(DEEPEST):
        module, _, name = full.rpartition(".")
        if not module:
            break
        source = _source(module, search)
        bound = _only(source.names, name)
        if isinstance(bound, ast.ClassDef):
            return source, bound
        if not isinstance(bound, str):
            break
        full = bound
    raise _OpaqueError("no plain class")


def _is_standard(full: str) -> bool:
    return full.partition(".")[0] in sys.stdlib_module_names


# --------------------------------------------------------------------------------- from the function to its signature


def _signature(label: str, bound: ast.AST | str, scopes: tuple[Names, ...], *, in_class: bool) -> Signature:
    if not isinstance(bound, ast.FunctionDef | ast.AsyncFunctionDef):
        raise _no_function(label, bound)
    drops_first = _binding(label, bound, scopes) and in_class
    if _yields(bound):
        raise _missing("not-a-method", f"{label} is a generator: it would be called, and never run", "", ())
    parameters = list(_parameters(bound.args, scopes))
    if drops_first and not parameters:
        raise _missing("not-a-method", f"{label} takes no self", "", ())
    if drops_first and parameters[0].kind in {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}:
        del parameters[0]
    doc = (ast.get_docstring(bound) or "").partition("\n")[0].strip()
    return Signature(bound.name, Parameters(parameters), doc, isinstance(bound, ast.AsyncFunctionDef))


def _no_function(label: str, bound: ast.AST | str) -> Exception:
    if isinstance(bound, ast.ClassDef):
        return _missing("not-a-method", f"{label} is a class", "", ())
    if isinstance(bound, ast.Assign | ast.AnnAssign) and isinstance(bound.value, VALUES):
        return _missing("not-a-method", f"{label} is a value, not a function", "", ())
    return _OpaqueError(f"{label} is not made by a def")


def _binding(label: str, function: ast.FunctionDef | ast.AsyncFunctionDef, scopes: tuple[Names, ...]) -> bool:
    """Return whether the first parameter is filled in by the look-up, as `self` or `cls` is."""
    filled = True
    for decorator in function.decorator_list:
        full = _origin(decorator, scopes)
        is_accessor = isinstance(decorator, ast.Attribute) and decorator.attr in {"setter", "getter", "deleter"}
        if full in PROPERTIES or is_accessor:
            raise _missing("not-a-method", f"{label} is a property", "", ())
        if full == "builtins.staticmethod":
            filled = False
        elif full != "builtins.classmethod" and full not in NEUTRAL:
            raise _OpaqueError(f"{label} is decorated with {_text(decorator)}")
    return filled


def _yields(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(part))
    return False


def _parameters(args: ast.arguments, scopes: tuple[Names, ...]) -> Iterator[Parameter]:
    positional = [*args.posonlyargs, *args.args]
    defaults = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    for place, (arg, default) in enumerate(zip(positional, defaults, strict=True)):
        only = place < len(args.posonlyargs)
        kind = Parameter.POSITIONAL_ONLY if only else Parameter.POSITIONAL_OR_KEYWORD
        yield _parameter(arg, kind, default, scopes)
    if args.vararg:
        yield _parameter(args.vararg, Parameter.VAR_POSITIONAL, None, scopes)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _parameter(arg, Parameter.KEYWORD_ONLY, default, scopes)
    if args.kwarg:
        yield _parameter(args.kwarg, Parameter.VAR_KEYWORD, None, scopes)


def _parameter(arg: ast.arg, kind: _ParameterKind, default: ast.expr | None, scopes: tuple[Names, ...]) -> Parameter:
    written = arg.annotation
    annotation = Parameter.empty if written is None else Annotation(_text(written), _in_full(written, scopes))
    value = Parameter.empty if default is None else Default(_text(default))
    return Parameter(arg.arg, kind, default=value, annotation=annotation)


# -------------------------------------------------------------------------------------------- names spelled in full


def _origin(expression: ast.expr, scopes: tuple[Names, ...]) -> str:
    """Return a name as the module that it comes from would be asked for it (`datetime.date`), or "" if unknown."""
    match expression:
        case ast.Attribute(value=value, attr=attr):
            above = _origin(value, scopes)
            return above and f"{above}.{attr}"
        case ast.Name(id=name):
            found = next((names[name] for names in scopes if name in names), None)
            if found is None:
                is_builtin = name in vars(builtins) and not any("*" in names for names in scopes)
                return f"builtins.{name}" if is_builtin else ""
            return found[0] if len(found) == 1 and isinstance(found[0], str) else ""
        case _:
            return ""


def _in_full(expression: ast.expr, scopes: tuple[Names, ...]) -> ast.expr:
    match expression:
        case ast.Name() | ast.Attribute():
            return ast.Name(id=_origin(expression, scopes))
        case ast.Constant(value=str(text)):
            return _in_full(_unquoted(text), scopes)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return ast.BinOp(_in_full(left, scopes), ast.BitOr(), _in_full(right, scopes))
        case ast.Tuple(elts=parts):
            return ast.Tuple([_in_full(part, scopes) for part in parts])
        case ast.Subscript(value=value, slice=inside):
            head = _origin(value, scopes)
            return ast.Subscript(ast.Name(id=head), inside if head in LITERALS else _in_full(inside, scopes))
        case _:
            return expression


def _unquoted(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return ast.Name(id="")


def _text(expression: ast.expr) -> str:
    text = " ".join(ast.unparse(expression).split())
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."


# ------------------------------------------------------------------------------------------------------ refusals


def _absent(source: _Source, code: str, message: str, name: str) -> Exception:
    if "__getattr__" in source.names:
        return _OpaqueError(f"{source.module} makes names by __getattr__")
    wanted = ast.ClassDef if code == "no-such-class" else ast.FunctionDef | ast.AsyncFunctionDef
    known = [key for key, found in source.names.items() if any(isinstance(node, wanted) for node in found)]
    return _missing(code, message, name, known)


def _elsewhere(code: str, name: str, origin: str) -> Exception:
    return NoSuchTargetError(
        f"{name} is only imported there, from {origin}", hint="name the module that defines it", code=code
    )


def _missing(code: str, message: str, name: str, known: Iterable[str]) -> NoSuchTargetError:
    from difflib import get_close_matches  # noqa: PLC0415 - only a refusal needs it

    near = get_close_matches(name, sorted({key for key in known if not key.startswith("_")}), 1)
    hint = f"did you mean {near[0]}?" if near else "correct the allowlist or the source"
    return NoSuchTargetError(message, hint=hint, code=code)
