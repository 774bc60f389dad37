"""Bind the arguments of a call, and turn text into what the annotations of the method say."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import math
import re
import sys
import types
import typing
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from importlib import import_module
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final

from bgjobs import durations
from bgjobs.errors import BadArgumentsError
from bgjobs.secrets import MASK
from bgjobs.signatures import Annotation, Default, Unreadable, annotation_in

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path
    from uuid import UUID

    from bgjobs.signatures import Signature

MOST_DIGITS: Final = 4300
LONGEST_SHOWN: Final = 40
LONGEST_ANNOTATION: Final = 80
LONGEST_HINT: Final = 300
WORDS: Final = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?", re.ASCII)
_DATE = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}(?:-?[0-9])?)"
_TIME = r"[0-9]{2}(?::?[0-9]{2}){0,2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2}){0,2})?"
_ISO_DATE = re.compile(_DATE, re.ASCII)
_ISO_TIME = re.compile(f"T?{_TIME}", re.ASCII)
_ISO_DATETIME = re.compile(f"{_DATE}(?:[T ]{_TIME})?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What an annotation asks for. `type` is the annotation itself, where the code is loaded."""

    name: str
    parts: tuple[Kind, ...] = ()  # of a union
    choices: tuple[object, ...] = ()  # of a literal
    type: Any = None


TEXT: Final = Kind("str")
ANY: Final = Kind("any")
NULL: Final = Kind("null")


def check(
    signature: Signature,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    text: bool,
    secret: Container[str] = (),
) -> None:
    """Raise BadArgumentsError, which names the parameter, if a call with these arguments cannot succeed.

    With `text`, texts must also fit the annotations whose meaning is plain from the source; the runner checks the
    others. Values of the parameters in `secret` appear in no message.
    """
    call = _Call(signature.name, signature.inspect_signature, secret)
    call.fitted(args, kwargs, _kind_in_source if text else None)


def needs_conversion(signature: Signature | Unreadable) -> bool:
    """Return False if every parameter is known to take text as it is, so that text needs no second look."""
    if isinstance(signature, Unreadable):
        return True
    return any(_kind_in_source(part) != TEXT for part in signature.inspect_signature.parameters.values())


def convert(
    function: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    text: bool,
    secret: Container[str] = (),
) -> tuple[list[object], dict[str, object]]:
    """Return the arguments to call a bound method or function with, or raise BadArgumentsError.

    With `text`, every text becomes what the evaluated annotation says; without it, values keep their JSON types.
    """
    name = getattr(function, "__name__", "the method")
    try:
        signature = _signature_of(function)
    except (TypeError, ValueError):
        raise BadArgumentsError(f"{name} does not say what it takes", hint="write it as a plain method") from None
    call = _Call(name, signature, secret)
    return call.fitted(args, kwargs, (lambda parameter: _kind_when_loaded(function, parameter)) if text else None)


# ------------------------------------------------------------------------------------------------------- one call


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    name: str
    signature: inspect.Signature
    secret: Container[str]

    def fitted(
        self,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        kind_of: Callable[[Parameter], Kind] | None,
    ) -> tuple[list[object], dict[str, object]]:
        """Return the arguments, each text as the kind of its parameter asks; without `kind_of`, only bind them."""
        places, names = self._bound(args, kwargs)
        if kind_of is None:
            return list(args), dict(kwargs)
        return (
            [self._fit(part.name, part, value, kind_of) for part, value in zip(places, args, strict=True)],
            {name: self._fit(name, names[name], value, kind_of) for name, value in kwargs.items()},
        )

    def _bound(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[list[Parameter], dict[str, Parameter]]:
        """Return the parameter of each argument; refuse what is too much, unknown, repeated or missing."""
        places = self._parameters(Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        filled = places[: len(args)] + self._parameters(Parameter.VAR_POSITIONAL) * (len(args) - len(places))
        if len(filled) < len(args):
            raise self._error(f"{self.name} takes {_count(len(places))}, {len(args)} were given")
        named = self._parameters(Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        known, others = {part.name: part for part in named}, self._parameters(Parameter.VAR_KEYWORD)
        for name in kwargs:
            if name not in known and not others:
                raise self._unknown(name, known)
            if name in known and known[name] in filled:
                raise self._error(f"{self.name} got {name} twice, by position and by name")
        given = {part.name for part in filled} | (kwargs.keys() & known.keys())
        self._refuse_missing(places + self._parameters(Parameter.KEYWORD_ONLY), given)
        return filled, {name: known[name] if name in known else others[0] for name in kwargs}

    def _parameters(self, *kinds: object) -> list[Parameter]:
        return [part for part in self.signature.parameters.values() if part.kind in kinds]

    def _refuse_missing(self, wanted: Iterable[Parameter], given: Container[str]) -> None:
        missing = [part.name for part in wanted if part.default is Parameter.empty and part.name not in given]
        if missing:
            raise self._error(f"{self.name} lacks {', '.join(missing)}")

    def _unknown(self, name: str, known: Iterable[str]) -> BadArgumentsError:
        from difflib import get_close_matches  # noqa: PLC0415 - only a refusal needs it

        near = get_close_matches(name, list(known), 1)
        hint = f"did you mean {near[0]}?" if near else ""
        return self._error(f"{self.name} has no argument {_shown(name)}", hint)

    def _fit(self, name: str, parameter: Parameter, value: object, kind_of: Callable[[Parameter], Kind]) -> object:
        if not isinstance(value, str):
            return value
        kind = kind_of(parameter)
        try:
            return _parsed(kind, value)
        except ValueError as error:
            hidden = name in self.secret or parameter.name in self.secret  # they differ within **kwargs
            reason = f" ({error})" if isinstance(error, _MisfitError) and not hidden else ""
            shown, asked = MASK if hidden else _shown(value), _annotation_text(parameter)
            message = (
                f"{self.name}: {name if name == parameter.name else _shown(name)}={shown} does not fit {asked}{reason}"
            )
            # The cause may quote the value, and a traceback would show it.
            raise BadArgumentsError(message, hint=f"write {_expected(kind)}") from None

    def _error(self, message: str, hint: str = "") -> BadArgumentsError:
        return BadArgumentsError(message, hint=hint or f"write {self._takes()}")

    def _takes(self) -> str:
        """Return the signature as one line; the value of a default may be anything, and is left out."""
        parameters = []
        for part in self.signature.parameters.values():
            shown = part
            if part.annotation is not Parameter.empty:
                shown = shown.replace(annotation=Default(_annotation_text(part)))
            if part.default is not Parameter.empty and not isinstance(part.default, Default):
                shown = shown.replace(default=Default("..."))
            parameters.append(shown)
        return f"{self.name}{inspect.Signature(parameters)}"[:LONGEST_HINT]


def _count(most: int) -> str:
    return f"at most {most} argument{'s' if most != 1 else ''} by position" if most else "no argument by position"


def _shown(value: str) -> str:
    return repr(value) if len(value) <= LONGEST_SHOWN else f"a text of {len(value)} characters"


def _annotation_text(parameter: Parameter) -> str:
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text if len(text) <= LONGEST_ANNOTATION else f"{text[: LONGEST_ANNOTATION - 3]}..."


# ------------------------------------------------------------------------------------------- what text becomes


def _int(text: str) -> int:
    if not _INT.fullmatch(text) or len(text.lstrip("+-")) > MOST_DIGITS:
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    if not math.isfinite(number):
        raise ValueError
    return number


def _decimal(text: str) -> Decimal:
    from decimal import Decimal  # noqa: PLC0415 - only this annotation needs it

    if not _DECIMAL.fullmatch(text) or len(text) > MOST_DIGITS:
        raise ValueError
    return Decimal(text)


def _bool(text: str) -> bool:
    try:
        return WORDS[text.lower()]
    except KeyError:
        raise ValueError from None


def _date(text: str) -> date:
    if not _ISO_DATE.fullmatch(text):  # `fromisoformat` reads more than that, and not the same in each version
        raise ValueError
    return date.fromisoformat(text)


def _time(text: str) -> time:
    if not _ISO_TIME.fullmatch(text):
        raise ValueError
    return time.fromisoformat(text)


def _datetime(text: str) -> datetime:
    if not _ISO_DATETIME.fullmatch(text):
        raise ValueError
    moment = datetime.fromisoformat(text)
    try:
        return moment if moment.tzinfo else moment.astimezone()
    except (OverflowError, OSError):  # the first and last days of the calendar; on Windows all before 1970
        raise ValueError from None


def _timedelta(text: str) -> timedelta:
    return durations.parse_iso(text) if text.startswith("P") else durations.parse(text)


def _path(text: str) -> Path:
    from pathlib import Path  # noqa: PLC0415 - only this annotation needs it

    return Path(text)


def _uuid(text: str) -> UUID:
    from uuid import UUID  # noqa: PLC0415 - only this annotation needs it

    if not _UUID.fullmatch(text):
        raise ValueError
    return UUID(text)


def _null(text: str) -> None:
    if text != "null":
        raise ValueError


# By kind: what makes a value of a text or raises ValueError, and what a person should have written. Both sides use
# this one table: what is refused at submit would be refused by the runner.
SCALARS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {
    "any": (str, "any text"),
    "str": (str, "any text"),
    "null": (_null, "null"),
    "int": (_int, "a whole number such as 42"),
    "float": (_float, "a number such as 1.5"),
    "decimal": (_decimal, "a number such as 19.90"),
    "bool": (_bool, "true or false"),
    "date": (_date, "a date such as 2026-12-01"),
    "datetime": (_datetime, "a moment such as 2026-12-01T09:00 or 2026-12-01T09:00Z"),
    "time": (_time, "a time such as 09:00"),
    "timedelta": (_timedelta, "a length of time such as 90s, 5m, 2h, 1d or PT5M"),
    "path": (_path, "a path"),
    "uuid": (_uuid, "a UUID such as 01234567-89ab-cdef-0123-456789abcdef"),
}
CONTAINERS: Final[Mapping[str, tuple[type, Callable[[Any], object]]]] = {
    "list": (list, list),
    "tuple": (list, tuple),
    "set": (list, set),
    "frozenset": (list, frozenset),
    "dict": (dict, dict),
    "object": (dict, dict),
}
LAST: Final = ("str", "any")  # these take any text: in a union, the others are asked first


def _parsed(kind: Kind, text: str) -> object:
    """Return what a text means for a kind, or raise ValueError."""
    match kind.name:
        case "union":
            return _first_fitting(kind.parts, text)
        case "literal":
            return _chosen(kind.choices, text)
        case "enum":
            return _member(list(kind.type), text)
        case name if name in CONTAINERS:
            return _from_json(kind, text)
        case name:
            return SCALARS[name][0](text)


def _expected(kind: Kind) -> str:
    """Return what a person should write."""
    match kind.name:
        case "union":
            return " or ".join(dict.fromkeys(_expected(part) for part in kind.parts))
        case "literal":
            return _one_of("null" if choice is None else str(choice) for choice in kind.choices)
        case "enum":
            return _one_of(member.name for member in kind.type)
        case name if name in CONTAINERS:
            return "a JSON array such as [1, 2]" if CONTAINERS[name][0] is list else 'a JSON object such as {"a": 1}'
        case name:
            return SCALARS[name][1]


def _one_of(choices: Iterable[str]) -> str:
    text = f"one of {', '.join(choices)}"
    return text if len(text) <= LONGEST_HINT else "one of its values"


def _first_fitting(parts: Sequence[Kind], text: str) -> object:
    order = sorted(parts, key=lambda part: (part.name != "null", part.name in LAST))
    for part in order:
        try:
            return _parsed(part, text)
        except ValueError:
            continue
    raise ValueError


def _chosen(choices: Sequence[object], text: str) -> object:
    for choice in choices:
        if not isinstance(choice, enum.Enum) and _means(choice, text):
            return choice
    return _member([choice for choice in choices if isinstance(choice, enum.Enum)], text)


def _means(choice: object, text: str) -> bool:
    if isinstance(choice, str | bytes):
        return text == choice
    scalar = "null" if choice is None else "bool" if isinstance(choice, bool) else "int"
    try:
        return SCALARS[scalar][0](text) == choice
    except ValueError:
        return False


def _member(members: Sequence[enum.Enum], text: str) -> enum.Enum:
    for wanted in ([member.name for member in members], [str(member.value) for member in members]):
        if text in wanted:
            return members[wanted.index(text)]
    raise ValueError


def _from_json(kind: Kind, text: str) -> object:
    if kind.type is None:
        return _from_plain_json(kind, text)
    import msgspec  # noqa: PLC0415 - only the runner gets here

    try:
        return msgspec.json.decode(text, type=kind.type, dec_hook=_from_json_text)
    except msgspec.MsgspecError as error:
        # Other messages of msgspec, and those of the class itself, may quote the value.
        safe = str(error).startswith(("Expected `", "Object missing", "JSON is malformed"))
        raise _MisfitError(str(error) if safe else "not what the annotation says") from None
    except (TypeError, NameError):
        if kind.name == "object":
            raise
        return _from_plain_json(kind, text)  # what is in the container is of no type that JSON can become


def _from_json_text(wanted: type, value: object) -> object:
    from pathlib import PurePath  # noqa: PLC0415 - only the runner gets here

    if issubclass(wanted, PurePath) and isinstance(value, str):
        return wanted(value)
    raise ValueError(f"JSON cannot become {wanted.__name__}")


def _from_plain_json(kind: Kind, text: str) -> object:
    import json  # noqa: PLC0415 - only these annotations need it

    wanted, make = CONTAINERS[kind.name]
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _MisfitError("not valid JSON") from None
    if not isinstance(value, wanted):
        raise _MisfitError("not the right kind of JSON")
    try:
        return make(value)
    except TypeError:
        raise _MisfitError("lists and objects cannot be in a set") from None


def _no_number(text: str) -> None:
    raise ValueError(text)


class _MisfitError(ValueError):
    """Why a text does not fit, in words that do not quote it."""


# --------------------------------------------------------------------------------------- what an annotation asks for

# By full name. What is not here, or not built of these, is "any": its text is passed on as it is.
KINDS: Final[Mapping[str, str]] = {
    "builtins.str": "str",
    "builtins.int": "int",
    "builtins.float": "float",
    "builtins.bool": "bool",
    "builtins.list": "list",
    "builtins.dict": "dict",
    "builtins.tuple": "tuple",
    "builtins.set": "set",
    "builtins.frozenset": "frozenset",
    "decimal.Decimal": "decimal",
    "datetime.date": "date",
    "datetime.datetime": "datetime",
    "datetime.time": "time",
    "datetime.timedelta": "timedelta",
    "pathlib.Path": "path",
    "uuid.UUID": "uuid",
    "typing.List": "list",
    "typing.Dict": "dict",
    "typing.Tuple": "tuple",
    "typing.Set": "set",
    "typing.FrozenSet": "frozenset",
}


def _kind_in_source(parameter: Parameter) -> Kind:
    annotation = parameter.annotation
    if annotation is Parameter.empty:
        return TEXT
    return _from_source(annotation.full) if isinstance(annotation, Annotation) else ANY


def _from_source(full: ast.expr) -> Kind:
    match full:
        case ast.Constant(value=None):
            return NULL
        case ast.Name(id=name):
            return Kind(KINDS.get(name, "any"))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([_from_source(left), _from_source(right)])
        case ast.Subscript(value=ast.Name(id=head), slice=inside):
            return _from_subscript(head, inside.elts if isinstance(inside, ast.Tuple) else [inside])
        case _:
            return ANY


def _from_subscript(head: str, inside: Sequence[ast.expr]) -> Kind:
    match head.removeprefix("typing_extensions.").removeprefix("typing."):
        case "Optional":
            return _union([_from_source(inside[0]), NULL])
        case "Union":
            return _union([_from_source(part) for part in inside])
        case "Annotated":
            return _from_source(inside[0])
        case "Literal":
            return _literal(inside)
        case _:
            name = KINDS.get(head, "any")
            return Kind(name) if name in CONTAINERS else ANY


def _literal(inside: Sequence[ast.expr]) -> Kind:
    try:
        choices = tuple(ast.literal_eval(part) for part in inside)
    except (ValueError, TypeError):
        return ANY
    return Kind("literal", choices=choices)


def _kind_when_loaded(function: Callable[..., object], parameter: Parameter) -> Kind:
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
    """Return what can be known of an annotation that holds an unknown name."""
    if isinstance(annotation, str):  # the name is most often imported for the type checker alone: ask the source
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
        return _union([_from_type(part) for part in typing.get_args(annotation)])
    if origin is typing.Literal:
        return Kind("literal", choices=typing.get_args(annotation))
    plain = origin or annotation
    return _from_class(plain, annotation) if isinstance(plain, type) else ANY


def _from_class(plain: type, annotation: Any) -> Kind:  # noqa: ANN401 - an annotation may be any object
    name = _loaded_kinds().get(plain)
    if name is not None:
        return Kind(name, type=annotation)
    if issubclass(plain, enum.Enum):
        return Kind("enum", type=plain)
    is_typed_dict = issubclass(plain, dict) and hasattr(plain, "__total__")
    return Kind("object", type=annotation) if is_typed_dict or dataclasses.is_dataclass(plain) else ANY


@lru_cache(maxsize=1)
def _loaded_kinds() -> dict[type, str]:
    """Return the same table by type."""
    names = ((full.rpartition("."), kind) for full, kind in KINDS.items() if not full.startswith("typing."))
    return {getattr(import_module(module), name): kind for (module, _, name), kind in names}


def _union(parts: Iterable[Kind]) -> Kind:
    return Kind("union", parts=tuple(inner for part in parts for inner in (part.parts or (part,))))


def _signature_of(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # where asking for annotations runs them, and so may fail
        from annotationlib import Format  # noqa: PLC0415 - only there from 3.14 on

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)
