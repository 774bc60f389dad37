"""What becomes of a job: every ending of an attempt under every policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bgjobs import lifecycle
from bgjobs.job import (
    Cancelled,
    Crashed,
    Interrupted,
    Job,
    JobError,
    Outcome,
    Progress,
    Raised,
    Refused,
    State,
    Succeeded,
    TimedOut,
)
from bgjobs.lifecycle import Policy

SUBMITTED = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
BEGAN = SUBMITTED + timedelta(minutes=1)
NOW = SUBMITTED + timedelta(minutes=2)
SECOND = timedelta(seconds=1)
POLICY = Policy(retries=3, retry_delay=10 * SECOND, max_retry_delay=timedelta(minutes=10), max_crashes=3)
BAD_LUCK = 0.5  # in the middle: a factor of 1
WRONG = JobError(type="shop.GatewayDown", message="no answer", traceback="Traceback …")
LINEAGE = ("shop.GatewayDown", "ConnectionError", "OSError", "Exception", "BaseException")
LOST = Crashed(JobError(type="WorkerLost", message="worker web1:2211 died"), worker_lost=True)
FAILURES: list[Outcome] = [
    Raised(WRONG, LINEAGE),
    TimedOut(30 * SECOND, exit=-9),
    Crashed(JobError(type="Crashed", message="killed by SIGSEGV"), exit=-11),
]


def running(*, charged: int = 1, crashes: int = 0, retries: int = 3) -> Job:
    """Return a job whose attempt is under way, after as many charged and lost ones as that takes."""
    job = Job(
        id="01k5q3v9zdf4gahbjcmkdnpeqf",
        class_name="Shop",
        method="charge",
        priority=5,
        not_before=SUBMITTED,
        submitted_at=SUBMITTED,
        retries=retries,
        args=(1000,),
    )
    for _ in range(charged + crashes - 1):
        job = lifecycle.started(job, worker="web1:1", at=BEGAN)
        closed = replace(job.attempts[-1], finished_at=BEGAN, outcome="raised")
        job = replace(job, attempts=(*job.attempts[:-1], closed))
    return replace(lifecycle.started(job, worker="web1:2211", at=BEGAN), charged=charged, crashes=crashes)


def after(job: Job, outcome: Outcome, policy: Policy = POLICY, luck: float = BAD_LUCK) -> Job:
    return lifecycle.applied(job, lifecycle.after(job, outcome, policy, NOW, luck), NOW)


def waits(job: Job) -> timedelta:
    return job.not_before - NOW


# Beginning


def test_an_attempt_that_begins_is_charged_and_numbered() -> None:
    job = running(charged=2, crashes=1)
    assert job.state is State.RUNNING
    assert job.worker == "web1:2211"
    assert [attempt.number for attempt in job.attempts] == [1, 2, 3]
    assert job.attempts[-1].started_at == BEGAN
    assert not job.attempts[-1].outcome


# Endings that are final


def test_a_job_whose_method_returned_is_done_with_its_result() -> None:
    job = after(running(), Succeeded(msgspec.Raw(b"[1,2]")))
    assert job.state is State.DONE
    assert job.result == [1, 2]
    assert job.finished_at == job.attempts[-1].finished_at == NOW
    assert job.attempts[-1].outcome == "succeeded"
    assert job.error is None


def test_a_job_that_succeeds_at_last_keeps_no_error_but_that_of_its_attempts() -> None:
    retried = after(running(), Raised(WRONG, LINEAGE))
    job = after(lifecycle.started(retried, worker="web1:1", at=NOW), Succeeded())
    assert job.error is None
    assert job.attempts[0].error == WRONG


def test_a_cancelled_job_says_who_stopped_it() -> None:
    job = after(running(), Cancelled("ann@web1"))
    assert job.state is State.CANCELLED
    assert job.error == JobError(type="Cancelled", message="by ann@web1")
    assert job.attempts[-1].outcome == "cancelled"
    assert job.finished_at == NOW


def test_a_job_that_was_cancelled_before_it_began_has_no_attempt() -> None:
    waiting = replace(running(), attempts=(), charged=0, state=State.QUEUED)
    job = lifecycle.applied(waiting, lifecycle.cancelled(""), NOW)
    assert (job.state, job.attempts, job.charged, job.finished_at) == (State.CANCELLED, (), 0, NOW)


@pytest.mark.parametrize("retries", [0, 3, 1000])
def test_a_call_that_cannot_be_made_is_not_tried_again(retries: int) -> None:
    error = JobError(type="bad-arguments", message="charge() misses 'amount'")
    job = after(running(retries=retries), Refused(error), replace(POLICY, retries=retries))
    assert job.state is State.FAILED
    assert job.error == error


def test_a_method_that_asks_for_failure_is_not_tried_again() -> None:
    job = after(running(), Raised(WRONG, LINEAGE, final=True))
    assert job.state is State.FAILED
    assert job.error == WRONG


def test_the_end_of_an_attempt_is_written_into_it() -> None:
    job = after(running(), Crashed(JobError(type="Crashed"), exit=-11))
    assert (job.attempts[-1].outcome, job.attempts[-1].exit) == ("crashed", -11)
    job = after(running(), TimedOut(30 * SECOND, exit=-9))
    assert (job.attempts[-1].outcome, job.attempts[-1].exit) == ("timed_out", -9)
    assert job.error == JobError(type="JobTimeout", message="ran longer than 30 s")


# Another attempt


@pytest.mark.parametrize("outcome", FAILURES)
@pytest.mark.parametrize(
    ("retries", "charged", "state"),
    [
        (0, 1, State.FAILED),
        (1, 1, State.SCHEDULED),
        (1, 2, State.FAILED),
        (3, 3, State.SCHEDULED),
        (3, 4, State.FAILED),
        (3, 9, State.FAILED),  # the retries were lowered meanwhile
    ],
)
def test_a_failed_attempt_is_followed_by_another_until_the_retries_are_used_up(
    outcome: Outcome, retries: int, charged: int, state: State
) -> None:
    job = after(running(charged=charged), outcome, replace(POLICY, retries=retries))
    assert job.state is state
    assert job.charged == charged
    assert (job.finished_at == NOW) == state.ended


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_job_that_waits_for_another_attempt_has_its_error_and_no_worker(outcome: Outcome) -> None:
    begun = replace(running(), progress=Progress(done=1))
    job = after(begun, outcome)
    assert job.state is State.SCHEDULED
    assert job.error == job.attempts[-1].error
    assert job.error is not None
    assert (job.worker, job.progress, job.finished_at) == ("", None, None)


def test_without_a_retry_delay_the_job_is_queued_at_once() -> None:
    job = after(running(), Raised(WRONG, LINEAGE), replace(POLICY, retry_delay=timedelta(0)))
    assert (job.state, job.not_before) == (State.QUEUED, NOW)


@pytest.mark.parametrize(
    ("retry_on", "fail_on", "is_retried"),
    [
        ((), (), True),
        (("shop.GatewayDown",), (), True),
        (("OSError",), (), True),  # a subclass counts
        (("Exception",), (), True),
        (("GatewayDown",), (), False),  # without its module it is another name
        (("gatewaydown", "shop"), (), False),
        (("ValueError",), (), False),
        ((), ("ValueError",), True),
        ((), ("shop.GatewayDown",), False),
        ((), ("OSError",), False),
        ((), ("BaseException",), False),
        (("shop.GatewayDown",), ("OSError",), False),  # fail_on wins
        (("ValueError", "OSError"), ("KeyError",), True),
    ],
)
def test_the_names_in_the_allowlist_decide_which_errors_are_tried_again(
    retry_on: tuple[str, ...], fail_on: tuple[str, ...], is_retried: bool
) -> None:
    policy = replace(POLICY, retry_on=retry_on, fail_on=fail_on)
    assert after(running(), Raised(WRONG, LINEAGE), policy).state is (State.SCHEDULED if is_retried else State.FAILED)


@pytest.mark.parametrize("outcome", FAILURES[1:])
def test_a_timeout_and_a_dead_process_are_no_errors_that_have_a_name(outcome: Outcome) -> None:
    policy = replace(POLICY, retry_on=("ValueError",), fail_on=("Exception", "JobTimeout", "Crashed"))
    assert after(running(), outcome, policy).state is State.SCHEDULED


def test_a_method_that_asks_for_another_attempt_gets_it_whatever_the_allowlist_says_of_errors() -> None:
    policy = replace(POLICY, retry_on=("ValueError",), fail_on=("bgjobs.job_context.Retry", "Exception"))
    asked = Raised(WRONG, ("bgjobs.job_context.Retry", "Exception"), asked=True)
    assert after(running(), asked, policy).state is State.SCHEDULED


@pytest.mark.parametrize("delay", [timedelta(0), 1 * SECOND, timedelta(hours=5)])
def test_a_method_that_asks_for_another_attempt_may_say_when(delay: timedelta) -> None:
    job = after(running(), Raised(WRONG, LINEAGE, asked=True, retry_in=delay), luck=1.0)
    assert waits(job) == delay
    assert job.state is (State.SCHEDULED if delay else State.QUEUED)


def test_a_method_that_asks_for_another_attempt_without_saying_when_gets_the_backoff() -> None:
    assert waits(after(running(charged=2), Raised(WRONG, LINEAGE, asked=True))) == 20 * SECOND


def test_a_method_that_asks_for_another_attempt_fails_when_none_is_left() -> None:
    asked = Raised(WRONG, LINEAGE, asked=True, retry_in=1 * SECOND)
    assert after(running(charged=4), asked).state is State.FAILED


# Attempts that are not charged


def test_an_interrupted_attempt_is_not_charged_and_may_run_again_at_once() -> None:
    before = running(charged=2)
    job = after(before, Interrupted())
    assert job.state is State.QUEUED
    assert (job.charged, job.crashes) == (1, 0)
    assert job.not_before == before.not_before
    assert job.attempts[-1].outcome == "interrupted"
    assert (job.worker, job.finished_at) == ("", None)


def test_a_job_can_be_interrupted_any_number_of_times() -> None:
    job = running(retries=0)
    for _ in range(50):
        job = lifecycle.started(after(job, Interrupted(), replace(POLICY, retries=0)), worker="w", at=NOW)
    assert (job.charged, len(job.attempts)) == (1, 51)


def test_a_job_lost_for_the_first_time_runs_again_at_once_and_is_no_younger_for_it() -> None:
    before = running()
    job = after(before, LOST)
    assert job.state is State.QUEUED
    assert job.not_before == before.not_before
    assert (job.charged, job.crashes) == (0, 1)
    assert job.attempts[-1].outcome == "crashed"


def test_a_job_lost_for_the_first_time_runs_again_at_once_also_when_the_clock_was_set_back() -> None:
    before = replace(running(), not_before=NOW + timedelta(hours=1))
    assert after(before, LOST).state is State.QUEUED


@pytest.mark.parametrize(("crashes", "wait"), [(1, 10), (2, 20), (3, 40), (4, 80)])
def test_from_the_second_loss_on_a_job_waits_longer_and_longer(crashes: int, wait: int) -> None:
    job = after(running(crashes=crashes), LOST, replace(POLICY, max_crashes=100))
    assert job.state is State.SCHEDULED
    assert waits(job) == wait * SECOND
    assert (job.charged, job.crashes) == (0, crashes + 1)


@pytest.mark.parametrize(
    ("max_crashes", "crashes", "state"),
    [
        (1, 0, State.FAILED),
        (2, 0, State.QUEUED),
        (2, 1, State.FAILED),
        (3, 1, State.SCHEDULED),
        (3, 2, State.FAILED),
        (3, 7, State.FAILED),
        (0, 0, State.FAILED),
    ],
)
def test_a_job_that_kills_its_workers_fails_in_the_end(max_crashes: int, crashes: int, state: State) -> None:
    job = after(running(crashes=crashes), LOST, replace(POLICY, max_crashes=max_crashes))
    assert job.state is state
    assert job.crashes == crashes + 1


def test_losses_use_up_no_retries() -> None:
    policy = replace(POLICY, retries=0, max_crashes=10)
    job = after(running(charged=1, crashes=5, retries=0), LOST, policy)
    assert not job.state.ended


# The wait before another attempt


@pytest.mark.parametrize(
    ("kind", "waits_s"),
    [("fixed", [10, 10, 10, 10]), ("linear", [10, 20, 30, 40]), ("exponential", [10, 20, 40, 80])],
)
def test_the_wait_grows_as_the_policy_says(kind: str, waits_s: list[int]) -> None:
    policy = replace(POLICY, backoff=kind)
    assert [lifecycle.backoff(policy, n, BAD_LUCK) for n in (1, 2, 3, 4)] == [s * SECOND for s in waits_s]


@pytest.mark.parametrize(("luck", "factor"), [(0.0, 0.75), (0.25, 0.875), (0.5, 1.0), (1.0, 1.25)])
def test_luck_spreads_the_wait_by_a_quarter(luck: float, factor: float) -> None:
    assert lifecycle.backoff(POLICY, 1, luck) == 10 * factor * SECOND


KINDS = st.sampled_from(["exponential", "fixed", "linear"])
LENGTHS = st.timedeltas(timedelta(0), timedelta(days=36_525))


@given(KINDS, LENGTHS, LENGTHS, st.integers(1, 1_000_001), st.floats(0, 1))
def test_no_wait_is_longer_than_the_longest_allowed_or_outside_of_the_spread(
    kind: str, delay: timedelta, longest: timedelta, failures: int, luck: float
) -> None:
    policy = Policy(backoff=kind, retry_delay=delay, max_retry_delay=longest)
    wait = lifecycle.backoff(policy, failures, luck)
    plain = {"fixed": 1.0, "linear": float(failures), "exponential": 2.0 ** min(failures - 1, 40)}[kind]
    seconds = delay.total_seconds() * plain
    assert timedelta(0) <= wait <= longest
    slack = 1e-6 + seconds * 1e-9
    assert wait.total_seconds() >= min(0.75 * seconds, longest.total_seconds()) - slack
    assert wait.total_seconds() <= 1.25 * seconds + slack


@given(KINDS, st.integers(1, 30), st.floats(0, 1), st.floats(0, 1))
def test_more_luck_never_makes_the_wait_shorter(kind: str, failures: int, one: float, other: float) -> None:
    assume(one <= other)
    policy = replace(POLICY, backoff=kind)
    assert lifecycle.backoff(policy, failures, one) <= lifecycle.backoff(policy, failures, other)


def test_the_longest_wait_there_can_be_is_still_a_moment() -> None:
    century = timedelta(days=36_525)
    policy = Policy(retries=10**6, retry_delay=century, max_retry_delay=century)
    job = replace(running(), charged=10**6)
    assert waits(after(job, FAILURES[0], policy, luck=1.0)) == century


# What the job itself asked for


def test_the_wishes_of_one_job_win_over_its_policy() -> None:
    job = replace(running(retries=7), retry_delay=3 * SECOND, timeout=1 * SECOND)
    wished = lifecycle.with_options_of(POLICY, job)
    assert (wished.retries, wished.retry_delay, wished.timeout) == (7, 3 * SECOND, 1 * SECOND)


def test_where_a_job_wishes_nothing_its_policy_holds() -> None:
    wished = lifecycle.with_options_of(replace(POLICY, retries=1), running(retries=7))
    assert wished == replace(POLICY, retries=7)  # the number of retries was settled when it was submitted


@pytest.mark.parametrize(("asked", "granted"), [(None, 60), (1, 1), (60, 60), (61, 60), (10**9, 60)])
def test_no_job_gets_a_longer_timeout_than_the_longest(asked: int | None, granted: int) -> None:
    job = replace(running(), timeout=None if asked is None else asked * SECOND)
    policy = replace(POLICY, timeout=timedelta(hours=1), max_timeout=60 * SECOND)
    assert lifecycle.with_options_of(policy, job).timeout == granted * SECOND
    assert lifecycle.with_options_of(replace(policy, max_timeout=0 * SECOND), job).timeout == (
        job.timeout or policy.timeout
    )


@pytest.mark.parametrize(("ahead", "due"), [(-1, True), (0, True), (1, False)])
def test_a_job_is_due_at_its_moment(ahead: int, due: bool) -> None:
    assert lifecycle.is_due(running(), SUBMITTED - timedelta(milliseconds=ahead)) is due


# The books, over whole lives

ERRORS = st.builds(JobError, type=st.sampled_from(["ValueError", "shop.GatewayDown"]))
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Succeeded()),
    st.just(Cancelled("ann")),
    st.just(Interrupted()),
    st.builds(Refused, ERRORS),
    st.builds(TimedOut, st.just(SECOND), st.none() | st.just(-9)),
    st.builds(Crashed, ERRORS, st.none() | st.just(-9), st.booleans()),
    st.builds(
        Raised,
        ERRORS,
        st.sampled_from([LINEAGE, ("ValueError", "Exception"), ()]),
        asked=st.booleans(),
        retry_in=st.none() | st.timedeltas(timedelta(0), timedelta(days=3650)),
        final=st.booleans(),
    ),
)
RARELY_LAST = st.one_of(  # endings that let a life go on, most of the time
    st.just(Interrupted()),
    st.just(LOST),
    st.builds(TimedOut, st.just(SECOND)),
    st.builds(Crashed, ERRORS),
    st.builds(Raised, ERRORS, st.just(LINEAGE)),
    OUTCOMES,
)
POLICIES = st.builds(
    Policy,
    retries=st.integers(0, 5),
    retry_delay=st.sampled_from([timedelta(0), SECOND, timedelta(hours=1)]),
    backoff=KINDS,
    max_retry_delay=st.sampled_from([timedelta(0), SECOND, timedelta(days=1)]),
    max_crashes=st.integers(0, 5),
    retry_on=st.sampled_from([(), ("OSError",)]),
    fail_on=st.sampled_from([(), ("ValueError",)]),
)


@given(POLICIES, st.lists(st.tuples(RARELY_LAST, st.floats(0, 1), st.integers(0, 7200)), max_size=25))
def test_the_books_of_every_life_add_up(policy: Policy, life: list[tuple[Outcome, float, int]]) -> None:
    job = replace(running(retries=policy.retries), attempts=(), charged=0, state=State.QUEUED, worker="")
    now = NOW
    for outcome, luck, seconds in life:
        if job.state.ended:
            break
        now = max(now, job.not_before)
        begun = lifecycle.started(job, worker="web1:1", at=now)
        assert begun.charged == job.charged + 1
        now += timedelta(seconds=seconds)
        job, earlier = lifecycle.applied(begun, lifecycle.after(begun, outcome, policy, now, luck), now), job
        _check_books(job, policy)
        _check_step(earlier, job, now)
    spent = [attempt for attempt in job.attempts if attempt.outcome != "interrupted"]
    assert len(spent) <= policy.retries + 1 + max(policy.max_crashes, 1)


def _check_books(job: Job, policy: Policy) -> None:
    outcomes = [attempt.outcome for attempt in job.attempts]
    assert [attempt.number for attempt in job.attempts] == list(range(1, len(outcomes) + 1))
    assert all(attempt.finished_at for attempt in job.attempts)
    assert job.charged + job.crashes + outcomes.count("interrupted") == len(outcomes)
    assert 0 <= job.charged <= policy.retries + 1
    assert 0 <= job.crashes <= max(policy.max_crashes, 1)


def _check_step(earlier: Job, job: Job, now: datetime) -> None:
    assert job.attempts[: len(earlier.attempts)] == earlier.attempts
    assert job.state in {State.QUEUED, State.SCHEDULED, State.DONE, State.FAILED, State.CANCELLED}
    assert job.state.ended == (job.finished_at == now)
    assert (job.state is State.SCHEDULED) == (not job.state.ended and not lifecycle.is_due(job, now))
    assert (job.state is State.DONE) == (job.attempts[-1].outcome == "succeeded")
    assert (job.result_json is not None) == (job.state is State.DONE)
    assert (job.error is None) <= (job.state is State.DONE or job.attempts[-1].outcome == "interrupted")
    unchanged = ("id", "class_name", "method", "args", "kwargs", "priority", "submitted_at", "retries", "tags")
    assert all(getattr(job, name) == getattr(earlier, name) for name in unchanged)
