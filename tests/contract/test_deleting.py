"""What every store promises to whoever deletes jobs: those that ended go with all that they printed, no other does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bgjobs.ids import new_id
from bgjobs.job import Cancelled, Job, JobError, Outcome, Raised, State, Succeeded
from tests.contract.stores import FAR, begin, claim_all, finish, got, new_job, now, output_of, wait_until
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from bgjobs.store import Session, Store
    from tests.contract.stores import Sessions, StoreKind

WRONG = JobError(type="OSError", message="no answer")
ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
OUTCOMES: list[Outcome] = [Succeeded(), Raised(WRONG, final=True), Cancelled("ann")]


def ended(backend: Store, session: Session, outcome: Outcome) -> Job:
    """Return a job that has just ended so."""
    job = new_job()
    backend.submit([job])
    (claim,) = claim_all(session, 1)
    path = output_of(session, claim)
    path.parent.mkdir(exist_ok=True)
    path.write_text("printed", encoding="utf-8")
    gone = finish(session, claim, outcome)
    finished = gone.finished_at
    assert finished is not None
    wait_until(lambda: now() > finished)
    return gone


# One job


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_ended_job_goes_with_all_that_it_printed(
    store: StoreKind, backend: Store, workers: Sessions, outcome: Outcome
) -> None:
    session = workers.join()
    job, other = ended(backend, session, outcome), ended(backend, session, outcome)
    assert backend.read_output(job, 1)
    assert backend.delete(job.id) == "deleted"
    assert backend.get(job.id) is None
    assert backend.read_output(job, 1) == b""
    assert store.holders() == {other.id: [other.state]}
    assert backend.read_output(other, 1)
    assert backend.delete(job.id) == "unknown"


def test_a_job_that_was_cancelled_before_it_began_can_be_deleted(store: StoreKind, backend: Store) -> None:
    job = new_job()
    backend.submit([job])
    backend.cancel(job.id, "ann")
    assert backend.delete(job.id) == "deleted"
    assert store.holders() == {}


def test_a_job_that_has_not_ended_is_not_deleted(store: StoreKind, backend: Store, workers: Sessions) -> None:
    running, queued, delayed = new_job(priority=9), new_job(), new_job(delay=FAR)
    backend.submit([running, queued, delayed])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    job = begin(session, claim)
    before = store.holders()
    assert [backend.delete(one.id) for one in (running, queued, delayed)] == ["not ended"] * 3
    assert backend.delete(new_id()) == "unknown"
    assert store.holders() == before
    assert finish(session, claim, Succeeded(), running=job).state is State.DONE


@pytest.mark.skipif(ON_WINE, reason="Wine lets a file be deleted twice while somebody reads it")
def test_of_several_that_delete_a_job_one_does(store: StoreKind, backend: Store, workers: Sessions) -> None:
    session = workers.join()
    jobs = [ended(backend, session, Succeeded()) for _ in range(10)]

    def delete_all() -> list[str]:
        theirs = store.open()
        return [theirs.delete(job.id) for job in jobs]

    with ThreadPoolExecutor(3) as pool:
        answers = [future.result() for future in [pool.submit(delete_all) for _ in range(3)]]
    for given in zip(*answers, strict=True):
        assert sorted(given) == ["deleted", "unknown", "unknown"]
    assert store.holders() == {}


def test_cancelling_and_deleting_at_once_is_no_trouble(store: StoreKind) -> None:
    jobs = [new_job() for _ in range(60)]
    store.open().submit(jobs)

    def cancel_all() -> list[str]:
        backend = store.open()
        return [backend.cancel(job.id, "ann") for job in jobs]

    def delete_all() -> None:
        backend = store.open()
        for job in jobs:
            while backend.delete(job.id) != "deleted":
                pass

    with ThreadPoolExecutor(2) as pool:
        cancelling, deleting = pool.submit(cancel_all), pool.submit(delete_all)
    deleting.result()
    assert cancelling.result() == ["cancelled"] * len(jobs)
    assert store.holders() == {}


# By age


def test_jobs_that_ended_before_the_moment_go_and_later_ones_stay(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    session = workers.join()
    old = [ended(backend, session, outcome) for outcome in OUTCOMES]
    moment = now()
    young = [ended(backend, session, outcome) for outcome in OUTCOMES]
    assert backend.prune(ENDED, moment, dry_run=True) == 3
    assert len(store.holders()) == 6
    assert backend.prune(ENDED, moment) == 3
    assert store.holders() == {job.id: [job.state] for job in young}
    assert [bool(backend.read_output(job, 1)) for job in (*old, *young)] == [False] * 3 + [True] * 3
    assert backend.prune(ENDED, moment) == 0


def test_whole_hours_go_as_well(store: StoreKind, backend: Store, workers: Sessions) -> None:
    session = workers.join()
    for outcome in OUTCOMES:
        ended(backend, session, outcome)
    later = now() + timedelta(hours=3)
    assert backend.prune(ENDED, later, dry_run=True) == 3
    assert len(store.holders()) == 3
    assert backend.prune(ENDED, later) == 3
    assert store.holders() == {}
    assert backend.counts() == dict.fromkeys(State, 0)


def test_only_the_named_states_are_pruned(store: StoreKind, backend: Store, workers: Sessions) -> None:
    session = workers.join()
    done, failed, cancelled = (ended(backend, session, outcome) for outcome in OUTCOMES)
    assert backend.prune({State.FAILED}, now() + FAR) == 1
    assert store.holders() == {done.id: [State.DONE], cancelled.id: [State.CANCELLED]}
    assert failed.state is State.FAILED


def test_jobs_that_have_not_ended_are_never_pruned(store: StoreKind, backend: Store, workers: Sessions) -> None:
    running, queued, delayed = new_job(priority=9), new_job(), new_job(delay=FAR)
    backend.submit([running, queued, delayed])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert backend.prune(frozenset(State), now() + FAR) == 0
    assert store.holders().keys() == {running.id, queued.id, delayed.id}
    session.release(claim)
    assert got(backend, running.id).state is State.QUEUED
