"""What every store promises to whoever does not want to wait for a delayed job: it may start, and stays one job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs.ids import new_id
from bgjobs.job import Interrupted, JobError, Raised, State, Succeeded
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
    recover_all,
    told,
    wait_until,
)

if TYPE_CHECKING:
    from bgjobs.store import Store
    from tests.contract.stores import Sessions, StoreKind

RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError", "Exception"))
LATER = replace(POLICY, retry_delay=FAR)


def test_a_delayed_job_may_start_at_once_with_its_priority(store: StoreKind, backend: Store, workers: Sessions) -> None:
    job, other = new_job(delay=FAR, priority=7), new_job(delay=FAR, priority=7)
    backend.submit([job, other])
    session = workers.join()
    assert session.claim(2) == []
    before = now()
    assert backend.run_now(job.id, "ann@web1") == "now"
    kept = got(store.open(), job.id)
    assert before <= kept.not_before <= now()
    assert told(kept) == told(replace(job, state=State.QUEUED, not_before=kept.not_before))
    store.settle()
    (claim,) = claim_all(session, 1)
    assert (claim.job.id, claim.job.priority) == (job.id, 7)
    assert finish(session, claim, Succeeded()).state is State.DONE
    assert store.holders() == {job.id: [State.DONE], other.id: [State.QUEUED]}
    assert got(backend, other.id).state is State.SCHEDULED


def test_a_waiting_worker_is_rung(backend: Store, workers: Sessions) -> None:
    job = new_job(delay=FAR)
    backend.submit([job])
    session = workers.join()
    session.bell.rang()
    assert backend.run_now(job.id) == "now"
    wait_until(session.bell.rang)


def test_a_job_that_waits_for_another_attempt_starts_with_its_history(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    again = finish(session, claim_all(session, 1)[0], RAISED, policy=LATER)
    assert backend.run_now(job.id) == "now"
    kept = got(backend, job.id)
    assert (kept.state, kept.charged) == (State.QUEUED, 1)
    assert kept.attempts == again.attempts
    store.settle()
    assert finish(session, claim_all(session, 1)[0], Succeeded()).charged == 2


def test_jobs_that_may_start_run_or_have_ended_are_left_as_they_are(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    queued, running, done = new_job(priority=1), new_job(), new_job(priority=9)
    backend.submit([queued, running, done])
    session = workers.join()
    claims = claim_all(session, 2)
    finish(session, claims[0], Succeeded())
    begin(session, claims[1])
    before = [got(backend, job.id) for job in (queued, running, done)]
    answers = [backend.run_now(job.id) for job in (queued, running, done)]
    assert answers == ["already due", "running", "too late"]
    assert backend.run_now(new_id()) == "unknown"
    assert [got(backend, job.id) for job in (queued, running, done)] == before
    finish(session, claims[1], Interrupted(), running=got(backend, running.id))


def test_asking_twice_is_asking_once(backend: Store) -> None:
    job = new_job(delay=FAR)
    backend.submit([job])
    assert [backend.run_now(job.id), backend.run_now(job.id)] == ["now", "already due"]


def test_the_delay_stays_dropped_when_the_worker_that_had_set_it_claims_the_job_and_dies(
    backend: Store, workers: Sessions, store: StoreKind
) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join()
    failed = finish(session, claim_all(session, 1)[0], RAISED, policy=LATER)
    ended = failed.attempts[-1].finished_at
    assert ended is not None
    wait_until(lambda: now() > ended)
    assert backend.run_now(job.id) == "now"
    store.settle()
    (claim,) = claim_all(session, 1)
    assert claim.job.id == job.id
    workers.abandon(session)
    assert recover_all(backend, workers.join()) == []
    kept = got(backend, job.id)
    assert (kept.state, kept.charged, kept.crashes) == (State.QUEUED, 1, 0)
    assert kept.not_before == claim.job.not_before


def test_each_job_runs_once_however_many_drop_its_delay_or_cancel_it(store: StoreKind, workers: Sessions) -> None:
    jobs = [new_job(delay=FAR, priority=number % 3) for number in range(60)]
    store.open().submit(jobs)
    session = workers.join()

    def drop_delays(backwards: bool) -> list[str]:
        backend = store.open()
        return [backend.run_now(job.id) for job in (reversed(jobs) if backwards else jobs)]

    def cancel_some() -> list[str]:
        backend = store.open()
        return [backend.cancel(job.id, "ann") for job in jobs[::7]]

    def claim_everything() -> list[str]:
        backend, found = store.open(), []
        while any(not got(backend, job.id).state.ended for job in jobs):
            for claim in session.claim(3):
                found.append(claim.job.id)
                finish(session, claim, Succeeded())
        return found

    with ThreadPoolExecutor(4) as pool:
        dropping = [pool.submit(drop_delays, backwards) for backwards in (False, True)]
        cancelling, claiming = pool.submit(cancel_some), pool.submit(claim_everything)
    answers = [future.result() for future in dropping]
    cancelling.result()
    claimed = each_once(claiming.result())
    assert {answer for found in answers for answer in found} <= {"now", "already due", "running", "too late"}
    for job, *given in zip(jobs, answers[0], reversed(answers[1]), strict=True):
        assert given.count("now") <= 1
        assert store.holders()[job.id] == [State.DONE if job.id in claimed else State.CANCELLED]
