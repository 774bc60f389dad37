"""What every store promises to whoever cancels a job: exactly one final state, and a true answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs.ids import new_id
from bgjobs.job import Cancelled, Crashed, Interrupted, JobError, Outcome, Raised, State, Succeeded
from tests.contract.stores import FAR, POLICY, begin, claim_all, each_once, finish, got, new_job, told, wait_until

if TYPE_CHECKING:
    from datetime import timedelta

    from bgjobs.lifecycle import Policy
    from bgjobs.store import Store
    from tests.contract.stores import Sessions, StoreKind

WRONG = JobError(type="OSError", message="no answer")
RAISED = Raised(WRONG, ("OSError", "Exception"))
LATER = replace(POLICY, retry_delay=FAR)
BY_ANN = JobError(type="Cancelled", message="by ann@web1")


@pytest.mark.parametrize("delay", [0 * FAR, FAR])
def test_a_job_that_has_not_begun_is_cancelled_at_once(store: StoreKind, backend: Store, delay: timedelta) -> None:
    job = new_job(delay=delay)
    backend.submit([job])
    assert backend.cancel(job.id, "ann@web1") == "cancelled"
    kept = got(store.open(), job.id)
    assert (kept.state, kept.error, kept.attempts, kept.charged) == (State.CANCELLED, BY_ANN, (), 0)
    assert kept.finished_at is not None
    assert store.holders() == {job.id: [State.CANCELLED]}


def test_a_cancelled_job_is_never_claimed(store: StoreKind, backend: Store, workers: Sessions) -> None:
    gone, left = new_job(priority=9), new_job()
    backend.submit([gone, left])
    session = workers.join()
    assert backend.cancel(gone.id, "ann") == "cancelled"
    store.settle()
    assert [claim.job.id for claim in session.claim(10)] == [left.id]


def test_a_job_that_waits_for_another_attempt_is_cancelled_with_its_history(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    again = finish(session, claim_all(session, 1)[0], RAISED, policy=LATER)
    assert backend.cancel(job.id, "ann@web1") == "cancelled"
    kept = got(backend, job.id)
    assert (kept.state, kept.error, kept.charged) == (State.CANCELLED, BY_ANN, 1)
    assert kept.attempts == again.attempts
    assert store.holders() == {job.id: [State.CANCELLED]}


def test_an_ended_job_is_too_late_to_cancel_and_stays_as_it_is(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    jobs = [new_job() for _ in range(3)]
    backend.submit(jobs)
    session = workers.join()
    outcomes: list[Outcome] = [Succeeded(), Cancelled(), Raised(WRONG, final=True)]
    for claim, outcome in zip(claim_all(session, 3), outcomes, strict=True):
        finish(session, claim, outcome)
    before = store.ended()
    assert [backend.cancel(job.id, "ann") for job in jobs] == ["too late"] * 3
    assert store.ended() == before
    assert session.renew({}) == {}


def test_a_job_that_was_cancelled_cannot_be_cancelled_again(store: StoreKind, backend: Store) -> None:
    job = new_job()
    backend.submit([job])
    assert backend.cancel(job.id, "ann") == "cancelled"
    before = store.ended()
    assert backend.cancel(job.id, "bob") == "too late"
    assert store.ended() == before


def test_a_job_that_does_not_exist_is_unknown(store: StoreKind, backend: Store) -> None:
    assert backend.cancel(new_id(), "ann") == "unknown"
    assert store.holders() == {}


@pytest.mark.parametrize("is_begun", [True, False])
def test_the_worker_that_holds_a_job_is_asked_and_nobody_else(
    store: StoreKind, backend: Store, workers: Sessions, is_begun: bool
) -> None:
    jobs = [new_job(), new_job()]
    backend.submit(jobs)
    session, other = workers.join(), workers.join()
    claims = claim_all(session, 1) + claim_all(other, 1)
    running = begin(session, claims[0]) if is_begun else claims[0].job
    assert session.renew({}) == {}
    assert backend.cancel(jobs[0].id, "ann@web1") == "requested"
    assert session.renew({}) == {jobs[0].id: "ann@web1"}
    assert other.renew({}) == {}
    assert got(backend, jobs[0].id).state is State.RUNNING
    assert store.holders()[jobs[0].id] == [State.RUNNING]
    if is_begun:
        ended = finish(session, claims[0], Cancelled("ann@web1"), running=running)
        assert told(got(backend, jobs[0].id)) == told(ended)
    else:
        session.release(claims[0])
    assert got(backend, jobs[0].id).state is State.CANCELLED
    assert got(backend, jobs[0].id).error == BY_ANN


def test_the_waiting_worker_is_rung(backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    claim_all(session, 1)
    session.bell.rang()
    backend.cancel(job.id, "ann")
    assert session.bell.rang()


def test_asking_twice_is_asking_once(backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    claim_all(session, 1)
    assert [backend.cancel(job.id, by) for by in ("ann", "bob")] == ["requested", "requested"]
    assert session.renew({}) == {job.id: "ann"}


@pytest.mark.parametrize("was_seen", [True, False])
def test_a_request_to_cancel_that_came_too_late_is_removed(backend: Store, workers: Sessions, was_seen: bool) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    running = begin(session, claim)
    assert backend.cancel(job.id, "ann") == "requested"
    if was_seen:
        assert session.renew({}) == {job.id: "ann"}
    finish(session, claim, Succeeded(), running=running)
    assert got(backend, job.id).state is State.DONE
    wait_until(lambda: session.renew({}) == {})


RETURNS: list[Outcome] = [RAISED, Interrupted(), Crashed(WRONG, exit=-9)]


@pytest.mark.parametrize("was_seen", [True, False])
@pytest.mark.parametrize("policy", [POLICY, LATER])
@pytest.mark.parametrize("outcome", RETURNS)
def test_a_request_to_cancel_during_a_return_to_the_queue_cancels_the_job(
    store: StoreKind, backend: Store, workers: Sessions, *, outcome: Outcome, policy: Policy, was_seen: bool
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    running = begin(session, claim)
    assert backend.cancel(job.id, "ann@web1") == "requested"
    if was_seen:
        session.renew({})
    back = finish(session, claim, outcome, policy=policy, running=running)
    assert not back.state.ended
    kept = got(backend, job.id)
    assert (kept.state, kept.error, kept.charged) == (State.CANCELLED, BY_ANN, back.charged)
    assert store.holders() == {job.id: [State.CANCELLED]}
    assert session.renew({}) == {}
    assert session.claim(1) == []


def test_a_request_to_cancel_a_job_that_is_being_released_cancels_it(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert backend.cancel(job.id, "ann@web1") == "requested"
    session.release(claim)
    assert got(backend, job.id).state is State.CANCELLED
    assert got(backend, job.id).attempts == ()
    assert store.holders() == {job.id: [State.CANCELLED]}


def test_a_cancelled_job_and_a_claimed_one_are_never_the_same(store: StoreKind, workers: Sessions) -> None:
    jobs = [new_job(priority=n % 3) for n in range(120)]
    store.open().submit(jobs)
    session = workers.join()

    def cancel_all() -> dict[str, str]:
        backend = store.open()
        return {job.id: backend.cancel(job.id, "ann") for job in reversed(jobs)}

    def claim_everything() -> list[str]:
        backend, found = store.open(), []
        while backend.counts()[State.QUEUED]:
            for claim in session.claim(2):
                found.append(claim.job.id)
                finish(session, claim, Succeeded())
        return found

    with ThreadPoolExecutor(2) as pool:
        cancelling, claiming = pool.submit(cancel_all), pool.submit(claim_everything)
    answers, claimed = cancelling.result(), each_once(claiming.result())
    cancelled = {job_id for job_id, answer in answers.items() if answer == "cancelled"}
    assert not cancelled & claimed
    assert cancelled | claimed == {job.id for job in jobs}
    for job in jobs:
        expected = State.CANCELLED if job.id in cancelled else State.DONE
        assert got(store.open(), job.id).state is expected
        assert store.holders()[job.id] == [expected]
        assert answers[job.id] in {"cancelled", "requested", "too late"}


def test_a_job_that_is_cancelled_while_it_fails_and_returns_ends_cancelled_if_that_was_the_answer(
    store: StoreKind, workers: Sessions
) -> None:
    jobs = [new_job(retries=1_000) for _ in range(30)]
    backend = store.open()
    backend.submit(jobs)
    session = workers.join()

    def fail_on_and_on() -> None:
        while backend.unfinished(jobs[0].submitted_at + FAR).due:
            for claim in session.claim(5):
                finish(session, claim, RAISED)

    def cancel_all() -> dict[str, str]:
        theirs = store.open()
        return {job.id: theirs.cancel(job.id, "ann@web1") for job in jobs}

    with ThreadPoolExecutor(2) as pool:
        failing, cancelling = pool.submit(fail_on_and_on), pool.submit(cancel_all)
    failing.result()
    answers = cancelling.result()
    assert set(answers.values()) <= {"cancelled", "requested"}
    for job in jobs:
        assert got(backend, job.id).state is State.CANCELLED
        assert got(backend, job.id).error == BY_ANN
    assert store.holders() == {job.id: [State.CANCELLED] for job in jobs}
