"""Job ids: of one shape, unique, and in the order in which they were made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs.ids import ID, SUFFIX, id_ms, new_id

MOMENTS = st.integers(0, 2**44 - 1)  # until the year 2527
GOOD = "01k5q3v9zdf4gahbjcmkdnpeqf"


def test_an_id_has_26_lower_case_letters_and_digits() -> None:
    job_id = new_id()
    assert ID.fullmatch(job_id)
    assert job_id == job_id.lower()
    assert len(job_id) == 26


@given(MOMENTS)
def test_an_id_tells_the_millisecond_in_which_it_was_made(ms: int) -> None:
    job_id = new_id(ms)
    assert ID.fullmatch(job_id)
    assert id_ms(job_id) == ms


@given(MOMENTS, MOMENTS)
def test_ids_sort_by_the_millisecond_in_which_they_were_made(one: int, other: int) -> None:
    if one != other:
        assert (new_id(one) < new_id(other)) == (one < other)


def test_ids_of_one_millisecond_sort_in_the_order_in_which_they_were_made() -> None:
    made = [new_id(1_795_400_000_000) for _ in range(5_000)]
    assert made == sorted(made)


def test_ids_of_one_process_sort_in_the_order_in_which_they_were_made() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(made)


def test_ids_made_by_several_threads_at_once_are_unique() -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = pool.map(lambda _: [new_id() for _ in range(2_000)], range(8))
    made = [job_id for batch in batches for job_id in batch]
    assert len(set(made)) == len(made)


def test_two_processes_with_the_same_clock_and_counter_make_different_ids() -> None:
    # A millisecond that differs from the last one starts the counter again, as it does in a new process.
    made = {new_id(ms) for _ in range(1_000) for ms in (1, 2)}
    assert len(made) == 2_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD[:-1],
        GOOD + "0",
        GOOD.upper(),
        "8" + GOOD[1:],  # beyond the 48 bits of time that a ULID has
        "1" + GOOD[1:],  # beyond the year 2527, and so beyond what a file name can hold
        "0g" + GOOD[2:],
        GOOD[:-1] + "i",
        GOOD[:-1] + "l",
        GOOD[:-1] + "o",
        GOOD[:-1] + "u",
        GOOD + "\n",
        "\n" + GOOD[1:],
        "../" + GOOD[3:],
        GOOD[:-2] + "/x",
        GOOD[:-1] + "\0",
        GOOD[:-1] + "\u0663",  # a digit, but not an ASCII one
        GOOD[:-1] + "\u0435",  # a Cyrillic letter that looks like "e"
        "a" * 300,
        "con",
    ],
)
def test_what_is_not_an_id_is_not_taken_for_one(text: str) -> None:
    assert ID.fullmatch(text) is None


@pytest.mark.parametrize("text", ["npeqf", "NPEQF0123", "npeqf 123", "../npeqf12", GOOD + "0", "npeqf012\n"])
def test_what_cannot_end_an_id_is_not_taken_for_an_end_of_one(text: str) -> None:
    assert SUFFIX.fullmatch(text) is None


@pytest.mark.parametrize("length", [8, 9, 25, 26])
def test_the_last_eight_or_more_characters_may_stand_for_an_id(length: int) -> None:
    assert SUFFIX.fullmatch(GOOD[-length:])
