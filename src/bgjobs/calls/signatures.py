"""Read the signature of an approved method from its source, without importing or running anything."""

from __future__ import annotations

import ast
from inspect import Parameter
from inspect import Signature as Parameters
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from msgspec import Struct

from bgjobs.calls import sources
from bgjobs.calls.masking import hidden
from bgjobs.calls.sources import OpaqueError
from bgjobs.errors import NoSuchTargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from inspect import _ParameterKind

    from bgjobs.calls.sources import Bound, Names, Source

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

LITERALS: Final = frozenset({"typing.Literal", "typing_extensions.Literal"})
VALUES: Final = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set)
PROPERTIES: Final = frozenset({"builtins.property", "functools.cached_property"})


class Unreadable(Struct, frozen=True):
    """The source does not tell the signature; `reason` says why. The runner will find out."""

    reason: str


class Annotation(Struct, frozen=True):
    """An annotation: its source text, and its expression with full names (an empty name is not known)."""

    text: str
    full: ast.expr

    def __repr__(self) -> str:
        return self.text


class Default(Struct, frozen=True):
    """The default of a parameter: its source text, never its value."""

    text: str

    def __repr__(self) -> str:
        return self.text


class Signature(Struct, frozen=True, eq=False):
    """The signature of a method, without `self` or `cls`. Annotations are `Annotation`s, defaults are `Default`s."""

    name: str
    inspect_signature: Parameters
    doc: str = ""
    is_async: bool = False

    def text(self) -> str:
        """Return it as one line, such as `pick_up(name: str, time: str, place: str)`."""
        return f"{self.name}{self.inspect_signature}"

    def hidden(self, secret: frozenset[str]) -> frozenset[str]:
        """Return which arguments of a call are secret, given the names of secret parameters, as `masked` takes it."""
        return hidden(self.inspect_signature.parameters.values(), secret)


def read(module: str, owner: str | None, method: str, import_paths: Sequence[str]) -> Signature | Unreadable:
    """Return the signature of `owner.method` of a module or, without owner, of its function `method`.

    `import_paths` are searched before `sys.path`. Raises NoSuchTargetError with the code `no-such-module`,
    `no-such-class`, `no-such-method` or `not-a-method` where the source is readable and says so.
    """
    try:
        source = sources.find(module, import_paths)
        return _of_module(source, method) if owner is None else _of_class(source, owner, method)
    except OpaqueError as error:
        return Unreadable(str(error))
    except (RecursionError, MemoryError):
        return Unreadable(f"the source of {module} is nested too deeply")


def annotation_in(module: str, text: str, import_paths: Sequence[str]) -> Annotation | None:
    """Parse an annotation with the names of a module; None if only running the code tells."""
    try:
        source = sources.find(module, import_paths)
        return Annotation(text, _in_full(_unquoted(text), (source.names,)))
    except (OpaqueError, NoSuchTargetError, RecursionError, MemoryError):
        return None


# ---------------------------------------------------------------------------------- from names to the one function


def _of_module(source: Source, method: str) -> Signature:
    bound = _defined(source, "function", method)
    return _signature(f"{source.module}.{method}", bound, (source.names,), in_class=False)


def _of_class(source: Source, owner: str, method: str) -> Signature:
    cls, label = _defined(source, "class", owner), f"{source.module}:{owner}"
    if isinstance(cls, Function):
        raise sources.refusal("no-such-class", f"{source.module}.{owner} is a function, not a class")
    if not isinstance(cls, ast.ClassDef):
        raise OpaqueError(f"{source.module}.{owner} is made by an assignment")
    known: list[str] = []
    for step in sources.lookup_order(source, cls):
        if isinstance(step, str):
            raise OpaqueError(step)
        base, home = step
        names = sources.names_in(base.body, home.package)
        bound = sources.sole_binding(names, method)
        if bound is not None:
            return _signature(f"{label}.{method}", bound, (names, home.names), in_class=True)
        known += names
    raise sources.refusal("no-such-method", f"{label} has no method {method}", method, known)


def _defined(source: Source, what: Literal["class", "function"], name: str) -> ast.AST:
    """Return the statement of the module that defines this name. Raises NoSuchTargetError or OpaqueError."""
    code, wanted = ("no-such-class", ast.ClassDef) if what == "class" else ("no-such-method", Function)
    bound = sources.sole_binding(source.names, name)
    if isinstance(bound, str):
        message = f"{source.module}.{name} is only imported there, from {bound}"
        raise NoSuchTargetError(message, hint="name the module that defines it", code=code)
    if bound is not None:
        return bound
    if "__getattr__" in source.names:
        raise OpaqueError(f"{source.module} makes names by __getattr__")
    known = [key for key, found in source.names.items() if any(isinstance(node, wanted) for node in found)]
    raise sources.refusal(code, f"{source.module} has no {what} {name}", name, known)


# --------------------------------------------------------------------------------- from the function to its signature


# By the statement that defines the function: `sources` caches it until the file changes.
_made: WeakKeyDictionary[ast.AST, Signature] = WeakKeyDictionary()


def _signature(label: str, bound: Bound, scopes: tuple[Names, ...], *, in_class: bool) -> Signature:
    if not isinstance(bound, Function):
        raise _no_function(label, bound)
    made = _made.get(bound)
    if made is None:
        made = _made[bound] = _new_signature(label, bound, scopes, in_class=in_class)
    return made


def _new_signature(label: str, bound: Function, scopes: tuple[Names, ...], *, in_class: bool) -> Signature:
    drops_first = _binding(label, bound, scopes) and in_class
    if _yields(bound):
        raise sources.refusal("not-a-method", f"{label} is a generator: it would be called, and never run")
    parameters = list(_parameters(bound.args, scopes))
    if drops_first and not parameters:
        raise sources.refusal("not-a-method", f"{label} takes no self")
    if drops_first and parameters[0].kind in {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}:
        del parameters[0]
    doc = (ast.get_docstring(bound) or "").partition("\n")[0].strip()
    return Signature(bound.name, Parameters(parameters), doc, isinstance(bound, ast.AsyncFunctionDef))


def _no_function(label: str, bound: Bound) -> Exception:
    if isinstance(bound, ast.ClassDef):
        return sources.refusal("not-a-method", f"{label} is a class")
    if isinstance(bound, ast.Assign | ast.AnnAssign) and isinstance(bound.value, VALUES):
        return sources.refusal("not-a-method", f"{label} is a value, not a function")
    return OpaqueError(f"{label} is not made by a def")


def _binding(label: str, function: Function, scopes: tuple[Names, ...]) -> bool:
    """Tell whether binding gives the first parameter, as `self` or `cls`."""
    filled = True
    for decorator in function.decorator_list:
        full = sources.full_name(decorator, scopes)
        is_accessor = isinstance(decorator, ast.Attribute) and decorator.attr in {"setter", "getter", "deleter"}
        if full in PROPERTIES or is_accessor:
            raise sources.refusal("not-a-method", f"{label} is a property")
        if full == "builtins.staticmethod":
            filled = False
        elif full != "builtins.classmethod" and full not in sources.NEUTRAL:
            raise OpaqueError(f"{label} is decorated with {sources.shown(decorator)}")
    return filled


def _yields(function: Function) -> bool:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(part, Function | ast.ClassDef | ast.Lambda):
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
    annotation = Parameter.empty if written is None else Annotation(sources.shown(written), _in_full(written, scopes))
    value = Parameter.empty if default is None else Default(sources.shown(default))
    return Parameter(arg.arg, kind, default=value, annotation=annotation)


# ---------------------------------------------------------------------------------------- names spelled in full


def _in_full(expression: ast.expr, scopes: tuple[Names, ...]) -> ast.expr:
    match expression:
        case ast.Name() | ast.Attribute():
            return ast.Name(id=sources.full_name(expression, scopes))
        case ast.Constant(value=str(text)):
            return _in_full(_unquoted(text), scopes)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return ast.BinOp(_in_full(left, scopes), ast.BitOr(), _in_full(right, scopes))
        case ast.Tuple(elts=parts):
            return ast.Tuple([_in_full(part, scopes) for part in parts])
        case ast.Subscript(value=value, slice=inside):
            head = sources.full_name(value, scopes)
            return ast.Subscript(ast.Name(id=head), inside if head in LITERALS else _in_full(inside, scopes))
        case _:
            return expression


def _unquoted(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return ast.Name(id="")
