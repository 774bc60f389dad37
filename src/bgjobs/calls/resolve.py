"""Load the callable of an approved class and method, inside a runner, or refuse it.

Only plain functions, static methods and class methods are found, and no metaclass, property or `__getattr__` runs on
the way. What runs is the import of the module and the constructor of the class.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from bgjobs.errors import NoSuchTargetError

if TYPE_CHECKING:
    from collections.abc import Callable

ABSTRACT: Final = 1 << 20  # CPython's flag of a class that still has abstract methods
GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# The attributes of `type` itself: a metaclass could answer anything.
_mro_of = type.__dict__["__mro__"].__get__
_names_of = type.__dict__["__dict__"].__get__
_module_of = type.__dict__["__module__"].__get__
_flags_of = type.__dict__["__flags__"].__get__
names_of_module: Callable[[object], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__


def resolve(module: str, owner: str | None, method: str) -> Callable[..., object]:
    """Import a module of the allowlist and return its approved callable, ready to be called with the arguments.

    An instance method comes bound to a new instance, made without arguments. `async def` is fine, generators are not.
    Raises NoSuchTargetError with the code `no-such-module`, `no-such-class`, `no-such-method`, `not-a-method` or
    `no-instance`: another attempt would end the same way. What the import or the constructor raises is passed on.
    """
    loaded: object = import_module(module)
    if not issubclass(type(loaded), ModuleType):
        raise NoSuchTargetError(f"{module} puts something else into sys.modules", code="no-such-module")
    names = names_of_module(loaded)
    if owner is None:
        return _function(module, names, method)
    cls = _class(module, names, owner)
    return _bound(f"{module}:{owner}", cls, method)


def _function(module: str, names: dict[str, Any], method: str) -> FunctionType:
    if method not in names:
        raise NoSuchTargetError(f"{module} has no function {method}", code="no-such-method")
    function = _plain(f"{module}.{method}", names[method])
    if function.__module__ != module:
        raise NoSuchTargetError(
            f"{module}.{method} is only imported there, from {function.__module__}",
            hint="name the module that defines it",
            code="no-such-method",
        )
    return function


def _class(module: str, names: dict[str, Any], owner: str) -> type:
    cls = names.get(owner)
    if not issubclass(type(cls), type):  # `isinstance` would believe what the object says its class is
        raise NoSuchTargetError(f"{module} has no class {owner}", code="no-such-class")
    home = _module_of(cls)
    if type(home) is not str or home != module:
        raise NoSuchTargetError(
            f"{module}.{owner} is only imported there, from {home}",
            hint="name the module that defines it",
            code="no-such-class",
        )
    return cast("type", cls)


def _bound(label: str, cls: type, method: str) -> Callable[..., object]:
    name = f"{label}.{method}"
    found = _look_up(label, cls, method)
    if type(found) is staticmethod:
        return _plain(name, found.__func__)
    if type(found) is classmethod:
        return MethodType(_with_first(name, _plain(name, found.__func__)), cls)
    function = _with_first(name, _plain(name, found))
    return MethodType(function, _instance(label, cls))


def _look_up(label: str, cls: type, method: str) -> object:
    """Return the attribute of the first class in the real MRO that has this name, unbound.

    Classes of Python itself are left out: whoever approved a class of their own did not approve the methods of
    `object`, `dict` or `Thread`.
    """
    for step in _mro_of(cls):
        names = _names_of(step)
        if method in names:
            if _is_standard(_module_of(step)):
                break
            return names[method]
    raise NoSuchTargetError(f"{label} has no method {method} of its own", code="no-such-method")


def _is_standard(module: object) -> bool:
    return not isinstance(module, str) or module.partition(".")[0] in sys.stdlib_module_names


def never_run(name: str, kind: str = "generator") -> NoSuchTargetError:
    """Return the refusal of a callable whose result would run later, as a generator does."""
    if "generator" in kind.lower():
        what, hint = "is a generator", "return a value instead of yielding some"
    else:
        what, hint = f"returns an object of type {kind}", "return what comes of it"
    return NoSuchTargetError(f"{name} {what}: it would be called, and never run", hint=hint, code="not-a-method")


def full_name(module: str, owner: str | None, method: str) -> str:
    """Return the name of a callable as messages give it."""
    return f"{module}.{method}" if owner is None else f"{module}:{owner}.{method}"


def _plain(name: str, found: object) -> FunctionType:
    if type(found) is not FunctionType:
        raise NoSuchTargetError(f"{name} is a {type(found).__name__}, not a plain function", code="not-a-method")
    if found.__code__.co_flags & GENERATOR:
        raise never_run(name)
    return found


def _with_first(name: str, function: FunctionType) -> FunctionType:
    takes_any = function.__code__.co_flags & inspect.CO_VARARGS
    if not function.__code__.co_argcount and not takes_any:
        raise NoSuchTargetError(f"{name} takes no self", code="not-a-method")
    return function


def _instance(label: str, cls: type) -> object:
    """Make an instance. Refuses a class that needs arguments; an exception of the constructor is passed on."""
    if _flags_of(cls) & ABSTRACT:
        raise NoSuchTargetError(f"{label} is abstract: it has methods without a body", code="no-instance")
    for maker in ("__new__", "__init__"):
        found = _first(cls, maker)
        function = found.__func__ if type(found) is staticmethod else found
        lacking = _lacking(function) if type(function) is FunctionType else []
        if lacking and _first(type(cls), "__call__") is type.__call__:  # otherwise the metaclass may add arguments
            raise NoSuchTargetError(
                f"{label} cannot be made without arguments: {maker} needs {', '.join(lacking)}",
                hint="give them defaults",
                code="no-instance",
            )
    return cls()


def _first(cls: type, name: str) -> object:
    return next((_names_of(step)[name] for step in _mro_of(cls) if name in _names_of(step)), None)


def _lacking(function: FunctionType) -> list[str]:
    """Return the names of the parameters, after the first, that have no default."""
    code, defaults = function.__code__, function.__defaults__ or ()
    by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    lacking = code.co_varnames[1 : max(1, code.co_argcount - len(defaults))]
    return [*lacking, *(name for name in by_name if name not in (function.__kwdefaults__ or {}))]
