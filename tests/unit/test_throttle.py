"""A costly step runs for a share of the time, and each subject is reported once."""

from __future__ import annotations

import pytest

from bgjobs.throttle import Once, Throttle


def test_the_first_run_is_due_at_once() -> None:
    assert Throttle(100, least_s=5).is_due(0.0)


@pytest.mark.parametrize(
    ("throttle", "cost_s", "pause_s"),
    [
        (Throttle(100), 0.5, 50.0),
        (Throttle(100), 0.0, 0.0),
        (Throttle(100, least_s=1), 0.001, 1.0),
        (Throttle(100, least_s=1, most_s=30), 10.0, 30.0),
        (Throttle(0, least_s=2), 10.0, 2.0),
    ],
)
def test_the_pause_is_so_many_times_the_cost_within_bounds(throttle: Throttle, cost_s: float, pause_s: float) -> None:
    assert throttle.pause_s(cost_s) == pause_s
    throttle.ran(1000.0, cost_s)
    assert throttle.next_at == 1000.0 + pause_s
    assert throttle.is_due(1000.0 + pause_s)
    assert throttle.is_due(1000.0) is (pause_s == 0.0)


def test_a_subject_is_reported_once() -> None:
    once = Once()
    assert [once.first(subject) for subject in ("a", "b", "a", ("a", 1), ("a", 1))] == [True, True, False, True, False]
    assert len(once) == 3


def test_a_subject_that_was_forgotten_is_reported_again() -> None:
    once = Once()
    once.forget("never seen")
    assert once.first("a")
    once.forget("a")
    assert once.first("a")


def test_only_so_many_subjects_are_reported() -> None:
    once = Once(2)
    assert [once.first(number) for number in range(4)] == [True, True, False, False]
    once.forget(0)
    assert once.first(9)
