"""What a method returned becomes JSON: what is kept, what is lost and said, and what has not run yet."""

from __future__ import annotations

import array
import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import enum
import fractions
import itertools
import json
import types
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs.job import Succeeded
from bgjobs.worker import protocol
from bgjobs.worker.child import outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class Text(str):
    __slots__ = ()


class Amount(float):
    pass


class Count(int):
    pass


class Bits(bytes):
    pass


class Moment(datetime):
    pass


class Length(timedelta):
    pass


class Price(Decimal):
    pass


class Level(enum.IntEnum):
    HIGH = 8


class Colour(enum.StrEnum):
    RED = "red"


class Ratio(enum.Enum):
    HALF = 0.5


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    name: str
    price: float


class Record(msgspec.Struct):
    name: str


class Scalar:
    """A number as numpy makes one: no subclass of any that Python has."""

    def __init__(self, value: object) -> None:
        self.value = value

    def tolist(self) -> object:
        return self.value


class Index:
    def __index__(self) -> int:
        return 7


class Measured:
    def __float__(self) -> float:
        return 2.5


KEPT: dict[str, tuple[object, object]] = {
    "a subclass of str": (Text("x"), "x"),
    "a subclass of float": (Amount(1.5), 1.5),
    "a subclass of int": (Count(3), 3),
    "a subclass of bytes": (Bits(b"x"), "eA=="),
    "a subclass of datetime": (Moment(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    "a subclass of timedelta": (Length(days=1), "P1D"),
    "a subclass of Decimal": (Price("1.50"), "1.50"),
    "an IntEnum": (Level.HIGH, 8),
    "a StrEnum": (Colour.RED, "red"),
    "an Enum of numbers": (Ratio.HALF, 0.5),
    "a named tuple": (Point(1, 2), [1, 2]),
    "a defaultdict": (collections.defaultdict(Count, a=Count(1)), {"a": 1}),
    "a Counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "an OrderedDict": (collections.OrderedDict(a=Text("x")), {"a": "x"}),
    "a deque": (collections.deque([1, Amount(2.5)]), [1, 2.5]),
    "a ChainMap": (collections.ChainMap({"a": 1}), {"a": 1}),
    "a UserDict": (collections.UserDict(a=1), {"a": 1}),
    "a UserList": (collections.UserList([1]), [1]),
    "a UserString": (collections.UserString("x"), "x"),
    "a mapping proxy": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "a range": (range(3), [0, 1, 2]),
    "the keys of a dictionary": ({"a": 1}.keys(), ["a"]),
    "the values of a dictionary": ({"a": 1}.values(), [1]),
    "the items of a dictionary": ({"a": 1}.items(), [["a", 1]]),
    "an array": (array.array("d", [1.5]), [1.5]),
    "a set of subclasses": ({Text("x")}, ["x"]),
    "keys of a subclass of int": ({Count(3): 1}, {"3": 1}),
    "keys that are None and bool": ({None: 1, True: 2}, {"null": 1, "true": 2}),
    "keys that are dates": ({date(2026, 1, 2): Count(1)}, {"2026-01-02": 1}),
    "a path": (PurePosixPath("/a/b"), "/a/b"),
    "a fraction": (fractions.Fraction(1, 4), 0.25),
    "a dataclass with a subclass": (Order(Text("x"), Amount(1)), {"name": "x", "price": 1}),
    "a struct with a subclass": (Record(Text("x")), {"name": "x"}),
    "deep inside": ([{"a": (Text("x"), {"b": Amount(1)})}], [{"a": ["x", {"b": 1}]}]),
    "a number of a library": ([Scalar(1.5), Scalar(True)], [1.5, True]),
    "an array of a library": (Scalar([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "what has __index__": (Index(), 7),
    "what has __float__": (Measured(), 2.5),
    "plain values": ({"a": [1, 1.5, "x", True, None, b"x"]}, {"a": [1, 1.5, "x", True, None, "eA=="]}),
    "dates and ids": ([time(9), UUID(int=1), Decimal("1.5")], ["09:00:00", str(UUID(int=1)), "1.5"]),
}


@pytest.mark.parametrize(("value", "expected"), KEPT.values(), ids=KEPT.keys())
def test_a_result_is_kept_as_the_json_that_it_stands_for(value: object, expected: object) -> None:
    data, note = outcome.encoded(value)
    assert (json.loads(data), note) == (expected, "")


ONCE = "NaN, an infinity or a number out of range became null (1 time)"
LOST: dict[str, tuple[object, object, str]] = {
    "NaN": (float("nan"), None, ONCE),
    "infinity": ([1, float("inf")], [1, None], ONCE),
    "NaN of a subclass": ({"a": Amount("nan")}, {"a": None}, ONCE),
    "NaN of a library": ([Scalar(float("nan"))], [None], ONCE),
    "NaN in a dataclass": (Order("x", float("nan")), {"name": "x", "price": None}, ONCE),
    "NaN beside null": ([None, float("-inf"), float("nan")], [None] * 3, ONCE.replace("1 time", "2 times")),
    "a number out of range": ([10**5000], [None], ONCE),
}


@pytest.mark.parametrize(("value", "expected", "note"), LOST.values(), ids=LOST.keys())
def test_what_json_does_not_have_is_replaced_and_said(value: object, expected: object, note: str) -> None:
    data, said = outcome.encoded(value)
    assert (json.loads(data), said) == (expected, note)


class Hostile:
    def __float__(self) -> float:
        raise KeyError("no")


class Broken(collections.UserDict[str, int]):
    def items(self) -> Any:
        raise KeyError("no")


def deep(levels: int) -> object:
    found: object = 1
    for _ in range(levels):
        found = [found]
    return found


def circle() -> object:
    found: list[object] = []
    found.append(found)
    return found


DROPPED: dict[str, tuple[Callable[[], object], str]] = {
    "an object": (object, "not JSON: it holds a value of type object"),
    "an object within a list": (lambda: [object()], "not JSON: it holds a value of type object"),
    "a complex number": (lambda: 1j, "not JSON: it holds a value of type complex"),
    "a class": (lambda: Order, "not JSON: it holds a value of type type"),
    "a function": (lambda: deep, "not JSON: it holds a value of type function"),
    "half a pair": (lambda: ["a\ud800"], "not JSON: it holds a text that is no Unicode"),
    "half a pair in a key": (lambda: {"\udcff": 1}, "not JSON: it holds a text that is no Unicode"),
    "a key that is a tuple": (lambda: {(1, 2): 3}, "a key is a tuple"),
    "two keys that become one": (lambda: {Count(1): 1, "1": 2}, "two keys are the same in JSON"),
    "too deep": (lambda: deep(200), "nested deeper than 100"),
    "far too deep, with a subclass": (lambda: [deep(100_000), Text("x")], "nested deeper than 100"),
    "a circle": (circle, "nested deeper than 100"),
    "too long": (lambda: "x" * 2**20, f"{2**20 + 2} bytes, more than {2**20}"),
    "a range without end": (lambda: range(10**12), f"{10**12} values, more than {2**20} bytes"),
    "JSON that is none": (lambda: msgspec.Raw(b"{]"), "not JSON"),
    "JSON with a line of its own": (lambda: [msgspec.Raw(b'1\n{"type":"Ready"}')], "not JSON"),
    "a number that raises": (Hostile, "not JSON"),
    "a mapping that raises": (Broken, "not JSON"),
}


@pytest.mark.parametrize(("make", "why"), DROPPED.values(), ids=DROPPED.keys())
def test_what_json_cannot_hold_is_dropped_and_said(make: Callable[[], object], why: str) -> None:
    with pytest.raises(outcome.NotJSONError) as caught:
        outcome.encoded(make())
    assert str(caught.value).startswith(why)


def steps() -> Iterator[int]:
    yield 1


async def later() -> int:
    return 1


async def later_steps() -> AsyncIterator[int]:
    yield 1


@contextlib.contextmanager
def managed() -> Iterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def managed_later() -> AsyncIterator[int]:
    yield 1


@types.coroutine
def old_coroutine() -> Iterator[int]:
    yield 1


class Promise:
    def __await__(self) -> Iterator[int]:
        yield 1


LOOP = asyncio.new_event_loop()
LOOP.close()
NOT_RUN: dict[str, Callable[[], object]] = {
    "a generator": steps,
    "an asynchronous generator": later_steps,
    "a coroutine": later,
    "a coroutine made of a generator": old_coroutine,
    "an awaitable": Promise,
    "a generator expression": lambda: (number for number in [1]),
    "map": lambda: map(str, [1]),
    "filter": lambda: filter(None, [1]),
    "zip": lambda: zip([1], [2], strict=True),
    "itertools": lambda: itertools.starmap(str, [(1,)]),
    "a future of a thread": concurrent.futures.Future,
    "a future of asyncio": lambda: asyncio.Future(loop=LOOP),
    "a context manager": managed,
    "an asynchronous context manager": managed_later,
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("within", [lambda value: value, lambda value: {"a": [1, value]}], ids=["alone", "within"])
@pytest.mark.parametrize("make", NOT_RUN.values(), ids=NOT_RUN.keys())
def test_what_has_not_run_yet_is_no_result(make: Callable[[], object], within: Callable[[object], object]) -> None:
    with pytest.raises(outcome.NotRunError):
        outcome.encoded(within(make()))


@pytest.mark.parametrize("value", [*(given for given, _ in KEPT.values()), iter([1]), reversed([1]), open, object()])
def test_a_value_is_not_taken_for_something_that_runs_later(value: object) -> None:
    assert not outcome.not_run(value)


@pytest.mark.parametrize(
    "value", [{1: "a", "1": "b"}, [{"x": {None: 1, "null": 2}}], {True: 1, "true": 2}, {1.5: 1, "1.5": 2}]
)
def test_keys_that_would_become_one_are_told_of(value: object) -> None:
    with pytest.raises(outcome.NotJSONError, match="two keys are the same in JSON"):
        outcome.encoded(value)


def test_json_that_a_method_has_made_may_be_written_in_any_way() -> None:
    assert json.loads(outcome.encoded(msgspec.Raw(b'{"a" : 1.50, "b":"\\u0041"}'))[0]) == {"a": 1.5, "b": "A"}


def test_a_future_that_has_its_result_has_run() -> None:
    loop = asyncio.new_event_loop()
    futures: list[Any] = [loop.create_future(), concurrent.futures.Future(), loop.create_task(asyncio.sleep(0, 5))]
    loop.run_until_complete(futures[-1])
    loop.close()
    for future in futures[:-1]:
        future.set_result(5)
    for future in futures:
        with pytest.raises(outcome.NotJSONError):
            outcome.encoded([future])
        assert not outcome.not_run(future)


def test_a_future_that_was_cancelled_has_not_run() -> None:
    loop = asyncio.new_event_loop()
    futures: list[Any] = [loop.create_future(), concurrent.futures.Future()]
    loop.close()
    for future in futures:
        future.cancel()
        assert outcome.not_run(future) == "Future"


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**60).map(lambda number: number**30),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.decimals(),
    st.floats().map(Amount),
    st.text(st.characters(exclude_categories=())).map(Text),
    st.integers().map(Count),
    st.datetimes(),
    st.fractions(),
    st.complex_numbers(),
    st.binary(max_size=8).map(msgspec.Raw),
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.lists(inner).map(collections.deque),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.integers().map(Count)), inner),
    ),
    max_leaves=20,
)


@given(anything)
def test_whatever_comes_back_a_worker_can_read_what_its_runner_says_of_it(value: object) -> None:
    try:
        data, note = outcome.encoded(value)
    except outcome.NotJSONError:
        return
    success = Succeeded(msgspec.Raw(data), note)
    said = protocol.encoded(protocol.Ended("x", 1, 0.1, success))
    assert said.count(b"\n") == 1
    assert protocol.decoded(said[:-1]) == protocol.Ended("x", 1, 0.1, success)
    msgspec.json.decode(data)
