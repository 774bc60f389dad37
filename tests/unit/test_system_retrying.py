"""What Windows refuses while a scanner or a reader has the file open is tried again, for two seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bgjobs.system.retrying import OPEN_ELSEWHERE, PAUSES, luck, retry

if TYPE_CHECKING:
    from collections.abc import Callable


class RefusedByWindowsError(PermissionError):
    """The error that Windows gives, on any system."""

    def __init__(self, code: int) -> None:
        super().__init__(13, "the file is in use")
        self.winerror = code


def fails(times: int, error: OSError) -> Callable[[], None]:
    """Return a step that fails `times` times and then succeeds."""
    left = [error] * times

    def step() -> None:
        if left:
            raise left.pop()

    return step


@pytest.mark.parametrize("code", [5, 32, 33])
@pytest.mark.parametrize("times", [0, 1, len(PAUSES)])
def test_a_file_that_is_held_for_a_while_is_moved_in_the_end(code: int, times: int) -> None:
    slept: list[float] = []
    retry(fails(times, RefusedByWindowsError(code)), sleep=slept.append)
    assert len(slept) == times


@pytest.mark.parametrize("code", [5, 32, 33])
def test_a_file_that_is_held_for_ever_is_given_up_after_two_seconds(code: int) -> None:
    slept: list[float] = []
    with pytest.raises(RefusedByWindowsError):
        retry(fails(1000, RefusedByWindowsError(code)), sleep=slept.append, luck=lambda: 0.5)
    assert 1.5 < sum(slept) < 2.5
    assert 10 <= len(slept) <= 20


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), PermissionError(13, "no"), RefusedByWindowsError(183)])
def test_any_other_refusal_is_final(error: OSError) -> None:
    slept: list[float] = []
    with pytest.raises(type(error)):
        retry(fails(1, error), sleep=slept.append)
    assert slept == []


@pytest.mark.parametrize(("code", "is_tried_again"), [(32, True), (33, True), (5, False)])
def test_opening_is_tried_again_unless_access_is_denied_which_may_be_a_directory(
    code: int, is_tried_again: bool
) -> None:
    slept: list[float] = []
    try:
        retry(fails(1, RefusedByWindowsError(code)), codes=OPEN_ELSEWHERE, sleep=slept.append)
    except RefusedByWindowsError:
        assert not is_tried_again
    assert len(slept) == is_tried_again


def test_what_the_step_returns_is_returned_also_after_a_refusal() -> None:
    refusals = [RefusedByWindowsError(32)]

    def step() -> int:
        if refusals:
            raise refusals.pop()
        return 7

    assert retry(step, sleep=lambda _: None) == 7


def test_two_who_met_once_do_not_meet_for_ever() -> None:
    early: list[float] = []
    late: list[float] = []
    retry(fails(5, RefusedByWindowsError(32)), sleep=early.append, luck=lambda: 0.0)
    retry(fails(5, RefusedByWindowsError(32)), sleep=late.append, luck=lambda: 0.99)
    assert all(one < other for one, other in zip(early, late, strict=True))
    assert len({luck() for _ in range(100)}) > 10
