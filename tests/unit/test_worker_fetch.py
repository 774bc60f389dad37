"""When a worker claims jobs, and how many: tables of what it knows and the moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bgjobs.clock import Now
from bgjobs.worker.fetch import (
    IGNORE_S,
    LOOK_EVERY_S,
    MOST_AHEAD,
    MOST_CLAIMED,
    MOST_IDLE_RINGS,
    MOST_UNDECIDED,
    RETRY_S,
    WINDOW_S,
    BellBackoff,
    Schedule,
    Throughput,
    shortage,
    within_limit,
)

BEGAN = Now(1000.0, datetime(2026, 11, 23, 3, tzinfo=UTC))


def after(seconds: float) -> Now:
    return Now(BEGAN.s + seconds, BEGAN.at + timedelta(seconds=seconds))


def ended(*took_s: float) -> Throughput:
    """Return what is known after jobs that took so long and all ended at one moment."""
    throughput = Throughput(BEGAN.s)
    for one in took_s:
        throughput.job_ended(one, BEGAN.s)
    return throughput


@pytest.mark.parametrize(
    ("jobs", "depth"),
    [
        ([], 1),  # nothing is known yet
        ([(60, 0.0001)], MOST_AHEAD),
        ([(60, 0.0)], MOST_AHEAD),
        ([(60, 0.003)], 6),  # about 20 ms of work
        ([(60, 0.005)], 1),
        ([(60, 1.0)], 1),
        ([(60, 0.0001), (1, 1.0)], 1),  # one long job, and nothing is sent behind the next ones
        ([(60, 0.0001), (1, 1.0), (10, 0.0001)], 1),
        ([(60, 0.0001), (1, 1.0), (60, 0.0001)], MOST_AHEAD),
    ],
    ids=str,
)
def test_the_shorter_the_jobs_the_more_of_them_a_runner_may_hold(jobs: list[tuple[int, float]], depth: int) -> None:
    assert ended(*(took_s for count, took_s in jobs for _ in range(count))).depth() == depth


@pytest.mark.parametrize(
    ("count", "after_s", "free", "claimed"),
    [
        (0, 0.0, 3, 3),
        (100, 0.0, 3, 200),  # twice of what ended in this window
        (100, 1.5 * WINDOW_S, 3, 200),  # or in the one before
        (100, 2.5 * WINDOW_S, 3, 3),
        (1000, 0.0, 3, MOST_CLAIMED),
        (1000, 0.0, 300, 300),  # so many runners are idle
        (1, 0.0, 3, 3),
    ],
)
def test_it_claims_what_the_runners_can_take_and_what_they_will_need_in_a_moment(
    count: int, after_s: float, free: int, claimed: int
) -> None:
    assert ended(*[0.001] * count).batch(free, after(after_s).s) == claimed


def test_eight_rings_without_work_and_the_bell_is_ignored_for_a_moment() -> None:
    backoff, now = BellBackoff(), BEGAN.s
    for _ in range(MOST_IDLE_RINGS):
        backoff.rang(now)
        assert backoff.ignored_s(now) == 0
    backoff.rang(now)
    assert backoff.ignored_s(now) == pytest.approx(IGNORE_S)
    assert backoff.ignored_s(now + IGNORE_S / 2) == pytest.approx(IGNORE_S / 2)
    assert backoff.ignored_s(now + 2 * IGNORE_S) == 0
    backoff.rang(now + 2 * IGNORE_S)  # once more in vain
    assert backoff.ignored_s(now + 2 * IGNORE_S) == pytest.approx(IGNORE_S)


def test_a_storm_of_rings_wakes_a_worker_a_hundred_times_a_second_at_most() -> None:
    backoff, woken = BellBackoff(), 0
    for tick in range(10_000):  # a second
        now = BEGAN.s + tick / 10_000
        if not backoff.ignored_s(now):
            backoff.rang(now)
            woken += 1
    assert MOST_IDLE_RINGS < woken <= MOST_IDLE_RINGS + 1 / IGNORE_S


def test_rings_that_bring_work_never_lead_to_a_pause() -> None:
    backoff = BellBackoff()
    for _ in range(10 * MOST_IDLE_RINGS):
        backoff.rang(BEGAN.s)
        backoff.found_work()
        assert backoff.ignored_s(BEGAN.s) == 0


def test_a_worker_that_has_just_begun_looks_at_once() -> None:
    schedule = Schedule()
    assert schedule.is_open(BEGAN.s)
    assert schedule.may_be_more
    assert schedule.next_at <= BEGAN.s


@pytest.mark.parametrize(
    ("due_s", "wait_s"),
    [
        (None, LOOK_EVERY_S),
        (0.3, 0.3),
        (0.0, 0.0),
        (-5.0, 0.0),
        (60.0, LOOK_EVERY_S),  # somebody may submit something without a ring
    ],
)
def test_it_looks_again_when_a_delayed_job_is_due_and_after_a_second_at_the_latest(
    due_s: float | None, wait_s: float
) -> None:
    schedule = Schedule()
    schedule.claimed(BEGAN, None if due_s is None else after(due_s).at, may_be_more=False)
    assert schedule.next_at == pytest.approx(after(wait_s).s)
    if wait_s:
        assert schedule.is_open(after(wait_s - 0.01).s)
        assert not schedule.may_be_more
    assert schedule.is_open(after(wait_s + 0.01).s)
    assert schedule.may_be_more


def test_a_full_batch_says_that_there_may_be_more() -> None:
    schedule = Schedule()
    schedule.claimed(BEGAN, None, may_be_more=True)
    assert schedule.is_open(BEGAN.s)
    assert schedule.may_be_more


def test_a_ring_says_once_that_there_may_be_more() -> None:
    schedule = Schedule()
    schedule.claimed(BEGAN, None, may_be_more=False)
    assert not schedule.take_ring()
    schedule.rang = True
    assert schedule.take_ring()
    assert schedule.may_be_more
    assert not schedule.take_ring()


def test_after_a_claim_that_failed_nothing_is_claimed_for_a_second_and_no_ring_is_lost() -> None:
    schedule = Schedule()
    schedule.claimed(BEGAN, after(0.1).at, may_be_more=False)
    schedule.rang = True
    schedule.pause(BEGAN.s)
    assert not schedule.is_open(after(RETRY_S - 0.01).s)
    assert schedule.next_at == pytest.approx(after(RETRY_S).s)
    assert schedule.rang
    assert schedule.is_open(after(RETRY_S).s)
    assert schedule.take_ring()


@pytest.mark.parametrize(
    ("free", "waiting", "undecided", "missing"),
    [
        (4, 0, 0, 4),
        (4, 3, 0, 1),
        (4, 9, 0, -5),
        (4, 0, MOST_UNDECIDED, 4),  # they may wait for a minute: the runners have others to run
        (4, 0, MOST_UNDECIDED + 3, 1),  # but not any number of them
        (0, 0, 0, 0),
    ],
)
def test_it_claims_for_runners_that_have_nothing_to_do(free: int, waiting: int, undecided: int, missing: int) -> None:
    assert shortage(free, waiting, undecided) == missing


@pytest.mark.parametrize(
    ("most", "most_jobs", "has_ended", "claimed", "expected"),
    [
        (10, None, 1000, 50, 10),
        (10, 100, 0, 0, 10),
        (10, 100, 95, 0, 5),
        (10, 100, 90, 7, 3),
        (10, 100, 90, 10, 0),
        (10, 3, 0, 0, 3),
    ],
)
def test_not_one_job_more_is_claimed_than_may_end(
    most: int, most_jobs: int | None, has_ended: int, claimed: int, expected: int
) -> None:
    assert within_limit(most, most_jobs, ended=has_ended, claimed=claimed) == expected
