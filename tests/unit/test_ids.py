"""Job ids: of one shape, unique, and in the order in which they were made."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import ids, system
from bgjobs.ids import ID, LANE, SUFFIX, first_id, id_ms, id_of, id_without_lane, lane_of, new_id

MOMENTS = st.integers(0, 2**44 - 1)  # until the year 2527
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True)
MANY = 1 << ids.COUNT_BITS - 1  # ids of one millisecond have each a count of its own, at least
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


def test_a_millisecond_has_room_for_16_384_ids_in_their_order() -> None:
    for ms in range(1_795_400_000_000, 1_795_400_000_010):
        made = [new_id(ms, lane=lane_of("Mail", "send")) for _ in range(MANY)]
        assert made == sorted(made)
    assert MANY == 16_384


def test_each_millisecond_begins_to_count_at_random() -> None:
    assert len({new_id(ms)[10:13] for ms in range(1_000)}) > 800


MAKER = """
import sys
from bgjobs.ids import lane_of, new_id
lane = lane_of("Mail", "send")
print("ready", flush=True)
sys.stdin.readline()
sys.stdout.write("".join([f"{new_id(lane=lane)}\\n" for _ in range(int(sys.argv[1]))]))
"""


def test_several_processes_at_once_make_unique_ids_each_in_its_order() -> None:
    command = [sys.executable, "-c", MAKER, "20000"]
    environment = system.base_environment(os.environ) | {"PYTHONPATH": str(Path(ids.__file__).parents[1])}
    makers = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    made = [maker.communicate()[0].split() for maker in makers]
    assert all(each == sorted(each) and len(each) == 20_000 for each in made)
    assert len({job_id for each in made for job_id in each}) == 80_000


# Lanes


@given(MOMENTS, NAMES, NAMES)
def test_an_id_tells_the_lane_of_its_class_and_method(ms: int, class_name: str, method: str) -> None:
    lane = lane_of(class_name, method)
    for job_id in (new_id(lane=lane), new_id(ms, lane=lane), id_of(ms, b"content", lane=lane)):
        assert ID.fullmatch(job_id)
        assert job_id[LANE] == lane
    assert id_ms(new_id(ms, lane=lane)) == ms


@pytest.mark.parametrize(
    ("class_name", "method", "lane"),
    [("Mail", "send", "e2k6h"), ("Mail", "sendx", "6ws63"), ("Mails", "end", "d22h6"), ("Work", "note", "2jj8p")],
)
def test_a_lane_never_changes(class_name: str, method: str, lane: str) -> None:
    # Names of files that are there already have it.
    assert lane_of(class_name, method) == lane


@given(st.sets(st.tuples(NAMES, NAMES), min_size=2, max_size=20))
def test_other_pairs_have_other_lanes(pairs: set[tuple[str, str]]) -> None:
    assert len({lane_of(*pair) for pair in pairs}) == len(pairs)  # but for one in 33 million


def test_ids_of_several_lanes_sort_in_the_order_in_which_they_were_made() -> None:
    lanes = [lane_of("Mail", method) for method in ("send", "read", "drop")]
    for made in (
        [new_id(lane=lane) for _ in range(2_000) for lane in lanes],
        [new_id(1_795_400_000_000, lane=lane) for _ in range(2_000) for lane in lanes],
    ):
        assert made == sorted(made)


def test_what_has_no_lane_has_chance_in_its_place() -> None:
    assert len({new_id()[LANE] for _ in range(1_000)}) > 990


def test_two_processes_with_the_same_clock_make_different_ids_in_one_lane() -> None:
    lane = lane_of("Mail", "send")
    made = {new_id(ms, lane=lane) for _ in range(1_000) for ms in (1, 2)}
    assert len(made) == 2_000


def test_the_first_id_of_a_millisecond_sorts_before_all_others_of_it() -> None:
    assert all(first_id(ms) <= new_id(ms, lane="00000") < first_id(ms + 1) for ms in range(1_000))


def test_the_id_of_a_content_is_always_the_same_and_no_other_contents() -> None:
    lane = lane_of("Mail", "send")
    made = {id_of(ms, str(n).encode(), lane=lane) for ms in (1, 2) for n in range(500) for _ in range(2)}
    assert len(made) == 1_000
    assert {id_ms(job_id) for job_id in made} == {1, 2}


def test_the_id_that_a_content_had_before_there_were_lanes_is_still_known() -> None:
    assert id_without_lane(1_795_400_000_000, b"content") == "01m832vrg0xnr05d1sx6p88qs2"


def test_the_hash_of_a_content_is_in_the_letters_beside_the_lane() -> None:
    one, other = (id_of(1, content, lane="00000") for content in (b"one", b"other"))
    assert one[10:13] != other[10:13]
    assert one[18:] != other[18:]
    assert one[:10] == other[:10]


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
