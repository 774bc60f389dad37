"""When a worker stops by itself, and what a first, a second and a third request to stop do."""

from __future__ import annotations

import pytest

from bgjobs.store import Unfinished
from bgjobs.worker.options import WorkerOptions
from bgjobs.worker.shutdown import StopRequests, StopStep, is_done, stop_step

ASKED = 1000.0
GRACE_S = 30.0


@pytest.mark.parametrize(
    ("requests", "after_s", "step"),
    [
        (0, 0.0, StopStep.WAIT),
        (1, 0.0, StopStep.WAIT),
        (1, GRACE_S, StopStep.WAIT),
        (1, GRACE_S + 0.1, StopStep.INTERRUPT),
        (2, 0.0, StopStep.INTERRUPT),
        (2, GRACE_S + 0.1, StopStep.INTERRUPT),
        (3, 0.0, StopStep.KILL),
        (100, GRACE_S, StopStep.KILL),
    ],
)
def test_the_first_request_begins_the_grace_the_second_ends_it_the_third_kills(
    requests: int, after_s: float, step: StopStep
) -> None:
    assert stop_step(requests, ASKED if requests else None, GRACE_S, ASKED + after_s) is step


def test_a_worker_that_nobody_asked_waits_for_what_runs_however_long() -> None:
    assert stop_step(0, None, GRACE_S, 1e9) is StopStep.WAIT


def test_without_a_grace_the_first_request_interrupts() -> None:
    assert stop_step(1, ASKED, 0.0, ASKED + 0.001) is StopStep.INTERRUPT


def test_the_grace_begins_with_the_first_request() -> None:
    requests = StopRequests()
    requests.add()
    first = requests.first_at
    assert first is not None
    requests.add()
    assert (requests.count, requests.first_at) == (2, first)


NOTHING = Unfinished(due=False, later=False, claimed=False)
DUE = Unfinished(due=True, later=False, claimed=False)
LATER = Unfinished(due=False, later=True, claimed=False)
CLAIMED = Unfinished(due=False, later=False, claimed=True)
INCOMING = Unfinished(due=False, later=False, claimed=False, incoming=True)
DRAIN = WorkerOptions(concurrency=1, drain=True)
ONCE = WorkerOptions(concurrency=1, once=True)
MAIL = frozenset({"Mail"})


@pytest.mark.parametrize(
    ("options", "left", "done"),
    [
        (DRAIN, NOTHING, True),
        (DRAIN, DUE, False),
        (DRAIN, LATER, False),  # a delayed job, or another attempt
        (DRAIN, CLAIMED, False),  # another worker may put it back
        (DRAIN, INCOMING, False),
        (ONCE, NOTHING, True),
        (ONCE, DUE, False),
        (ONCE, LATER, True),
        (ONCE, CLAIMED, True),
        (ONCE, INCOMING, False),
        # What it does not take is not its to wait for, and what it takes was claimed just now.
        (WorkerOptions(concurrency=1, drain=True, only=MAIL), DUE, True),
        (WorkerOptions(concurrency=1, once=True, min_priority=9), DUE, True),
        (WorkerOptions(concurrency=1, drain=True, only=MAIL), INCOMING, False),
        (WorkerOptions(concurrency=1, drain=True, min_priority=9), LATER, False),
    ],
)
def test_drain_ends_when_nothing_is_left_and_once_when_nothing_is_due(
    options: WorkerOptions, left: Unfinished, *, done: bool
) -> None:
    assert is_done(left, options) is done
