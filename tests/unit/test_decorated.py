"""Decorated methods: whether a call fits is for the function that is called to say; those below lend annotations."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.calls.binding import convert, hidden
from bgjobs.calls.masking import ALL
from bgjobs.calls.resolve import resolve
from bgjobs.calls.signatures import Unreadable, read
from bgjobs.errors import BadArgumentsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = '''
import contextlib
import functools
import inspect
import types
from dataclasses import dataclass
from datetime import date


@dataclass
class Point:
    x: int


def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def passing_self(function):
    @functools.wraps(function)
    def wrapper(self, *args, **kwargs):
        print("before", *args)
        try:
            return function(self, *args, **kwargs)
        finally:
            print("after", function, *args)

    return wrapper


def session(function):
    @functools.wraps(function)
    def wrapper(self, *a, **k):
        return function(self, "SESSION", *a, **k)

    return wrapper


def session_first(function):
    @functools.wraps(function)
    def wrapper(*a, **k):
        return function("SESSION", *a, **k)

    return wrapper


def session_by_name(function):
    @functools.wraps(function)
    def wrapper(self, *a, **k):
        return function(self, *a, session="SESSION", **k)

    return wrapper


def session_behind_a_name(function):
    @functools.wraps(function)
    def wrapper(self, number, *a, **k):
        return function(self, "SESSION", number, *a, **k)

    return wrapper


def session_unreadable(function):
    namespace = {"function": function}
    exec("def wrapper(self, *a, **k): return function(self, 'SESSION', *a, **k)", namespace)
    return functools.wraps(function)(namespace["wrapper"])


def passing_unreadable(function):
    namespace = {"function": function}
    exec("def wrapper(*a, **k): return function(*a, **k)", namespace)
    return functools.wraps(function)(namespace["wrapper"])


def dropping(function):
    @functools.wraps(function)
    def wrapper(self, *a, **k):
        return function(self, *a[1:], **k)

    return wrapper


def rebinding(function):
    @functools.wraps(function)
    def wrapper(self, *a, **k):
        a = ("SESSION", *a)
        return function(self, *a, **k)

    return wrapper


def strict(function):
    @functools.wraps(function)
    def wrapper(self, number):
        return function(self, number, "x")

    return wrapper


def bare(function):
    def wrapper(self, *a, **k):
        return function(self, *a, **k)

    return wrapper


def declaring(function):
    """What decorators do that take an argument away and say so."""
    @functools.wraps(function)
    def wrapper(*a, **k):
        return function(a[0], "SESSION", *a[1:], **k)

    parts = list(inspect.signature(function).parameters.values())
    wrapper.__signature__ = inspect.Signature([parts[0], *parts[2:]])
    return wrapper


def retrying(function):
    """What libraries do that call the function from afar."""
    class Caller:
        def __call__(self, called, *args, **kwargs):
            return called(*args, **kwargs)

    caller = Caller()

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return caller(function, *args, **kwargs)

    return wrapper


def asynchronous(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return await function(*args, **kwargs)

    return wrapper


def circular(function):
    def wrapper(self, *a, **k):
        return function(self, *a, **k)

    wrapper.__wrapped__ = wrapper
    return wrapper


class Within(contextlib.ContextDecorator):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Jobs:
    @passing
    def passed(self, number: int, day: date = None): return number, day
    @passing_self
    def passed_self(self, number: int): return number
    @Within()
    def within(self, number: int): return number
    @retrying
    def retried(self, number: int): return number
    @passing_unreadable
    def passed_unreadable(self, number: int): return number
    @session
    def handed(self, session, number: int, day: date = None): return session, number, day
    @session_first
    @staticmethod
    def handed_first(session, self, number: int): return session, number
    @session_by_name
    def handed_by_name(self, number: int, *, session): return session, number
    @session_behind_a_name
    def handed_behind(self, session, number: int, day: date = None): return session, number, day
    @session_unreadable
    def handed_unreadable(self, session: int, number: int): return session, number
    @session_unreadable
    def handed_default(self, session: int = 0, name: str = ""): return session, name
    @rebinding
    def rebound(self, session, number: int): return session, number
    @dropping
    def dropped(self, number: int): return number
    @strict
    def fewer(self, number: int, other): return number, other
    @bare
    def barely(self, number: int): return number
    @declaring
    def declared(self, session, number: int): return session, number
    @passing
    @declaring
    def declared_below(self, session, number: int): return session, number
    @passing
    @session
    @passing_self
    def stacked(self, session, number: int, day: date = None): return session, number, day
    @passing
    def args_named(self, args: int, kwargs: int = 0): return args, kwargs
    @passing
    def a_dataclass(self, point: Point): return point.x
    @asynchronous
    async def later(self, number: int): return number
    @circular
    def round(self, number: int): return number
    @staticmethod
    @passing
    def static(number: int): return number
    @classmethod
    @session
    def of_class(cls, session, number: int): return cls.__name__, session, number
    @passing
    def variadic(self, first: int, *others: int, **named: int): return first, others, named
    @session
    def secret(self, session, card, name): return session, card, name
    @session_unreadable
    def secret_unreadable(self, session, card, name): return session, card, name


@passing
def function(number: int): return number


@functools.singledispatch
def dispatched(number: int): return number
'''
FUNCTIONS = ("function", "dispatched")


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[..., object]]:
    (tmp_path / "decorating.py").write_text(dedent(SOURCE), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "decorating", raising=False)
    return lambda name: resolve("decorating", None if name in FUNCTIONS else "Jobs", name)


def said(call: Callable[..., object], *args: str, **kwargs: str) -> Any:
    """Call it with these texts, as a runner does."""
    places, names = convert(call, args, kwargs, text=True)
    return call(*places, **names)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "expected"),
    [
        ("passed", ["5"], {}, "(5, None)"),
        ("passed", ["5", "2026-12-01"], {}, "(5, datetime.date(2026, 12, 1))"),
        ("passed", [], {"day": "2026-12-01", "number": "5"}, "(5, datetime.date(2026, 12, 1))"),
        ("passed_self", ["5"], {}, "5"),
        ("within", ["5"], {}, "5"),
        ("retried", ["5"], {}, "5"),
        ("passed_unreadable", ["5"], {}, "5"),
        ("passed_unreadable", ["five"], {}, "'five'"),  # nobody knows whether it is the number
        ("handed", ["5"], {}, "('SESSION', 5, None)"),
        ("handed", ["5", "2026-12-01"], {}, "('SESSION', 5, datetime.date(2026, 12, 1))"),
        ("handed", [], {"number": "5"}, "('SESSION', 5, None)"),
        ("handed_by_name", ["5"], {}, "('SESSION', 5)"),
        ("handed_behind", ["5", "2026-12-01"], {}, "('SESSION', 5, datetime.date(2026, 12, 1))"),
        ("handed_unreadable", ["5"], {}, "('SESSION', '5')"),  # nothing is certain of its place
        ("handed_unreadable", [], {"number": "5"}, "('SESSION', 5)"),
        ("handed_default", ["Ann"], {}, "('SESSION', 'Ann')"),
        ("rebound", ["5"], {}, "('SESSION', '5')"),
        ("dropped", ["x", "5"], {}, "'5'"),
        ("fewer", ["5"], {}, "(5, 'x')"),
        ("barely", ["5"], {}, "'5'"),
        ("declared", ["5"], {}, "('SESSION', 5)"),
        ("declared_below", ["5"], {}, "('SESSION', 5)"),
        ("stacked", ["5", "2026-12-01"], {}, "('SESSION', 5, datetime.date(2026, 12, 1))"),
        ("args_named", ["1", "2"], {}, "(1, 2)"),
        ("args_named", ["1"], {"kwargs": "2"}, "(1, 2)"),
        ("a_dataclass", ['{"x": 3}'], {}, "3"),
        ("round", ["5"], {}, "'5'"),
        ("static", ["5"], {}, "5"),
        ("of_class", ["5"], {}, "('Jobs', 'SESSION', 5)"),
        ("variadic", ["1", "2", "3"], {"x": "4"}, "(1, (2, 3), {'x': 4})"),
        ("function", ["5"], {}, "5"),
        ("dispatched", ["5"], {}, "5"),
    ],
)
def test_text_becomes_what_the_parameter_says_that_it_reaches(
    find: Callable[[str], Callable[..., object]], name: str, args: list[str], kwargs: dict[str, str], expected: str
) -> None:
    assert repr(said(find(name), *args, **kwargs)) == expected


@pytest.mark.parametrize(
    ("name", "args"),
    [("passed", ["five"]), ("handed", ["five"]), ("stacked", ["5", "soon"]), ("fewer", ["five"]), ("later", ["five"])],
)
def test_text_that_does_not_fit_the_parameter_that_it_reaches_is_refused(
    find: Callable[[str], Callable[..., object]], name: str, args: list[str]
) -> None:
    with pytest.raises(BadArgumentsError, match="does not fit"):
        said(find(name), *args)


@pytest.mark.parametrize(("name", "args"), [("fewer", ["5", "6"]), ("fewer", []), ("handed_behind", [])])
def test_what_the_wrapper_itself_does_not_take_is_refused(
    find: Callable[[str], Callable[..., object]], name: str, args: list[str]
) -> None:
    with pytest.raises(BadArgumentsError):
        said(find(name), *args)


@pytest.mark.parametrize("name", ["passed", "handed", "stacked"])
def test_what_only_the_wrapped_function_does_not_take_is_an_error_of_the_call(
    find: Callable[[str], Callable[..., object]], name: str
) -> None:
    with pytest.raises(TypeError):
        said(find(name), "1", "2026-12-01", "3", "4")


def test_values_that_are_no_text_are_handed_on_as_they_are(find: Callable[[str], Callable[..., object]]) -> None:
    assert convert(find("handed"), [5], {"day": None}, text=False) == ([5], {"day": None})


def test_the_source_alone_does_not_judge_a_call_of_a_decorated_method(tmp_path: Path) -> None:
    (tmp_path / "decorating.py").write_text(dedent(SOURCE), "utf-8")
    for name in ("passed", "handed", "declared", "later", "within"):
        assert isinstance(read("decorating", "Jobs", name, [str(tmp_path)]), Unreadable)


def test_a_secret_argument_is_hidden_at_the_place_where_it_is_given(
    find: Callable[[str], Callable[..., object]],
) -> None:
    secret = frozenset({"card"})
    assert hidden(find("secret"), 2, secret) == {"card", "#0"}
    assert hidden(find("secret_unreadable"), 2, secret) == ALL
    assert hidden(find("handed_behind"), 1, frozenset({"number"})) == {"number", "#0"}
    assert hidden(find("barely"), 1, secret) == secret  # as ever: nothing leads from there to what it wraps
