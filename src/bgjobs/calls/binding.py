"""Bind the arguments of a call to the parameters of a method, and fit each text to what its parameter asks for."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Container
from functools import lru_cache, partial
from inspect import Parameter
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from bgjobs.calls import kinds, masking
from bgjobs.calls.decorated import Layer, layer_of
from bgjobs.calls.masking import MASK
from bgjobs.calls.signatures import Default, Unreadable
from bgjobs.errors import BadArgumentsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bgjobs.calls.decorated import Lent
    from bgjobs.calls.kinds import Kind
    from bgjobs.calls.signatures import Signature

LONGEST_SHOWN: Final = 40
LONGEST_ANNOTATION: Final = 80
LONGEST_HINT: Final = 300
PASSED_ON: Final = (kinds.TEXT, kinds.ANY)


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
    call = _Call(signature.name, _taken_by_source(signature), secret)
    call.fitted(args, kwargs, kinds.in_source if text else None)


@lru_cache(maxsize=256)
def needs_conversion(signature: Signature | Unreadable) -> bool:
    """Return False if every parameter is known to take text as it is, so that text needs no second look."""
    if isinstance(signature, Unreadable):
        return True
    return any(kinds.in_source(part) != kinds.TEXT for part in signature.inspect_signature.parameters.values())


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
        takes = _taken_by(function)
    except (TypeError, ValueError):
        raise BadArgumentsError(f"{name} does not say what it takes", hint="write it as a plain method") from None
    call = _Call(name, takes, secret)
    return call.fitted(args, kwargs, partial(kinds.when_loaded, function) if text else None)


def hidden(function: Callable[..., object], count: int, secret: frozenset[str]) -> frozenset[str]:
    """Return which arguments of a call are secret, so many of them by position, as `secrets.masked` takes it.

    Raises TypeError or ValueError where a bound method or function does not say what it takes.
    """
    takes = _taken_by(function)
    if takes.layer is None:
        return masking.hidden(takes.signature.parameters.values(), secret)
    places = [takes.layer.by_place(place + takes.filled) for place in range(count)]
    known = [lent.parameter for lent in places if lent is not None and lent.certain]
    return masking.hidden(known, secret) if len(known) == count else masking.ALL


def _taken_by(function: Callable[..., object]) -> _Takes:
    # The bound method is new for each job, the function in it is not: reading a signature takes longer than most jobs.
    if isinstance(function, MethodType):
        return _taken_when_bound(function.__func__)
    return _taken_by_function(function)


@lru_cache(maxsize=256)
def _taken_by_source(signature: Signature) -> _Takes:
    return _taken_apart(signature.inspect_signature)


@lru_cache(maxsize=256)
def _taken_when_bound(function: Callable[..., object]) -> _Takes:
    layer = layer_of(function) if isinstance(function, FunctionType) else None
    if layer is None:
        return _taken_apart(_signature(MethodType(function, object())))
    return replace(_taken_apart(_without_first(layer.signature)), layer=layer, filled=1)


@lru_cache(maxsize=256)
def _taken_by_function(function: Callable[..., object]) -> _Takes:
    layer = layer_of(function) if isinstance(function, FunctionType) else None
    if layer is None:
        return _taken_apart(_signature(function))
    return replace(_taken_apart(layer.signature), layer=layer)


def _without_first(signature: inspect.Signature) -> inspect.Signature:
    """Return what is left to give when `self` or `cls` is given; it may be among `*args`."""
    first, *others = signature.parameters.values()
    return signature if first.kind is Parameter.VAR_POSITIONAL else inspect.Signature(others)


def _signature(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # where asking for annotations runs them, and so may fail
        from annotationlib import Format  # noqa: PLC0415 - only there from 3.14 on

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


# ------------------------------------------------------------------------------------------------------- one call


class _Takes(Struct, frozen=True):
    """What a signature takes, taken apart once: that is the longer part of binding a call to it."""

    signature: inspect.Signature
    places: tuple[Parameter, ...]  # by position
    further: tuple[Parameter, ...]  # what takes the arguments after these, if anything does
    known: dict[str, Parameter]  # by name
    others: Parameter | None  # what takes all other names
    needed: tuple[str, ...]
    fewest: float  # so many arguments by position are enough
    layer: Layer | None = None  # of a decorated function: which parameters lend their annotations
    filled: int = 0  # arguments by position that the look-up gives: `self` or `cls`


def _taken_apart(signature: inspect.Signature) -> _Takes:
    parameters = signature.parameters.values()

    def of(*those: object) -> tuple[Parameter, ...]:
        return tuple(part for part in parameters if part.kind in those)

    places, by_name = of(Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD), of(Parameter.KEYWORD_ONLY)
    needed = [part for part in places + by_name if part.default is Parameter.empty]
    return _Takes(
        signature=signature,
        places=places,
        further=of(Parameter.VAR_POSITIONAL),
        known={part.name: part for part in of(Parameter.POSITIONAL_OR_KEYWORD) + by_name},
        others=next(iter(of(Parameter.VAR_KEYWORD)), None),
        needed=tuple(part.name for part in needed),
        fewest=math.inf if any(part in by_name for part in needed) else len(needed),
    )


class _Call(Struct, frozen=True):
    name: str
    takes: _Takes
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
        if self.takes.layer is not None:
            return self._fitted_below(self.takes.layer, args, kwargs)
        return (
            [self._fit(part.name, part, value, kind_of) for part, value in zip(places, args, strict=True)],
            {name: self._fit(name, names[name], value, kind_of) for name, value in kwargs.items()},
        )

    def _fitted_below(
        self, layer: Layer, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[list[object], dict[str, object]]:
        """Return the arguments, each text as the parameter asks that it reaches, below the decorators."""
        filled = self.takes.filled
        is_alike = layer.fits(len(args) + filled, kwargs)

        def fit(name: str, lent: Lent | None, value: object) -> object:
            return self._fit_lent(name, lent, value) if lent is not None and (lent.certain or is_alike) else value

        return (
            [fit("", layer.by_place(place), value) for place, value in enumerate(args, filled)],
            {name: fit(name, layer.by_name(name), value) for name, value in kwargs.items()},
        )

    def _fit_lent(self, name: str, lent: Lent, value: object) -> object:
        """Return the value as the parameter asks. Where it is not certain to be this one, a text may also stay."""
        parameter = lent.parameter
        try:
            return self._fit(name or parameter.name, parameter, value, partial(kinds.when_loaded, lent.function))
        except BadArgumentsError:
            if lent.certain:
                raise
            return value

    def _bound(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[Sequence[Parameter], dict[str, Parameter]]:
        """Return the parameter of each argument; refuse what is too much, unknown, repeated or missing."""
        places, known, others = self.takes.places, self.takes.known, self.takes.others
        if not kwargs and self.takes.fewest <= len(args) <= len(places):
            return places[: len(args)], {}
        filled = places[: len(args)] + self.takes.further * (len(args) - len(places))
        if len(filled) < len(args):
            raise self._error(f"{self.name} takes {_count(len(places))}, {len(args)} were given")
        for name in kwargs:
            if name not in known and others is None:
                raise self._unknown(name, known)
            if name in known and known[name] in filled:
                raise self._error(f"{self.name} got {name} twice, by position and by name")
        given = {part.name for part in filled} | (kwargs.keys() & known.keys())
        missing = [name for name in self.takes.needed if name not in given]
        if missing:
            raise self._error(f"{self.name} lacks {', '.join(missing)}")
        return filled, {name: part for name in kwargs if (part := known.get(name, others)) is not None}

    def _unknown(self, name: str, known: Iterable[str]) -> BadArgumentsError:
        from difflib import get_close_matches  # noqa: PLC0415 - only a refusal needs it

        near = get_close_matches(name, list(known), 1)
        hint = f"did you mean {near[0]}?" if near else ""
        return self._error(f"{self.name} has no argument {_shown(name)}", hint)

    def _fit(self, name: str, parameter: Parameter, value: object, kind_of: Callable[[Parameter], Kind]) -> object:
        if not isinstance(value, str):
            return value
        kind = kind_of(parameter)
        if kind in PASSED_ON:
            return value
        from bgjobs.calls import text_values  # noqa: PLC0415 - most texts stay what they are

        try:
            return text_values.value_of(kind, value)
        except ValueError as error:
            hidden = name in self.secret or parameter.name in self.secret  # they differ within **kwargs
            reason = f" ({error})" if isinstance(error, text_values.MisfitError) and not hidden else ""
            label = name if name == parameter.name else _shown(name)
            shown, asked = MASK if hidden else _shown(value), _annotation_text(parameter)
            message = f"{self.name}: {label}={shown} does not fit {asked}{reason}"
            # The cause may quote the value, and a traceback would show it.
            raise BadArgumentsError(message, hint=f"write {text_values.expected(kind)}") from None

    def _error(self, message: str, hint: str = "") -> BadArgumentsError:
        return BadArgumentsError(message, hint=hint or f"write {self._takes()}")

    def _takes(self) -> str:
        """Return the signature as one line; the value of a default may be anything, and is left out."""
        parameters = []
        for part in self.takes.signature.parameters.values():
            shown = part
            if part.annotation is not Parameter.empty:
                shown = shown.replace(annotation=Default(_annotation_text(part)))
            is_shown = isinstance(part.default, Default) and part.name not in self.secret
            if part.default is not Parameter.empty and not is_shown:
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
