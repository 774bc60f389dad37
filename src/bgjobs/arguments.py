"""Bind the arguments of a call to the parameters of a method, and fit each text to what its parameter asks for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Container
from functools import lru_cache, partial
from inspect import Parameter
from types import MethodType
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bgjobs import kinds
from bgjobs.errors import BadArgumentsError
from bgjobs.secrets import MASK
from bgjobs.signatures import Default, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bgjobs.kinds import Kind
    from bgjobs.signatures import Signature

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
    call = _Call(signature.name, signature.inspect_signature, secret)
    call.fitted(args, kwargs, kinds.in_source if text else None)


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
        signature = signature_of(function)
    except (TypeError, ValueError):
        raise BadArgumentsError(f"{name} does not say what it takes", hint="write it as a plain method") from None
    call = _Call(name, signature, secret)
    return call.fitted(args, kwargs, partial(kinds.when_loaded, function) if text else None)


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """Return what a bound method or function takes. Raises TypeError or ValueError where it does not say."""
    # The bound method is new for each job, the function in it is not: reading a signature takes longer than most jobs.
    if isinstance(function, MethodType):
        return _signature_when_bound(function.__func__)
    return _signature(function)


@lru_cache(maxsize=256)
def _signature_when_bound(function: Callable[..., object]) -> inspect.Signature:
    return _signature(MethodType(function, object()))


@lru_cache(maxsize=256)
def _signature(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # where asking for annotations runs them, and so may fail
        from annotationlib import Format  # noqa: PLC0415 - only there from 3.14 on

        signature = inspect.signature(function, annotation_format=Format.FORWARDREF)
    else:
        signature = inspect.signature(function)
    return signature


# ------------------------------------------------------------------------------------------------------- one call


class _Call(Struct, frozen=True):
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
        if kind in PASSED_ON:
            return value
        from bgjobs import conversions  # noqa: PLC0415 - most texts stay what they are

        try:
            return conversions.value_of(kind, value)
        except ValueError as error:
            hidden = name in self.secret or parameter.name in self.secret  # they differ within **kwargs
            reason = f" ({error})" if isinstance(error, conversions.MisfitError) and not hidden else ""
            label = name if name == parameter.name else _shown(name)
            shown, asked = MASK if hidden else _shown(value), _annotation_text(parameter)
            message = f"{self.name}: {label}={shown} does not fit {asked}{reason}"
            # The cause may quote the value, and a traceback would show it.
            raise BadArgumentsError(message, hint=f"write {conversions.expected(kind)}") from None

    def _error(self, message: str, hint: str = "") -> BadArgumentsError:
        return BadArgumentsError(message, hint=hint or f"write {self._takes()}")

    def _takes(self) -> str:
        """Return the signature as one line; the value of a default may be anything, and is left out."""
        parameters = []
        for part in self.signature.parameters.values():
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
