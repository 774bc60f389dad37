"""What every store promises to a worker: who gets which job when, and that what became of it is kept."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from bgjobs import files, lifecycle
from bgjobs.errors import ClaimLostError
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
    milliseconds,
    moment,
)
from bgjobs.lifecycle import Ended
from bgjobs.store import AttemptRecord, Finish, Selection
from bgjobs.worker import protocol
from tests.contract.stores import (
    FAR,
    POLICY,
    begin,
    claim_all,
    each_once,
    finish,
    got,
    new_job,
    now,
    plain,
    stored,
    told,
    wait_until,
)

if TYPE_CHECKING:
    from bgjobs.lifecycle import Policy
    from bgjobs.store import Session, Store
    from tests.contract.stores import Sessions, StoreKind

WRONG = JobError(type="OSError", message="no answer", traceback="Traceback …")
RAISED = Raised(WRONG, ("OSError", "Exception"))


def submit(backend: Store, *jobs: Job) -> list[str]:
    """Submit jobs one by one, and return their ids."""
    for job in jobs:
        backend.submit([job])
    return [job.id for job in jobs]


def ids(session: Session, most: int, above: int = -1) -> list[str]:
    return [claim.job.id for claim in session.claim(most, above=above)]


# The order


def test_nothing_is_claimed_from_an_empty_queue(workers: Sessions) -> None:
    assert workers.join().claim(10) == []


def test_jobs_are_claimed_by_priority_and_then_by_age(backend: Store, workers: Sessions) -> None:
    jobs = [new_job(priority=priority) for priority in (0, 5, 9, 5, 2, 8, 9, 5)]
    submit(backend, *jobs)
    expected = [job.id for job in sorted(jobs, key=lambda job: (-job.priority, job.not_before, job.id))]
    assert [claim.job.id for claim in claim_all(workers.join(), 8)] == expected


def test_jobs_submitted_together_are_claimed_in_their_order(backend: Store, workers: Sessions) -> None:
    jobs = [new_job() for _ in range(50)]
    backend.submit(jobs)
    assert [claim.job.id for claim in claim_all(workers.join(), 50)] == [job.id for job in jobs]


def test_no_more_are_claimed_than_asked_for(backend: Store, workers: Sessions) -> None:
    submitted = submit(backend, *(new_job() for _ in range(5)))
    session = workers.join()
    assert [ids(session, most) for most in (1, 2, 10)] == [submitted[:1], submitted[1:3], submitted[3:]]


@pytest.mark.parametrize("most", [0, -1])
def test_who_asks_for_no_job_gets_none(backend: Store, workers: Sessions, most: int) -> None:
    job = new_job()
    backend.submit([job])
    assert workers.join().claim(most) == []
    assert got(backend, job.id).state is State.QUEUED


def test_a_job_of_a_higher_priority_that_comes_later_is_claimed_first(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    low = submit(backend, *(new_job(priority=5) for _ in range(3)))
    session = workers.join()
    assert ids(session, 1) == low[:1]
    high = submit(backend, new_job(priority=8))
    store.settle()
    assert ids(session, 2) == [high[0], low[1]]


def test_only_jobs_of_a_higher_priority_are_claimed_when_asked_so(backend: Store, workers: Sessions) -> None:
    low, same, high = submit(backend, new_job(priority=3), new_job(priority=5), new_job(priority=6))
    session = workers.join()
    assert ids(session, 10, above=5) == [high]
    assert ids(session, 10, above=5) == []
    assert ids(session, 10) == [same, low]


def test_a_job_is_not_claimed_before_its_moment(backend: Store, workers: Sessions) -> None:
    submit(backend, new_job(delay=FAR), new_job(delay=timedelta(minutes=2), priority=9))
    (at_once,) = submit(backend, new_job(priority=0))
    session = workers.join()
    assert ids(session, 10) == [at_once]
    assert ids(session, 10) == []


def test_a_job_is_claimed_soon_after_its_moment(backend: Store, workers: Sessions) -> None:
    job = new_job(delay=timedelta(milliseconds=200))
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert claim.job.id == job.id
    assert now() >= job.not_before


def test_the_next_moment_is_known_to_a_worker_that_looked(store: StoreKind, backend: Store, workers: Sessions) -> None:
    session = workers.join()
    assert session.next_due() is None
    soon, later = new_job(delay=timedelta(minutes=3)), new_job(delay=FAR)
    submit(backend, later, soon)
    store.settle()
    assert session.claim(1) == []
    due = session.next_due()
    assert due is not None
    assert soon.not_before - timedelta(minutes=1) <= due <= soon.not_before


def test_a_waiting_worker_is_rung_when_a_job_is_submitted(backend: Store, workers: Sessions) -> None:
    session = workers.join()
    session.bell.rang()
    submit(backend, new_job())
    wait_until(session.bell.rang)


def test_a_worker_gets_only_classes_that_it_takes(store: StoreKind, backend: Store, workers: Sessions) -> None:
    mail, post = new_job(class_name="Mail"), new_job(class_name="Post", priority=0)
    submit(backend, mail, post)
    picky = workers.join(Selection(classes=frozenset({"Post", "Other"})))
    assert ids(picky, 10) == [post.id]
    assert ids(picky, 10) == []
    more = new_job(class_name="Post")
    submit(backend, more)
    store.settle()
    assert ids(picky, 10) == [more.id]
    assert [claim.job.id for claim in claim_all(workers.join(), 1)] == [mail.id]


def test_a_worker_gets_only_priorities_that_it_takes(backend: Store, workers: Sessions) -> None:
    low, high = submit(backend, new_job(priority=4), new_job(priority=5))
    assert ids(workers.join(Selection(min_priority=5)), 10) == [high]
    assert ids(workers.join(), 10) == [low]


def test_a_claimed_job_is_running_and_not_charged_before_it_begins(backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert claim.job == plain(job, State.RUNNING)
    assert not claim.leftover
    assert got(backend, job.id) == plain(job, State.RUNNING)
    assert not session.attempt(claim).begun
    begin(session, claim)
    assert session.attempt(claim).begun
    begun = got(backend, job.id)
    assert (begun.state, begun.charged, begun.worker, len(begun.attempts)) == (
        State.RUNNING,
        1,
        f"web1:{os.getpid()}",
        1,
    )


def test_a_success_that_the_runner_recorded_is_known_and_only_has_to_be_put_away(
    backend: Store, workers: Sessions
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert session.attempt(claim).succeeded_ms is None
    running = begin(session, claim)
    assert session.attempt(claim).succeeded_ms is None
    todo = session.begin(claim, slot=0, pid=os.getpid(), birth="long ago")
    assert todo is not None
    at = milliseconds(now())
    assert todo.success is not None
    files.append(todo.path, protocol.success_line(todo.success, at, Succeeded(msgspec.Raw(b"7")), None))
    assert session.attempt(claim) == AttemptRecord(begun=True, succeeded_ms=at)
    finish = Finish(claim=claim, running=running, verdict=Ended(State.DONE, "succeeded"), at=moment(at), recorded=True)
    assert session.finish([finish]) == [None]
    done = got(backend, job.id)
    assert (done.state, done.result, done.finished_at) == (State.DONE, 7, moment(at))
    (error,) = session.finish([finish])
    assert isinstance(error, ClaimLostError)


# One job, one worker


def test_two_workers_share_the_queue_and_no_job(store: StoreKind, backend: Store, workers: Sessions) -> None:
    submitted = submit(backend, *(new_job() for _ in range(6)))
    one, other = workers.join(), workers.join()
    assert [ids(one, 2), ids(other, 3), ids(one, 2)] == [submitted[:2], submitted[2:5], submitted[5:]]
    store.settle()
    assert ids(other, 10) == []


def test_no_two_threads_get_the_same_job(store: StoreKind, workers: Sessions) -> None:
    jobs = [new_job(priority=n % 3) for n in range(300)]
    sessions = [workers.join() for _ in range(4)]

    def work(session: Session) -> list[str]:
        mine: list[str] = []
        backend = store.open()
        while backend.unfinished(now()).due:
            for claim in session.claim(3):
                finish(session, claim, Succeeded())
                mine.append(claim.job.id)
        return mine

    store.open().submit(jobs)
    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(work, sessions))
    assert each_once(chain.from_iterable(shares)) == {job.id for job in jobs}
    assert store.open().counts()[State.DONE] == 300


def test_no_two_processes_get_the_same_job(store: StoreKind, backend: Store, workers: Sessions) -> None:
    jobs = [new_job() for _ in range(300)]
    backend.submit(jobs)
    processes = [workers.process(hammer=7) for _ in range(3)]
    for process in processes:
        process.said()
    for process in processes:
        process.tell("go")
    shares = [process.said()["claimed"] for process in processes]
    assert each_once(chain.from_iterable(shares)) == {job.id for job in jobs}
    assert store.holders() == {job.id: [State.DONE] for job in jobs}


def test_jobs_submitted_by_several_threads_while_workers_claim_are_each_run_once(
    store: StoreKind, workers: Sessions
) -> None:
    jobs = [[new_job(priority=n % 10) for n in range(40)] for _ in range(3)]
    sessions = [workers.join() for _ in range(2)]
    claimed: list[str] = []

    def submit_all(mine: list[Job]) -> None:
        backend = store.open()
        for job in mine:
            backend.submit([job])

    def work(session: Session) -> None:
        def all_are_claimed() -> bool:
            for claim in session.claim(2):
                claimed.append(claim.job.id)
                finish(session, claim, Succeeded())
            return len(claimed) >= 120

        wait_until(all_are_claimed)

    with ThreadPoolExecutor(5) as pool:
        done = [*pool.map(submit_all, jobs), *pool.map(work, sessions)]
    assert len(done) == 5
    assert each_once(claimed) == {job.id for mine in jobs for job in mine}


# What became of it

ENDINGS: list[tuple[Outcome, Policy, State]] = [
    (Succeeded(msgspec.Raw(b'{"sent":1}')), POLICY, State.DONE),
    (Succeeded(msgspec.Raw(b"null")), POLICY, State.DONE),
    (Raised(WRONG, final=True), POLICY, State.FAILED),
    (Refused(WRONG), POLICY, State.FAILED),
    (TimedOut(timedelta(seconds=30), exit=-9), replace(POLICY, retries=0), State.FAILED),
    (Crashed(WRONG, exit=-11), replace(POLICY, retries=0), State.FAILED),
    (Cancelled("ann"), POLICY, State.CANCELLED),
    (RAISED, POLICY, State.QUEUED),
    (RAISED, replace(POLICY, retry_delay=timedelta(hours=1)), State.SCHEDULED),
    (Raised(WRONG, asked=True, retry_in=FAR), POLICY, State.SCHEDULED),
    (TimedOut(timedelta(seconds=30)), POLICY, State.QUEUED),
    (Interrupted(), POLICY, State.QUEUED),
]


@pytest.mark.parametrize(("outcome", "policy", "state"), ENDINGS)
def test_what_became_of_a_job_is_kept(
    store: StoreKind, backend: Store, workers: Sessions, *, outcome: Outcome, policy: Policy, state: State
) -> None:
    job = new_job(retries=policy.retries)
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    job = finish(session, claim, outcome, policy=policy)
    assert job.state is state
    kept = got(store.open(), job.id)
    assert told(kept) == told(job)
    assert kept.finished_at == job.finished_at
    assert kept.attempts == job.attempts
    assert store.holders() == {job.id: [State.QUEUED if state is State.SCHEDULED else state]}


def test_a_job_that_may_not_run_any_more_fails_without_an_attempt(backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    refused = stored(session, claim, lifecycle.failed(JobError(type="not-allowed", message="Mail.send")))
    assert told(got(backend, job.id)) == told(refused)
    assert got(backend, job.id).attempts == ()


def test_another_attempt_is_scheduled_for_exactly_its_moment(backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    again = finish(session, claim, RAISED, policy=replace(POLICY, retry_delay=timedelta(milliseconds=300)))
    assert got(backend, job.id).not_before == again.not_before
    assert session.claim(1) == []
    (claim,) = claim_all(session, 1)
    assert now() >= again.not_before
    assert claim.job.not_before == again.not_before


def test_a_job_is_tried_until_its_retries_are_used_up_and_every_attempt_is_kept(
    backend: Store, workers: Sessions
) -> None:
    job = new_job(retries=4)
    backend.submit([job])
    for charged in range(1, 6):
        session = workers.join()  # by another worker each time
        (claim,) = claim_all(session, 1)
        assert claim.job.charged == charged - 1
        job = finish(session, claim, RAISED)
        assert told(got(backend, job.id)) == told(job)
    assert job.state is State.FAILED
    assert [attempt.number for attempt in got(backend, job.id).attempts] == [1, 2, 3, 4, 5]


def test_a_job_that_keeps_failing_at_length_never_becomes_corrupt(backend: Store, workers: Sessions) -> None:
    job = new_job(retries=1000)
    backend.submit([job])
    session = workers.join()
    long = Raised(JobError(type="OSError", message="m" * 4_000, traceback="t" * 64_000), ("OSError",))
    for _ in range(150):
        (claim,) = claim_all(session, 1)
        job = finish(session, claim, long)
    kept = got(backend, job.id)
    assert (kept.state, kept.charged) == (State.QUEUED, 150)
    assert kept.error is not None
    assert kept.error.type == "OSError"
    assert backend.counts()[State.CORRUPT] == 0


def test_an_interrupted_attempt_is_kept_but_not_charged(backend: Store, workers: Sessions) -> None:
    job = new_job(retries=0)
    backend.submit([job])
    session = workers.join()
    for number in range(1, 4):
        (claim,) = claim_all(session, 1)
        finish(session, claim, Interrupted())
        kept = got(backend, job.id)
        assert (kept.state, kept.charged, len(kept.attempts)) == (State.QUEUED, 0, number)
        assert {attempt.outcome for attempt in kept.attempts} == {"interrupted"}


def test_a_job_that_is_given_back_is_as_it_was(backend: Store, workers: Sessions) -> None:
    old, new = new_job(), new_job()
    submit(backend, old, new)
    session = workers.join()
    claim, _ = claim_all(session, 2)
    session.release(claim)
    assert backend.get(old.id) == old
    (again,) = claim_all(session, 1)
    assert again.job == claim.job


def test_a_job_that_is_given_back_is_no_younger_for_it(store: StoreKind, backend: Store, workers: Sessions) -> None:
    jobs = [new_job() for _ in range(4)]
    submit(backend, *jobs)
    session, other = workers.join(), workers.join()
    first, second = claim_all(session, 2)
    assert ids(other, 1) == [jobs[2].id]
    session.release(second)
    session.release(first)
    store.settle()
    assert [claim.job.id for claim in claim_all(other, 3)] == [jobs[0].id, jobs[1].id, jobs[3].id]


def test_jobs_that_are_given_back_one_after_the_other_are_claimed_by_age(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    a, b, c, d = submit(backend, *(new_job() for _ in range(4)))
    session, other = workers.join(), workers.join()
    claims = {claim.job.id: claim for claim in claim_all(session, 4)}
    session.release(claims[b])
    session.release(claims[d])
    store.settle()
    assert ids(other, 1) == [b]
    session.release(claims[c])
    session.release(claims[a])
    store.settle()
    assert ids(other, 3) == [a, c, d]


def of_a_clock_ahead() -> Job:
    """Return a job that was submitted, to run at once, by a process whose clock goes an hour ahead of ours."""
    job = new_job()
    ahead = job.submitted_at + timedelta(hours=1)
    return replace(job, submitted_at=ahead, not_before=ahead)


def test_a_job_that_may_run_at_once_does_so_whatever_the_clock_of_its_submitter_said(
    backend: Store, workers: Sessions
) -> None:
    job = of_a_clock_ahead()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    session.release(claim)
    assert got(backend, job.id).state is State.QUEUED
    (claim,) = claim_all(session, 1)
    finish(session, claim, Interrupted())
    assert got(backend, job.id).state is State.QUEUED
    assert len(claim_all(session, 1)) == 1


# Ended jobs, and claims that were lost


def test_what_is_stored_of_an_ended_job_never_changes(store: StoreKind, backend: Store, workers: Sessions) -> None:
    submit(backend, *(new_job() for _ in range(3)))
    session = workers.join()
    claims = claim_all(session, 3)
    finish(session, claims[0], Succeeded())
    finish(session, claims[1], Raised(WRONG, final=True))
    finish(session, claims[2], Cancelled("ann"))
    before = store.ended()
    assert len(before) == 3
    for claim in claims:
        backend.cancel(claim.job.id, "bob")
        with pytest.raises(ClaimLostError):
            finish(session, claim, Succeeded(), running=lifecycle.started(claim.job, worker="w", at=now()))
        with pytest.raises(ClaimLostError):
            session.release(claim)
    session.renew({})
    assert store.ended() == before


def test_a_claim_that_was_given_back_is_not_ours_any_more(store: StoreKind, backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session, other = workers.join(), workers.join()
    (claim,) = claim_all(session, 1)
    session.release(claim)
    claim_all(other, 1)
    with pytest.raises(ClaimLostError):
        finish(session, claim, Succeeded(), running=lifecycle.started(claim.job, worker="w", at=now()))
    with pytest.raises(ClaimLostError):
        session.release(claim)
    assert store.holders() == {job.id: [State.RUNNING]}
    assert got(backend, job.id).attempts == ()


# Leaving


def test_a_worker_that_leaves_leaves_no_trace(store: StoreKind, backend: Store, workers: Sessions) -> None:
    submit(backend, new_job(), new_job())
    session = workers.join()
    done, back = claim_all(session, 2)
    session.renew({done.job.id: Progress(done=1)})
    finish(session, done, Succeeded())
    session.release(back)
    workers.leave(session)
    assert backend.workers() == []
    assert backend.unfinished(now()).claimed is False
    other = workers.join()
    assert list(other.recover()) == []
    assert [claim.job.id for claim in claim_all(other, 1)] == [back.job.id]


def test_a_claim_that_a_worker_could_not_end_before_it_left_is_recovered(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    claim_all(session, 1)
    workers.leave(session)
    other = workers.join()
    wait_until(lambda: list(other.recover()) == [] and got(backend, job.id).state is State.QUEUED)
    assert store.holders() == {job.id: [State.QUEUED]}


def test_young_ended_jobs_are_kept_and_old_ones_are_not(backend: Store, workers: Sessions) -> None:
    submit(backend, *(new_job() for _ in range(3)))
    session = workers.join()
    claims = claim_all(session, 3)
    outcomes: list[Outcome] = [Succeeded(), Raised(WRONG, final=True), Cancelled()]
    for claim, outcome in zip(claims, outcomes, strict=True):
        finish(session, claim, outcome)
    assert sum(session.tidy(keep_done=timedelta(seconds=1), keep_failed=timedelta(seconds=1))) == 0
    assert backend.counts()[State.DONE] == 1
    ago = -timedelta(hours=3)  # as if it were three hours later
    assert sum(session.tidy(keep_done=ago, keep_failed=FAR)) == 1
    assert [backend.get(claim.job.id) is None for claim in claims] == [True, False, False]
    assert sum(session.tidy(keep_done=ago, keep_failed=ago)) == 2
    assert backend.counts() == dict.fromkeys(State, 0)
