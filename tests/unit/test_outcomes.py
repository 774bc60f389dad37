"""How an attempt ended, from what its method raised: alone, in a group, in a group within a group."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from bgjobs import lifecycle
from bgjobs.job import Job, Raised, State
from bgjobs.job_context import CurrentJob, Fail, Retry
from bgjobs.lifecycle import Policy
from bgjobs.worker import protocol
from bgjobs.worker.child import outcome
from bgjobs.worker.child.attempt_secrets import AttemptSecrets
from bgjobs.worker.protocol import LONGEST_WAIT, Limits, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Progress

NOW = datetime(2026, 11, 30, tzinfo=UTC)
RUN = Run("x", 1, 3, "Odd", "run", "odd", None, (), {})
ANY = Policy()


def ending(error: BaseException) -> Raised:
    found = outcome.raised(error, AttemptSecrets(RUN))
    said = protocol.encoded(protocol.Ended("x", 1, 0.1, found))
    heard = protocol.decoded(said[:-1])
    assert isinstance(heard, protocol.Ended)
    assert heard.outcome == found
    return found


def after(error: BaseException, policy: Policy = ANY) -> Job:
    job = Job(
        id="0" * 26,
        class_name="Odd",
        method="run",
        priority=5,
        not_before=NOW,
        submitted_at=NOW,
        retries=policy.retries,
    )
    begun = lifecycle.started(job, worker="w", at=NOW)
    return lifecycle.applied(begun, lifecycle.after(begun, ending(error), policy, NOW, 0.5), NOW)


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


PICKY = Policy(fail_on=("ValueError",), retry_on=("TimeoutError", "odd.Busy"))


@pytest.mark.parametrize(
    ("error", "policy", "is_tried_again"),
    [
        (group(Fail("no")), ANY, False),
        (group(KeyError(), group(group(Fail("no")))), ANY, False),
        (group(Retry(), Fail("no")), ANY, False),
        (BaseExceptionGroup("", [KeyboardInterrupt(), Fail("no")]), ANY, False),
        (group(KeyError()), ANY, True),
        (group(KeyError()), PICKY, False),
        (group(ConnectionError(), TimeoutError()), PICKY, True),
        (group(group(TimeoutError()), UnicodeError()), PICKY, False),  # a subclass of ValueError
        (group(Retry()), PICKY, True),
        (group(Retry(), KeyError()), PICKY, True),
        (group(Retry(), group(ValueError())), PICKY, False),
        (group(TimeoutError()), Policy(retry_on=("ExceptionGroup",)), True),
        (group(TimeoutError()), Policy(fail_on=("ExceptionGroup",)), False),
        (Retry(), Policy(fail_on=("bgjobs.job_context.Retry",)), True),
        (group(Retry()), Policy(fail_on=("ExceptionGroup",)), True),
    ],
)
def test_a_group_of_exceptions_counts_as_what_it_holds(
    error: BaseException, policy: Policy, is_tried_again: bool
) -> None:
    assert (after(error, policy).state is not State.FAILED) == is_tried_again


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (group(Retry(delay=60)), timedelta(seconds=60)),
        (group(Retry(), Retry(delay=1), group(Retry(delay=90))), timedelta(seconds=90)),
        (group(Retry(), Retry()), None),
        (group(Retry(delay=timedelta(days=9999))), LONGEST_WAIT),
    ],
)
def test_the_longest_delay_in_a_group_counts(error: BaseException, wait: timedelta | None) -> None:
    assert ending(error).retry_in == wait


def test_the_error_is_the_leading_one_and_names_its_group() -> None:
    found = ending(group(KeyError("gone"), group(Fail("no such month")))).error
    assert found.type == "bgjobs.job_context.Fail"
    assert found.message.startswith("no such month (in ExceptionGroup: several")
    assert ending(group(KeyError("gone"), OSError())).error.type == "KeyError"


def test_a_group_with_very_many_members_is_still_one_message() -> None:
    broad = group(*(ValueError(f"number {number} " + "x" * 1000) for number in range(3000)))
    deep: Exception = Fail("at the bottom")
    for _ in range(3000):
        deep = group(deep)
    assert len(protocol.encoded(protocol.Ended("x", 1, 0.1, ending(broad)))) < 200_000
    assert ending(deep).final


def test_the_limit_of_memory_is_found_in_a_group() -> None:
    error = group(KeyError(), MemoryError())
    named = outcome.with_limit(ending(error), error, Limits(memory=1000))
    assert isinstance(named, Raised)
    assert "max_memory is 1000 bytes" in named.error.message
    assert "MemoryError" in named.lineage


# Progress


class Whole:
    def __index__(self) -> int:
        return 7


class Bare:
    def __float__(self) -> float:
        return 2.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, 1),
        (1.5, 1.5),
        (True, 1),
        (-3, -3),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 2), 0.5),
        (Whole(), 7),
        (Bare(), 2.5),
    ],
)
def test_any_finite_number_will_do_for_progress(given: float, expected: float) -> None:
    said: list[Progress] = []
    CurrentJob("x", attempt=1, retries=0, report=said.append).progress(given, given, None)
    assert (said[0].done, said[0].total, said[0].message) == (expected, expected, "")
    assert type(said[0].done) in {int, float}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (lambda: "1.5", TypeError),
        (lambda: None, TypeError),
        (lambda: 1j, TypeError),
        (lambda: [1], TypeError),
        (lambda: float("nan"), ValueError),
        (lambda: float("-inf"), ValueError),
        (lambda: Decimal("sNaN"), ValueError),
        (lambda: Decimal("1e999"), ValueError),
        (lambda: 10**400, ValueError),
    ],
)
def test_what_is_no_finite_number_is_refused(given: Callable[[], float], error: type[Exception]) -> None:
    said: list[Progress] = []
    with pytest.raises(error, match="progress: done "):
        CurrentJob("x", attempt=1, retries=0, report=said.append).progress(given())
    assert said == []
