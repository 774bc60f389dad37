"""Secret arguments are hidden, and only those."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs.secrets import ALL, MASK, masked

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
