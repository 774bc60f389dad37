"""When runners are started again after a failure, how long they serve, and when a worker gives up."""

from __future__ import annotations

import pytest

from bgjobs.worker.pool import FIRST_PAUSE_S, LONGEST_PAUSE_S, MOST_FAILED_STARTS, StartFailures, first_lifespans

NOW = 1000.0


@pytest.mark.parametrize(
    ("recycle", "count", "lifespans"),
    [
        (10_000, 1, [10_000]),
        (10_000, 4, [2_500, 5_000, 7_500, 10_000]),
        (3, 3, [1, 2, 3]),
        (1, 4, [1, 1, 1, 1]),
    ],
)
def test_the_first_runners_are_not_all_replaced_at_once(recycle: int, count: int, lifespans: list[int]) -> None:
    assert first_lifespans(recycle, count) == lifespans


def test_a_start_may_be_tried_before_any_has_failed() -> None:
    assert StartFailures().may_start(0.0)


@pytest.mark.parametrize(
    ("failed", "pause_s"),
    [
        (1, FIRST_PAUSE_S),
        (2, 2 * FIRST_PAUSE_S),
        (4, 8 * FIRST_PAUSE_S),
        (20, LONGEST_PAUSE_S),
        (1000, LONGEST_PAUSE_S),
    ],
)
def test_each_start_that_fails_makes_the_next_one_wait_longer(failed: int, pause_s: float) -> None:
    failures = StartFailures()
    for _ in range(failed):
        failures.add(NOW, "no such file")
    assert not failures.may_start(NOW + pause_s - 0.01)
    assert failures.may_start(NOW + pause_s)


def test_a_worker_gives_up_after_five_failures_in_a_row() -> None:
    failures = StartFailures()
    for number in range(1, 2 * MOST_FAILED_STARTS):
        failures.add(NOW)
        assert failures.are_enough is (number >= MOST_FAILED_STARTS)


def test_a_runner_that_is_ready_ends_the_row() -> None:
    failures = StartFailures()
    for _ in range(MOST_FAILED_STARTS):
        failures.add(NOW, "no such file")
    failures.clear()
    assert (failures.count, failures.reason, failures.are_enough) == (0, "", False)
    failures.add(NOW)
    assert failures.may_start(NOW + FIRST_PAUSE_S)


def test_the_reason_is_that_of_the_last_failure() -> None:
    failures = StartFailures()
    failures.add(NOW, "no such file")
    failures.add(NOW)  # this one started, and died
    assert failures.reason == ""
