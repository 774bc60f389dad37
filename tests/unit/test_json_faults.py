"""What is wrong with a text is said in our own words: those of the libraries change with their releases."""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import json_faults
from bgjobs.calls import kinds, text_values
from bgjobs.cli import batch_lines, options
from bgjobs.errors import UsageError
from bgjobs.ids import new_id
from bgjobs.lifecycle import Policy
from bgjobs.spool.inbox import request_file
from bgjobs.spool.line1 import CorruptError, Line1

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY = "not JSON: it is empty"
TRUNCATED = "not JSON: truncated, it ends in the middle"
NO_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", EMPTY),
    "blanks": (b" \n", EMPTY),
    "half of an object": (b'{"a":', TRUNCATED),
    "half of a text": (b'["abc', TRUNCATED),
    "half of a text that ends with a backslash": (b'["abc\\', TRUNCATED),
    "half of a word": (b"[tru", TRUNCATED),
    "no UTF-8": (b'"a\xff"', "not UTF-8 at byte 3"),
    "a byte order mark": (b"\xef\xbb\xbf[]", "not JSON: it begins with a byte order mark"),
    "half of a surrogate pair": (b'["\\ud800"]', "not JSON: a text holds half of a surrogate pair"),
    "zeros": (bytes(10), "not JSON at character 1"),
    "zeros behind it": (b"[]\0\0", "not JSON: something follows its end, at character 3"),
    "two of them": (b"[] []", "not JSON: something follows its end, at character 4"),
    "a comma too many": (b"[1,]", "not JSON at character 4"),
    "a comma too many in an object": (b'{"a":1, }', "not JSON at character 9"),
    "the quotes of Python": (b"{'a': 1}", "not JSON at character 2"),
    "a line break in a text": (b'"a\nb"', "not JSON at character 3"),
    "a key twice": (b'{"a":1,"a":2}', "a key is given twice: 'a'"),
    "a key twice within": (b'[{"b":{"":0,"a":1,"\\u0061":2}}]', "a key is given twice: 'a'"),
    "a long key twice": (b'{"%b":1,"%b":2}' % (b"a" * 99, b"a" * 99), f"a key is given twice: '{'a' * 80}'"),
    "NaN": (b"[NaN]", "NaN is not JSON"),
    "an infinity": (b"[-Infinity]", "-Infinity is not JSON"),
    "a number without end": (b"9" * 5000, "a number is out of range"),
    "far too deep": (b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("kind", NO_JSON)
def test_what_is_no_json_is_named(kind: str) -> None:
    data, reason = NO_JSON[kind]
    assert json_faults.of(data, Any) == reason
    with pytest.raises(json_faults.FaultError):
        json_faults.read(data)


CALL = '"class": "Mail", "method": "send"'
READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "--args": (options.from_json, '{"to": %s}'),
    "a line of a batch": (lambda text: batch_lines.parse(text.encode()), f'{{{CALL}, "args": [%s]}}'),
    "a file in incoming/": (
        lambda text: request_file.job_of(text.encode(), new_id(), lambda *_: Policy()),
        f'{{"format": 1, {CALL}, "kwargs": {{"to": %s}}}}',
    ),
    "a text for an object": (lambda text: text_values.value_of(kinds.Container(dict), text), "%s"),
}


@pytest.mark.parametrize("value", ['{"x": 1, "x": 1}', '{"y": [{"x": 1, "z": 2, "\\u0078": 3}]}'])
@pytest.mark.parametrize("what", READERS)
def test_a_key_that_is_given_twice_is_named_wherever_a_text_is_read(what: str, value: str) -> None:
    read, around = READERS[what]
    read(around % '{"x": {"x": 1}}')
    with pytest.raises((UsageError, CorruptError, text_values.MisfitError), match="a key is given twice: 'x'"):
        read(around % value)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Page:
    number: int
    title: str = ""


class Point(NamedTuple):
    x: float
    y: float


class Book(TypedDict):
    pages: list[Page]
    isbn: UUID | None


MISFITS: list[tuple[Any, object, str]] = [
    (int, "5", "it must be a whole number"),
    (int, True, "it must be a whole number"),
    (int, 5.5, "it must be a whole number"),
    (float, "x", "it must be a number"),
    (str, 5, "it must be text"),
    (bool, 1, "it must be true or false"),
    (type(None), 0, "it must be null"),
    (list[int], {}, "it must be a list"),
    (list[str], "x", "it must be a list of texts"),
    (list[int], [1, "x"], "[1] must be a whole number"),
    (set[int], [None], "[0] must be a whole number"),
    (dict[str, int], [], "it must be an object"),
    (dict[str, int], {"a": "x"}, "a value in it must be a whole number"),
    (tuple[int, str], [1], "it must be a list of 2"),
    (tuple[int, str], [1, 2], "[1] must be text"),
    (tuple[int, ...], ["x"], "[0] must be a whole number"),
    (int | None, "x", "it must be a whole number or null"),
    (Literal["a", "b"], "c", "it must be one of a, b"),
    (datetime, 5, "it must be a moment such as 2026-12-01T09:00Z"),
    (Page, [], "it must be an object"),
    (Page, {}, "'number' is missing"),
    (Page, {"number": "one"}, "'number' must be a whole number"),
    (Book, {"pages": [{"number": 1}, {"number": None}], "isbn": None}, "pages[1].number must be a whole number"),
    (Book, {"pages": [], "isbn": 5}, "'isbn' must be a UUID or null"),
    (list[Page], [{"number": 1}, {}], "'number' is missing in [1]"),
    (Line1, {"format": 1, "colour": 2}, "'id' is missing"),
]


@pytest.mark.parametrize(("wanted", "value", "reason"), MISFITS)
def test_what_does_not_fit_is_named_by_its_place_and_what_it_must_be(wanted: Any, value: object, reason: str) -> None:
    data = json.dumps(value)
    with pytest.raises(msgspec.ValidationError):  # or there would be nothing to explain
        msgspec.json.decode(data, type=wanted)
    assert json_faults.of(data, wanted) == reason


@pytest.mark.parametrize("wanted", [Colour, UUID, datetime, Point])
def test_what_cannot_be_explained_is_said_all_the_same(wanted: Any) -> None:
    reason = json_faults.of('"hush-hush"', wanted)
    assert reason
    assert "hush" not in reason


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def words_of_libraries(data: bytes) -> list[str]:
    """Return what the two readers that we use say of it."""
    said = []
    for read in (lambda: msgspec.json.decode(data, type=Line1), lambda: json.loads(data)):
        try:
            read()
        except (msgspec.DecodeError, ValueError) as error:
            said.append(str(error))
    return said


@given(st.binary(max_size=40) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_no_reason_is_that_of_a_library(data: bytes) -> None:
    reason = json_faults.of(data, Line1)
    assert not [words for words in words_of_libraries(data) if words in reason]


@given(ANYTHING | st.fixed_dictionaries({"class": st.just("Mail"), "method": ANYTHING}, optional={"tags": ANYTHING}))
def test_a_line_of_a_batch_is_read_or_refused_with_the_place(value: object) -> None:
    try:
        batch_lines.parse(json.dumps(value).encode())
    except UsageError as error:
        assert error.message != "not a job"  # noqa: PT017 - reading it is as well
