"""Find which parameter of a decorated function each argument reaches.

The outermost function decides whether a call fits. The functions below it only say what the annotations are.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from bgjobs.calls.masking import VARIADIC

if TYPE_CHECKING:
    from collections.abc import Container

BY_POSITION: Final = frozenset({Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD})
MOST_LAYERS: Final = 50
OTHER_CALL: Final = -1


class Reached(Struct, frozen=True):
    """The parameter that an argument reaches, and the function in whose module its annotation has a meaning.

    Not `certain`: the decorator may put arguments of its own before those that it passes on.
    """

    parameter: Parameter
    function: Callable[..., object]
    certain: bool = True


class Layer(Struct, frozen=True, eq=False):
    """One function of a stack of decorated functions, with `self` among its parameters.

    `offset` is the position in the layer below of the first argument in this one's `*args`; None: not known.
    """

    function: Callable[..., object]
    signature: Signature
    below: Layer | None = None
    offset: int | None = None

    def by_position(self, position: int) -> Reached | None:
        """Return what the argument at this position reaches, if that can be known."""
        positional = [part for part in self.signature.parameters.values() if part.kind in BY_POSITION]
        if position < len(positional):
            return self._named(positional[position])
        if self.below is None:
            return self._variadic(Parameter.VAR_POSITIONAL)
        if self.offset is not None:
            return self.below.by_position(self.offset + position - len(positional))
        found = self.below.by_position(position)
        return None if found is None else replace(found, certain=False)

    def by_name(self, name: str) -> Reached | None:
        """Return what the argument of this name reaches, if that can be known."""
        own = self.signature.parameters.get(name)
        if own is not None and own.kind not in VARIADIC:
            return self._named(own)
        return self._variadic(Parameter.VAR_KEYWORD) if self.below is None else self.below.by_name(name)

    def fits(self, count: int, names: Container[str]) -> bool:
        """Tell whether the lowest function could be called with the same arguments, `count` of them positional."""
        if self.below is not None:
            return self.below.fits(count, names)
        parameters = self.signature.parameters.values()
        positional = [part for part in parameters if part.kind in BY_POSITION]
        collects = any(part.kind is Parameter.VAR_POSITIONAL for part in parameters)
        given = {part.name for part in positional[:count]}
        needed = [part for part in parameters if part.default is Parameter.empty and part.kind not in VARIADIC]
        return (count <= len(positional) or collects) and all(
            part.name in given or part.name in names for part in needed
        )

    def _named(self, own: Parameter) -> Reached:
        reached = None if self.below is None else self.below.by_name(own.name)
        if own.annotation is Parameter.empty and reached is not None:
            return reached
        return Reached(own, self.function, certain=self.below is None or reached is not None)

    def _variadic(self, kind: object) -> Reached | None:
        found = next((part for part in self.signature.parameters.values() if part.kind is kind), None)
        return None if found is None else Reached(found, self.function)


def layer_of(function: FunctionType) -> Layer | None:
    """Return the top layer of a decorated function, or None for a plain one.

    Raises TypeError if its `__signature__` is no signature.
    """
    names = vars(function)
    return _layer(function, MOST_LAYERS) if "__wrapped__" in names or "__signature__" in names else None


def _layer(function: FunctionType, left: int) -> Layer:
    below, offset = _under(function, left)
    own = _own_signature(function)
    return Layer(function, own, below, offset)


def _under(function: FunctionType, left: int) -> tuple[Layer | None, int | None]:
    """Return the layer under this one, and the position there of the first argument that this one collects."""
    names = vars(function)
    wrapped, declared = names.get("__wrapped__"), names.get("__signature__")
    # `functools.wraps` copies all attributes: what the wrapped function declares is not meant for its wrapper.
    if declared is not None and declared is not getattr(wrapped, "__signature__", None):
        if not isinstance(declared, Signature):
            raise TypeError("__signature__ is no signature")
        return Layer(function, declared), _count_of_positional(function)
    under = wrapped.__func__ if isinstance(wrapped, staticmethod | MethodType) else wrapped
    if not isinstance(under, FunctionType) or not left:
        return None, None
    offset = _offset(function, wrapped)
    if isinstance(wrapped, MethodType):
        offset = None if offset is None else offset + 1
    return _layer(under, left - 1), offset


def _count_of_positional(function: FunctionType) -> int:
    return function.__code__.co_argcount


def _own_signature(function: FunctionType) -> Signature:
    """Return the signature of the code of the function, whatever its attributes say."""
    code = function.__code__
    bare = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    bare.__kwdefaults__ = function.__kwdefaults__
    annotations = _annotations(function)
    if "__wrapped__" in vars(function):
        # They are those of the wrapped function, and one of its parameters may be called `args` by chance.
        variadic = code.co_varnames[code.co_argcount + code.co_kwonlyargcount :]
        annotations = {name: found for name, found in annotations.items() if name not in variadic}
    parameters = inspect.signature(bare).parameters.values()
    return Signature([part.replace(annotation=annotations.get(part.name, Parameter.empty)) for part in parameters])


def _annotations(function: FunctionType) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # where asking for annotations runs them, and so may fail
        from annotationlib import Format, get_annotations  # noqa: PLC0415 - only there from 3.14 on

        return dict(get_annotations(function, format=Format.FORWARDREF))
    return dict(function.__annotations__)


# --------------------------------------------------------------------------------- what a decorator passes on


def _offset(function: FunctionType, wrapped: object) -> int | None:
    """Return the position at which a wrapper passes on its `*args`; None if its source leaves doubt."""
    definition = _definition(function)
    if definition is None or definition.args.vararg is None:
        return None
    collected = definition.args.vararg.arg
    walked = list(ast.walk(definition))
    if any(isinstance(node, ast.Name) and node.id == collected and isinstance(node.ctx, ast.Store) for node in walked):
        return None
    names = _names_of(function, wrapped)
    calls = [node for node in walked if isinstance(node, ast.Call)]
    # What it is handed to counts only where it is not called: `retry(function, *args)`, not `print(function, *args)`.
    for position in (_position, _position_when_handed):
        found = {position(call, names, collected) for call in calls} - {OTHER_CALL}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _definition(function: FunctionType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    from textwrap import dedent  # noqa: PLC0415 - few calls of decorated functions need it

    code = function.__code__
    try:
        # Of the code: asked for the function, it would return the source of the wrapped one.
        body = ast.parse(dedent(inspect.getsource(code))).body
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    match body:
        case [ast.FunctionDef() | ast.AsyncFunctionDef() as definition] if definition.name == code.co_name:
            return definition
        case _:
            return None


def _names_of(function: FunctionType, wrapped: object) -> frozenset[str]:
    """Return the names of closure variables of a wrapper that hold the wrapped function."""
    found = set()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            if cell.cell_contents is wrapped:
                found.add(name)
        except ValueError:
            continue  # nothing is in it
    return frozenset(found)


def _position(call: ast.Call, names: frozenset[str], collected: str) -> int | None:
    """Return the position of `*args` in a call of what is wrapped; None: not known, OTHER_CALL: it is another call."""
    starred = [position for position, part in enumerate(call.args) if isinstance(part, ast.Starred)]
    if not starred or not _is_name(call.func, names):
        return OTHER_CALL
    part = call.args[starred[0]]
    is_passed = isinstance(part, ast.Starred) and _is_name(part.value, frozenset({collected}))
    return starred[0] if is_passed else None


def _position_when_handed(call: ast.Call, names: frozenset[str], collected: str) -> int | None:
    """Return the position of `*args` among all that stands behind what is wrapped, in a call to which it is handed."""
    for position, part in enumerate(call.args):
        if _is_name(part, names):
            return _position(ast.Call(part, call.args[position + 1 :], []), names, collected)
    return OTHER_CALL


def _is_name(expression: ast.expr, names: frozenset[str]) -> bool:
    return isinstance(expression, ast.Name) and expression.id in names
