"""Secret arguments are hidden, and only those."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs.calls.masking import ALL, MASK, Secrets, masked

if TYPE_CHECKING:
    from collections.abc import Callable

ARGS = ("4111", "Tony")
KWARGS = {"card_number": "4111", "name": "Tony"}


@pytest.mark.parametrize(
    ("hide", "args", "kwargs"),
    [
        (set(), ["4111", "Tony"], {"card_number": "4111", "name": "Tony"}),
        ({"card_number"}, ["4111", "Tony"], {"card_number": MASK, "name": "Tony"}),
        ({"#0"}, [MASK, "Tony"], {"card_number": "4111", "name": "Tony"}),
        ({"#0", "card_number"}, [MASK, "Tony"], {"card_number": MASK, "name": "Tony"}),
        ({"#7", "other"}, ["4111", "Tony"], {"card_number": "4111", "name": "Tony"}),
        (ALL, [MASK, MASK], {"card_number": MASK, "name": MASK}),
    ],
)
def test_named_arguments_and_places_are_masked(hide: set[str], args: list[Any], kwargs: dict[str, Any]) -> None:
    assert masked(ARGS, KWARGS, frozenset(hide)) == (args, kwargs)


@given(st.lists(st.integers()), st.dictionaries(st.text(), st.integers()))
def test_when_all_is_hidden_only_the_shape_is_left(args: list[int], kwargs: dict[str, int]) -> None:
    assert masked(args, kwargs, ALL) == ([MASK] * len(args), dict.fromkeys(kwargs, MASK))


def test_a_mask_is_made_whatever_the_value_is() -> None:
    secret = {"deep": ["4111"]}
    assert masked([secret], {"card": secret}, frozenset({"#0", "card"})) == ([MASK], {"card": MASK})


def test_the_values_that_were_given_stay_as_they_are() -> None:
    args, kwargs = ["4111"], {"card": "4111"}
    masked(args, kwargs, ALL)
    assert (args, kwargs) == (["4111"], {"card": "4111"})


# Secrets within a text

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=4)
WRITTEN: list[Callable[[str], str]] = [
    str,
    repr,
    ascii,
    json.dumps,
    lambda secret: repr(f'it\'s "{secret}"'),
    lambda secret: json.dumps(f"say {secret!r}"),
    lambda secret: repr([{"key": secret}, 1]),
    lambda secret: f"before {secret} after",
]


@given(NAMES, st.sampled_from(WRITTEN))
def test_a_secret_text_is_found_however_it_is_written(secret: str, write: Callable[[str], str]) -> None:
    told = Secrets([secret]).mask(write(f"XYZ{secret}XYZ"))
    assert _unquoted(told) == _unquoted(write("XYZ***XYZ"))


def _unquoted(text: str) -> str:
    """Leave out what depends on the quotes that are in the secret."""
    return text.translate(dict.fromkeys(map(ord, "'\"\\")))


@given(st.recursive(NAMES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_what_lies_within_a_secret_is_secret(secret: object) -> None:
    for text in _texts_in(secret):
        assert text not in Secrets([secret]).mask(f"<{text}>")


def _texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in _texts_in(part)]


@pytest.mark.parametrize(
    ("secret", "text", "told"),
    [
        ("abc", "abc", "abc"),
        ("abcd", "xabcdx", "x***x"),
        (123, "123", "123"),
        (1234, "is 1234.", "is ***."),
        (12.25, "12.25", "***"),
        (-1000, "-1000", "***"),
        (True, "True", "True"),
        (None, "None", "None"),
        (Path("/home/ann"), "PosixPath('/home/ann')", "***"),
        (Decimal("10.50"), "Decimal('10.50') is 10.50", "*** is ***"),
        (date(2026, 11, 23), "on 2026-11-23", "on ***"),
        ("line one\nline two", "  | line one\n  | line two", "  | ***\n  | ***"),
        ("  indented", "indented", "***"),
        ("0123456789abcdefghij", "'0123456789abcdefg...", "'***..."),
        (["first", {"second": "third"}], "first second third", "*** second ***"),
    ],
)
def test_what_is_found_of_a_secret(secret: object, text: str, told: str) -> None:
    if isinstance(secret, Path):
        text = repr(secret)
    assert Secrets([secret]).mask(text) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1234, MASK),
        (12340.5, MASK),
        ("pin 1234", "pin ***"),
        ([1234, True, None, 12], [MASK, True, None, 12]),
        ({"1234": {"deep": 1234}}, {"***": {"deep": MASK}}),
    ],
)
def test_json_keeps_its_shape(value: object, told: object) -> None:
    assert Secrets([1234]).mask_json(value) == told


def test_an_object_that_cannot_be_written_is_no_reason_to_fail() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    assert Secrets([Mute(), "abcd"]).mask("abcd") == MASK
