"""Reduce an annotation, in source or loaded, to one of a few kinds of values."""

from __future__ import annotations

import ast
import enum
import inspect
import types
import typing
from functools import cache
from importlib import import_module
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from bgjobs.calls.signatures import annotation_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Plain(Struct, frozen=True):
    """A single value: a text, a number, a date, a path. `name` says which."""

    name: str


class Container(Struct, frozen=True):
    """A JSON array or object, from which `make` makes the value; the loaded `annotation` says what is in it."""

    make: type
    annotation: Any = None


class Record(Struct, frozen=True):
    """A JSON object with the fields of a loaded dataclass or typed dict."""

    annotation: Any


class Choices(Struct, frozen=True):
    """One of these values: what a `Literal` lists, or the members of an enum."""

    values: tuple[object, ...]


class AnyOf(Struct, frozen=True):
    """Whatever one of these kinds accepts."""

    kinds: tuple[Kind, ...]


Kind: TypeAlias = Plain | Container | Record | Choices | AnyOf

TEXT: Final = Plain("str")
ANY: Final = Plain("any")
NULL: Final = Plain("null")

# By full name. Any other annotation is ANY: its text is passed on unchanged.
KINDS: Final[Mapping[str, Plain | Container]] = {
    "builtins.str": TEXT,
    "builtins.int": Plain("int"),
    "builtins.float": Plain("float"),
    "builtins.bool": Plain("bool"),
    "builtins.list": Container(list),
    "builtins.dict": Container(dict),
    "builtins.tuple": Container(tuple),
    "builtins.set": Container(set),
    "builtins.frozenset": Container(frozenset),
    "decimal.Decimal": Plain("decimal"),
    "datetime.date": Plain("date"),
    "datetime.datetime": Plain("datetime"),
    "datetime.time": Plain("time"),
    "datetime.timedelta": Plain("timedelta"),
    "pathlib.Path": Plain("path"),
    "uuid.UUID": Plain("uuid"),
    "typing.List": Container(list),
    "typing.Dict": Container(dict),
    "typing.Tuple": Container(tuple),
    "typing.Set": Container(set),
    "typing.FrozenSet": Container(frozenset),
}


def _any_of(kinds: Iterable[Kind]) -> Kind:
    return AnyOf(tuple(inner for kind in kinds for inner in (kind.kinds if isinstance(kind, AnyOf) else (kind,))))


# ---------------------------------------------------------------------------------------------------- from source


def in_source(parameter: Parameter) -> Kind:
    """Return the kind of a parameter of `signatures.read`, or ANY if the source does not tell."""
    annotation = parameter.annotation
    if annotation is Parameter.empty:
        return TEXT
    full = annotation.full
    return KINDS.get(full.id, ANY) if isinstance(full, ast.Name) else _from_source(full)  # most are a name: be quick


def _from_source(full: ast.expr) -> Kind:
    match full:
        case ast.Constant(value=None):
            return NULL
        case ast.Name(id=name):
            return KINDS.get(name, ANY)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of([_from_source(left), _from_source(right)])
        case ast.Subscript(value=ast.Name(id=head), slice=inside):
            return _from_subscript(head, inside.elts if isinstance(inside, ast.Tuple) else [inside])
        case _:
            return ANY


def _from_subscript(head: str, inside: Sequence[ast.expr]) -> Kind:
    match head.removeprefix("typing_extensions.").removeprefix("typing."), inside:
        case "Optional", [wanted]:
            return _any_of([_from_source(wanted), NULL])
        case "Union", [*parts]:
            return _any_of(_from_source(part) for part in parts)
        case "Annotated", [wanted, *_]:
            return _from_source(wanted)
        case "Literal", [*values]:
            return _literal(values)
        case _:
            kind = KINDS.get(head)
            return kind if isinstance(kind, Container) else ANY


def _literal(inside: Sequence[ast.expr]) -> Kind:
    try:
        return Choices(tuple(ast.literal_eval(part) for part in inside))
    except (ValueError, TypeError):
        return ANY


# --------------------------------------------------------------------------------------------------- when loaded


def when_loaded(function: Callable[..., object], parameter: Parameter) -> Kind:
    """Return the kind of a parameter of a loaded function, or ANY if its annotation is of no known kind."""
    annotation = parameter.annotation
    if annotation is Parameter.empty:
        return TEXT
    plain = inspect.unwrap(function)
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return _from_type(typing.get_type_hints(holder, getattr(plain, "__globals__", {}))["value"])
    except Exception:  # noqa: BLE001 - an annotation may hold any expression
        return _from_rest(plain, getattr(annotation, "__forward_arg__", annotation))


def _from_rest(function: Callable[..., object], annotation: object) -> Kind:
    """Return the kind of an annotation that holds an unknown name, as far as it can be known."""
    if isinstance(annotation, str):  # mostly a name that is imported for the type checker alone: the source tells
        found = annotation_in(function.__module__, annotation, ())
        return _from_source(found.full) if found else ANY
    try:
        return _from_type(annotation)
    except Exception:  # noqa: BLE001 - an annotation may hold any object
        return ANY


def _from_type(annotation: Any) -> Kind:  # noqa: ANN401 - an annotation may be any object
    while isinstance(annotation, typing.NewType | getattr(typing, "TypeAliasType", typing.NewType)):
        is_new = isinstance(annotation, typing.NewType)
        annotation = annotation.__supertype__ if is_new else getattr(annotation, "__value__", None)
    if annotation is None or annotation is types.NoneType:
        return NULL
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        return _any_of(_from_type(part) for part in typing.get_args(annotation))
    if origin is typing.Literal:
        return Choices(typing.get_args(annotation))
    plain = origin or annotation
    return _from_class(plain, annotation) if isinstance(plain, type) else ANY


def _from_class(plain: type, annotation: Any) -> Kind:  # noqa: ANN401 - an annotation may be any object
    known = _kinds_by_type().get(plain)
    if known is not None:
        return Container(known.make, annotation) if isinstance(known, Container) else known
    if issubclass(plain, enum.Enum):
        return Choices(tuple(plain))
    import dataclasses  # noqa: PLC0415 - only the runner gets here

    is_typed_dict = issubclass(plain, dict) and hasattr(plain, "__total__")
    return Record(annotation) if is_typed_dict or dataclasses.is_dataclass(plain) else ANY


@cache
def _kinds_by_type() -> dict[type, Plain | Container]:
    names = ((full.rpartition("."), kind) for full, kind in KINDS.items() if not full.startswith("typing."))
    return {getattr(import_module(module), name): kind for (module, _, name), kind in names}
