"""Which job is asked to stop or killed when, how an attempt ended, and how many jobs a runner takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import lifecycle
from bgjobs.job import Cancelled, Crashed, Interrupted, Job, JobError, Outcome, Raised, Succeeded, TimedOut
from bgjobs.lifecycle import Policy
from bgjobs.worker.assignment import (
    NEVER,
    OVERDUE_S,
    STOP_AT_MOST_S,
    Assignment,
    Step,
    StopReason,
    finished,
    next_deadline,
    outcome_of_death,
    room_left,
    step_due,
)
from bgjobs.worker.protocol import LOST_CONTACT, Ended, Run

ID = "01k5q3v9zdf4gahbjcmkdnpeqf"
BEGAN_AT = datetime(2026, 11, 23, 3, tzinfo=UTC)
BEGAN = 1000.0
TIMEOUT_S, KILL_AFTER_S = 60.0, 10.0
POLICY = Policy(timeout=timedelta(seconds=TIMEOUT_S), kill_after=timedelta(seconds=KILL_AFTER_S))


def assigned(policy: Policy = POLICY, *, user: str = "") -> Assignment:
    """Return a job as a runner gets it: others may be before it."""
    job = Job(
        id=ID, class_name="Mail", method="send", priority=5, not_before=BEGAN_AT, submitted_at=BEGAN_AT, retries=3
    )
    message = Run(ID, 1, 3, "Mail", "send", "mail", "Mail", (), {}, user=user)
    return Assignment(lifecycle.started(job, worker="web1:1", at=BEGAN_AT), message, policy)


def running(why: StopReason | None = None, *, asked_after_s: float = 0.0, policy: Policy = POLICY) -> Assignment:
    """Return a job that began at `BEGAN`, and was asked to stop so long after that for this reason, if there is one."""
    head = assigned(policy)
    head.become_head(BEGAN)
    if why is not None:
        head.ask_to_stop(why, "ann", BEGAN + asked_after_s, is_head=True)
    if why is StopReason.TIMED_OUT:
        head.stop_at = NEVER  # as it is once that was done
    return head


@pytest.mark.parametrize(
    ("head", "end_by", "after_s", "step"),
    [
        (None, NEVER, 1e9, Step.NONE),
        (assigned(), NEVER, 1e9, Step.NONE),  # something is before it: that is no part of its time
        (running(), NEVER, 0.0, Step.NONE),
        (running(), NEVER, TIMEOUT_S - 0.1, Step.NONE),
        (running(), NEVER, TIMEOUT_S, Step.STOP),
        (running(StopReason.TIMED_OUT, asked_after_s=TIMEOUT_S), NEVER, TIMEOUT_S, Step.NONE),  # once
        (running(StopReason.TIMED_OUT, asked_after_s=TIMEOUT_S), NEVER, TIMEOUT_S + KILL_AFTER_S - 0.1, Step.NONE),
        (running(StopReason.TIMED_OUT, asked_after_s=TIMEOUT_S), NEVER, TIMEOUT_S + KILL_AFTER_S, Step.KILL),
        (running(StopReason.CANCELLED, asked_after_s=5), NEVER, 5 + KILL_AFTER_S - 0.1, Step.NONE),
        (running(StopReason.CANCELLED, asked_after_s=5), NEVER, 5 + KILL_AFTER_S, Step.KILL),
        # Its time is over before it has to have stopped: that changes nothing.
        (running(StopReason.CANCELLED, asked_after_s=TIMEOUT_S - 1), NEVER, TIMEOUT_S + KILL_AFTER_S - 1.1, Step.STOP),
        (running(StopReason.CANCELLED, asked_after_s=TIMEOUT_S - 1), NEVER, TIMEOUT_S + KILL_AFTER_S - 1, Step.KILL),
        # A worker that stops waits for 5 seconds at most.
        (running(StopReason.WORKER_STOPS), NEVER, STOP_AT_MOST_S - 0.1, Step.NONE),
        (running(StopReason.WORKER_STOPS), NEVER, STOP_AT_MOST_S, Step.KILL),
        # The process is ending: nothing is asked any more, and at last it is killed.
        (running(), BEGAN + TIMEOUT_S + 5, TIMEOUT_S, Step.NONE),
        (running(), BEGAN + TIMEOUT_S + 5, TIMEOUT_S + 5, Step.KILL),
        (running(StopReason.CANCELLED), BEGAN + 100, KILL_AFTER_S, Step.KILL),
        (assigned(), BEGAN + 2, 2.0, Step.KILL),
    ],
)
def test_a_job_is_asked_to_stop_when_its_time_is_over_and_killed_if_it_does_not(
    head: Assignment | None, end_by: float, after_s: float, step: Step
) -> None:
    assert step_due(head, end_by, BEGAN + after_s) is step


def test_a_method_that_may_take_no_time_to_stop_is_killed_at_once() -> None:
    head = running(StopReason.CANCELLED, asked_after_s=5, policy=Policy(kill_after=timedelta(0)))
    assert step_due(head, NEVER, BEGAN + 5) is Step.KILL


def test_a_worker_that_stops_waits_no_longer_than_the_policy_says() -> None:
    head = running(StopReason.WORKER_STOPS, policy=Policy(kill_after=timedelta(seconds=1)))
    assert step_due(head, NEVER, BEGAN + 1) is Step.KILL


def test_the_time_to_stop_of_a_job_behind_another_one_begins_when_it_is_its_turn() -> None:
    held = assigned()
    held.ask_to_stop(StopReason.CANCELLED, "ann", BEGAN, is_head=False)
    assert step_due(held, NEVER, BEGAN + 1000) is Step.NONE
    held.become_head(BEGAN + 1000)
    assert step_due(held, NEVER, BEGAN + 1000 + KILL_AFTER_S - 0.1) is Step.NONE
    assert step_due(held, NEVER, BEGAN + 1000 + KILL_AFTER_S) is Step.KILL


@given(
    why=st.sampled_from([None, *StopReason]),
    asked_after_s=st.floats(0, 200),
    end_by=st.one_of(st.just(NEVER), st.floats(BEGAN, BEGAN + 200)),
    after_s=st.floats(0, 400),
)
def test_the_loop_wakes_for_each_step_and_for_no_other_reason(
    why: StopReason | None, asked_after_s: float, end_by: float, after_s: float
) -> None:
    head, now = running(why, asked_after_s=asked_after_s), BEGAN + after_s
    assert (step_due(head, end_by, now) is not Step.NONE) is (now >= next_deadline(head, end_by))


def test_a_runner_without_a_job_has_no_deadline() -> None:
    assert next_deadline(None, BEGAN) == NEVER


@pytest.mark.parametrize(
    ("depth", "held", "jobs_left", "is_overdue", "room"),
    [
        (1, 0, 100, False, 1),
        (1, 1, 100, False, 0),
        (16, 0, 100, False, 16),
        (16, 10, 100, False, 6),
        (16, 10, 4, False, 4),  # then it is replaced
        (16, 1, 100, True, 0),  # nothing waits behind a long job
    ],
)
def test_how_many_more_jobs_a_runner_takes(
    depth: int, held: int, jobs_left: int, room: int, *, is_overdue: bool
) -> None:
    assert room_left(depth, held=held, jobs_left=jobs_left, is_overdue=is_overdue) == room


def test_a_job_is_overdue_a_tenth_of_a_second_after_its_turn_has_come() -> None:
    held = assigned()
    assert not held.is_overdue(BEGAN + 1000)
    held.become_head(BEGAN)
    assert not held.is_overdue(BEGAN + OVERDUE_S / 2)
    assert held.is_overdue(BEGAN + 2 * OVERDUE_S)


FAILED = Raised(JobError(type="ValueError", message="wrong"))
DONE = Succeeded()
TIMED_OUT = TimedOut(timedelta(seconds=TIMEOUT_S))


@pytest.mark.parametrize(
    ("why", "said", "stopped", "outcome"),
    [
        (None, DONE, False, DONE),
        (None, FAILED, False, FAILED),
        # The timeout has passed, but it was quicker.
        (StopReason.TIMED_OUT, DONE, False, DONE),
        (StopReason.TIMED_OUT, FAILED, False, FAILED),
        # It was asked, and has returned or raised since.
        (StopReason.TIMED_OUT, DONE, True, TIMED_OUT),
        (StopReason.TIMED_OUT, FAILED, True, TIMED_OUT),
        (StopReason.CANCELLED, DONE, False, DONE),
        (StopReason.CANCELLED, DONE, True, Cancelled("ann")),
        (StopReason.CANCELLED, FAILED, False, Cancelled("ann")),
        (StopReason.CANCELLED, FAILED, True, Cancelled("ann")),
        (StopReason.WORKER_STOPS, DONE, False, DONE),
        (StopReason.WORKER_STOPS, DONE, True, Interrupted()),
        (StopReason.WORKER_STOPS, FAILED, True, Interrupted()),
        (StopReason.WORKER_STOPS, FAILED, False, FAILED),
    ],
)
def test_how_an_attempt_ended_is_decided_by_whether_the_request_to_stop_had_reached_it(
    why: StopReason | None, said: Succeeded | Raised, outcome: Outcome, *, stopped: bool
) -> None:
    message = Ended(ID, 5, 0.5, said, stopped=stopped)
    assert finished(message, running(why)).outcome == outcome


@pytest.mark.parametrize(("said", "user", "recorded"), [(DONE, "", True), (DONE, "web", False), (FAILED, "", False)])
def test_a_runner_has_written_a_success_unless_it_runs_as_another_user(
    said: Succeeded | Raised, user: str, *, recorded: bool
) -> None:
    report = finished(Ended(ID, 5, 0.5, said, recorded_ms=9), assigned(user=user))
    assert report.recorded_ms == (9 if recorded else None)


@pytest.mark.parametrize(
    ("why", "status", "outcome"),
    [
        (StopReason.TIMED_OUT, -9, TimedOut(timedelta(seconds=TIMEOUT_S), -9)),
        (StopReason.CANCELLED, -9, Cancelled("ann")),
        (StopReason.WORKER_STOPS, -9, Interrupted()),
    ],
)
def test_a_process_that_dies_after_its_job_was_asked_to_stop_has_stopped(
    why: StopReason, status: int, outcome: Outcome
) -> None:
    assert outcome_of_death(running(why), status, "") == outcome


EXITED = "its process exited with status 3 before the method returned"


@pytest.mark.parametrize(
    ("status", "stale", "message"),
    [
        (3, "", EXITED),
        (3, "shop.py", f"{EXITED}; shop.py has changed since this process loaded it"),
        (None, "", "its process closed its pipes and had to be killed"),
        (
            LOST_CONTACT,
            "",
            "its process could not answer any more: did the method close descriptors that were not its own?",
        ),
    ],
)
def test_the_death_of_a_process_is_a_crash_and_says_why(status: int | None, stale: str, message: str) -> None:
    outcome = outcome_of_death(running(), status, stale)
    assert outcome == Crashed(JobError(type="Crashed", message=message), status)
