"""Bind the arguments of a call to the parameters of a method, and convert text to what the annotations say."""

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
from bgjobs.errors import BadArgumentsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bgjobs.calls.decorated import Reached
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

    With `text`, texts must also fit those annotations that the source explains; the runner checks the others. Values of
    the parameters in `secret` appear in no message.
    """
    call = _Call(signature.name, _parameters_in_source(signature), secret)
    call.converted(args, kwargs, kinds.in_source if text else None)


@lru_cache(maxsize=256)
def needs_conversion(signature: Signature | Unreadable) -> bool:
    """Return False if every parameter is known to take text unchanged."""
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
        found = _parameters_of(function)
    except (TypeError, ValueError):
        raise BadArgumentsError(
            f"{name} has no signature that can be read", hint="write it as a plain method"
        ) from None
    call = _Call(name, found, secret)
    return call.converted(args, kwargs, partial(kinds.when_loaded, function) if text else None)


def hidden(function: Callable[..., object], count: int, secret: frozenset[str]) -> frozenset[str]:
    """Return which arguments of a call are secret, as `masking.masked` takes it; `count` of them are positional.

    Raises TypeError or ValueError if the function has no signature.
    """
    found = _parameters_of(function)
    if found.layer is None:
        return masking.hidden(found.signature.parameters.values(), secret)
    positional = [found.layer.by_position(position + found.filled) for position in range(count)]
    known = [reached.parameter for reached in positional if reached is not None and reached.certain]
    return masking.hidden(known, secret) if len(known) == count else masking.ALL


def _parameters_of(function: Callable[..., object]) -> _Parameters:
    # Cached by function: the bound method is new for each job, and reading a signature takes longer than most jobs.
    if isinstance(function, MethodType):
        return _parameters_of_method(function.__func__)
    return _parameters_of_function(function)


@lru_cache(maxsize=256)
def _parameters_in_source(signature: Signature) -> _Parameters:
    return _grouped(signature.inspect_signature)


@lru_cache(maxsize=256)
def _parameters_of_method(function: Callable[..., object]) -> _Parameters:
    layer = layer_of(function) if isinstance(function, FunctionType) else None
    if layer is None:
        return _grouped(_signature(MethodType(function, object())))
    return replace(_grouped(_without_first(layer.signature)), layer=layer, filled=1)


@lru_cache(maxsize=256)
def _parameters_of_function(function: Callable[..., object]) -> _Parameters:
    layer = layer_of(function) if isinstance(function, FunctionType) else None
    if layer is None:
        return _grouped(_signature(function))
    return replace(_grouped(layer.signature), layer=layer)


def _without_first(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature without `self` or `cls`, which may be among `*args`."""
    first, *others = signature.parameters.values()
    return signature if first.kind is Parameter.VAR_POSITIONAL else inspect.Signature(others)


def _signature(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # where asking for annotations runs them, and so may fail
        from annotationlib import Format  # noqa: PLC0415 - only there from 3.14 on

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


# ------------------------------------------------------------------------------------------------------- one call


class _Parameters(Struct, frozen=True):
    """The parameters of a signature, grouped once: grouping takes longer than binding a call."""

    signature: inspect.Signature
    positional: tuple[Parameter, ...]
    further: tuple[Parameter, ...]  # `*args`, if there is one
    known: dict[str, Parameter]  # those that can be given by name
    others: Parameter | None  # `**kwargs`
    needed: tuple[str, ...]
    enough: float  # so many arguments by position are enough
    layer: Layer | None = None  # of a decorated function: which parameters its arguments reach
    filled: int = 0  # positional arguments that binding gives: `self` or `cls`


def _grouped(signature: inspect.Signature) -> _Parameters:
    parameters = signature.parameters.values()

    def of(*those: object) -> tuple[Parameter, ...]:
        return tuple(part for part in parameters if part.kind in those)

    positional, by_name = of(Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD), of(Parameter.KEYWORD_ONLY)
    needed = [part for part in positional + by_name if part.default is Parameter.empty]
    return _Parameters(
        signature=signature,
        positional=positional,
        further=of(Parameter.VAR_POSITIONAL),
        known={part.name: part for part in of(Parameter.POSITIONAL_OR_KEYWORD) + by_name},
        others=next(iter(of(Parameter.VAR_KEYWORD)), None),
        needed=tuple(part.name for part in needed),
        enough=math.inf if any(part in by_name for part in needed) else len(needed),
    )


class _Call(Struct, frozen=True):
    name: str
    parameters: _Parameters
    secret: Container[str]

    def converted(
        self,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        kind_of: Callable[[Parameter], Kind] | None,
    ) -> tuple[list[object], dict[str, object]]:
        """Bind the arguments, and convert each text to the kind of its parameter; without `kind_of` only bind them."""
        positional, names = self._bound(args, kwargs)
        if kind_of is None:
            return list(args), dict(kwargs)
        if self.parameters.layer is not None:
            return self._converted_below(self.parameters.layer, args, kwargs)
        return (
            [self._convert(part.name, part, value, kind_of) for part, value in zip(positional, args, strict=True)],
            {name: self._convert(name, names[name], value, kind_of) for name, value in kwargs.items()},
        )

    def _converted_below(
        self, layer: Layer, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[list[object], dict[str, object]]:
        """Convert each text to the kind of the parameter that it reaches below the decorators."""
        filled = self.parameters.filled
        fits_below = layer.fits(len(args) + filled, kwargs)

        def convert_one(name: str, reached: Reached | None, value: object) -> object:
            return (
                self._convert_reached(name, reached, value)
                if reached is not None and (reached.certain or fits_below)
                else value
            )

        return (
            [convert_one("", layer.by_position(position), value) for position, value in enumerate(args, filled)],
            {name: convert_one(name, layer.by_name(name), value) for name, value in kwargs.items()},
        )

    def _convert_reached(self, name: str, reached: Reached, value: object) -> object:
        """Convert the value for the parameter. If it is not certain to reach it, a text that does not fit stays."""
        parameter = reached.parameter
        try:
            return self._convert(name or parameter.name, parameter, value, partial(kinds.when_loaded, reached.function))
        except BadArgumentsError:
            if reached.certain:
                raise
            return value

    def _bound(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[Sequence[Parameter], dict[str, Parameter]]:
        """Return the parameter of each argument; refuse arguments that are too many, unknown, repeated or missing."""
        positional, known, others = self.parameters.positional, self.parameters.known, self.parameters.others
        if not kwargs and self.parameters.enough <= len(args) <= len(positional):
            return positional[: len(args)], {}
        filled = positional[: len(args)] + self.parameters.further * (len(args) - len(positional))
        if len(filled) < len(args):
            raise self._error(f"{self.name} takes {_count(len(positional))}, {len(args)} were given")
        for name in kwargs:
            if name not in known and others is None:
                raise self._unknown(name, known)
            if name in known and known[name] in filled:
                raise self._error(f"{self.name} got {name} twice, by position and by name")
        given = {part.name for part in filled} | (kwargs.keys() & known.keys())
        missing = [name for name in self.parameters.needed if name not in given]
        if missing:
            raise self._error(f"{self.name} lacks {', '.join(missing)}")
        return filled, {name: part for name in kwargs if (part := known.get(name, others)) is not None}

    def _unknown(self, name: str, known: Iterable[str]) -> BadArgumentsError:
        return self._error(f"{self.name} has no argument {_shown(name)}", did_you_mean(name, known))

    def _convert(self, name: str, parameter: Parameter, value: object, kind_of: Callable[[Parameter], Kind]) -> object:
        if not isinstance(value, str):
            return value
        kind = kind_of(parameter)
        if kind in PASSED_ON:
            return value
        from bgjobs.calls import text_values  # noqa: PLC0415 - most texts stay what they are

        try:
            return text_values.value_of(kind, value)
        except ValueError as error:
            hidden = name in self.secret or parameter.name in self.secret  # the two differ within **kwargs
            reason = f" ({error})" if isinstance(error, text_values.MisfitError) and not hidden else ""
            label = name if name == parameter.name else _shown(name)
            shown, asked = MASK if hidden else _shown(value), _annotation_text(parameter)
            message = f"{self.name}: {label}={shown} does not fit {asked}{reason}"
            # The cause may quote the value, and a traceback would show it.
            raise BadArgumentsError(message, hint=f"write {text_values.expected(kind)}") from None

    def _error(self, message: str, hint: str = "") -> BadArgumentsError:
        return BadArgumentsError(message, hint=hint or f"write {self._signature_text()}")

    def _signature_text(self) -> str:
        """Return the signature as one line, without values of defaults that only a loaded function has."""
        parameters = []
        for part in self.parameters.signature.parameters.values():
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
