"""What every store promises of a worker that dies: no job is stuck, runs twice at once, or is charged unjustly."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs import lifecycle, system
from bgjobs.errors import ClaimLostError
from bgjobs.job import JobError, State, Succeeded
from tests.contract.stores import (
    FAR,
    LOST,
    POLICY,
    claim_all,
    decided,
    each_once,
    finish,
    got,
    new_job,
    now,
    recover,
    recover_all,
    stored,
    wait_until,
)

if TYPE_CHECKING:
    from bgjobs.job import Job
    from bgjobs.store import Session, Store
    from tests.contract.stores import Sessions, StoreKind

BY_ANN = JobError(type="Cancelled", message="by ann@web1")


def submitted(backend: Store, count: int, *, retries: int = 3) -> list[str]:
    jobs = [new_job(retries=retries) for _ in range(count)]
    backend.submit(jobs)
    return [job.id for job in jobs]


# What comes back


def test_a_worker_that_leaves_in_the_middle_of_a_recovery_leaves_the_rest_to_the_next_one(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    lost = submitted(backend, 2)
    workers.dead(claim=2, begin=2)
    leaving = workers.join()
    recovery = leaving.recover()
    assert isinstance(recovery, Generator)
    assert next(recovery).job.id in lost
    workers.leave(leaving)
    recovery.close()
    recovered = recover_all(backend, workers.join())
    assert store.holders() == {job_id: [State.QUEUED] for job_id in lost}
    assert len(recovered) == 2


def test_a_job_that_a_dead_worker_had_begun_is_lost_and_runs_again_at_once(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    (job_id,) = submitted(backend, 1)
    before = got(backend, job_id)
    (wid,) = workers.dead(claim=1, begin=1)["id"]
    assert got(backend, job_id).state is State.RUNNING
    session = workers.join()
    (claim,) = session.recover()
    assert claim.leftover
    assert claim.job.charged == 1
    assert claim.job.attempts[-1].outcome == ""
    assert claim.job.attempts[-1].worker.startswith("web1:")
    stored(session, claim, decided(claim.job, LOST))
    kept = got(backend, job_id)
    assert (kept.state, kept.charged, kept.crashes) == (State.QUEUED, 0, 1)
    assert kept.not_before == before.not_before
    assert [attempt.outcome for attempt in kept.attempts] == ["crashed"]
    recover_all(backend, session)
    assert wid not in {worker.id for worker in backend.workers()}
    (again,) = claim_all(session, 1)
    done = finish(session, again, Succeeded())
    assert (done.charged, done.crashes, len(done.attempts)) == (1, 1, 2)
    assert store.holders() == {job_id: [State.DONE]}


def test_a_job_that_a_dead_worker_had_not_begun_returns_uncharged(backend: Store, workers: Sessions) -> None:
    jobs = [new_job(), new_job(priority=8)]
    backend.submit(jobs)
    workers.dead(claim=2)
    session = workers.join()
    assert recover_all(backend, session) == []
    for job in jobs:
        assert backend.get(job.id) == job
    assert [claim.job.id for claim in claim_all(session, 2)] == [jobs[1].id, jobs[0].id]


@pytest.mark.parametrize("begun", [0, 1], ids=["not begun", "begun"])
def test_idle_workers_wake_up_for_a_job_that_comes_back_from_a_dead_one(
    backend: Store, workers: Sessions, begun: int
) -> None:
    submitted(backend, 1)
    workers.dead(claim=1, begin=begun)
    session, idle = workers.join(), workers.join()
    session.bell.rang()
    idle.bell.rang()
    assert len(recover_all(backend, session)) == begun
    wait_until(session.bell.rang)
    wait_until(idle.bell.rang)


def test_of_the_jobs_of_a_dead_worker_only_the_begun_ones_are_lost(backend: Store, workers: Sessions) -> None:
    ids = submitted(backend, 6)
    workers.dead(claim=5, begin=2)
    lost = recover_all(backend, workers.join())
    assert sorted(job.id for job in lost) == ids[:2]
    assert [got(backend, job_id).crashes for job_id in ids] == [1, 1, 0, 0, 0, 0]
    assert backend.counts()[State.QUEUED] == 6


@pytest.mark.parametrize(
    ("ending", "state", "charged"),
    [("done", State.DONE, 1), ("retry", State.SCHEDULED, 1), ("back", State.QUEUED, 0)],
)
def test_what_a_dead_worker_had_decided_is_only_carried_out(
    store: StoreKind, backend: Store, workers: Sessions, *, ending: str, state: State, charged: int
) -> None:
    ids = submitted(backend, 2)
    workers.dead(claim=2, begin=2, decide=ending)
    assert {got(backend, job_id).state for job_id in ids} == {State.RUNNING}
    assert recover_all(backend, workers.join()) == []
    for job_id in ids:
        kept = got(backend, job_id)
        assert (kept.state, kept.charged, kept.crashes, len(kept.attempts)) == (state, charged, 0, 1)
        assert (kept.not_before > now()) == (state is State.SCHEDULED)
        assert store.holders()[job_id] == [State.QUEUED if state is State.SCHEDULED else state]


def test_a_job_that_kills_its_workers_waits_from_the_second_time_on_and_fails_in_the_end(
    backend: Store, workers: Sessions
) -> None:
    (job_id,) = submitted(backend, 1, retries=0)
    session = workers.join()
    states = []
    for _ in range(3):
        workers.dead(claim=1, begin=1)
        (job,) = recover_all(backend, session, policy=POLICY)
        states.append((job.state, got(backend, job_id).crashes))
    assert states == [(State.QUEUED, 1), (State.QUEUED, 2), (State.FAILED, 3)]
    kept = got(backend, job_id)
    assert (kept.charged, kept.crashes) == (0, 3)
    assert kept.error is not None
    assert kept.error.type == "WorkerLost"


def test_a_lost_job_is_scheduled_for_exactly_the_moment_that_was_decided(backend: Store, workers: Sessions) -> None:
    (job_id,) = submitted(backend, 1)
    session = workers.join()
    for crashes in (1, 2):
        workers.dead(claim=1, begin=1)
        (job,) = recover_all(backend, session, policy=replace(POLICY, retry_delay=FAR, max_retry_delay=FAR))
        assert got(backend, job_id).not_before == job.not_before
        assert got(backend, job_id).crashes == crashes
    assert got(backend, job_id).state is State.SCHEDULED


def test_the_runner_of_a_dead_worker_is_dead_before_its_job_can_run_again(backend: Store, workers: Sessions) -> None:
    submitted(backend, 1)
    pid, birth = workers.dead(claim=1, begin=1, runner=1)["runner"]
    assert system.birth(int(pid)) == birth
    session = workers.join()
    for claim in session.recover():
        assert system.birth(int(pid)) != birth
        stored(session, claim, decided(claim.job, LOST))
    assert backend.counts()[State.QUEUED] == 1


def test_several_dead_workers_are_recovered(backend: Store, workers: Sessions) -> None:
    ids = submitted(backend, 6)
    for _ in range(3):
        workers.dead(claim=2, begin=1)
    assert len(recover_all(backend, workers.join())) == 3
    assert backend.counts()[State.QUEUED] == 6
    assert sum(got(backend, job_id).crashes for job_id in ids) == 3


def test_a_dead_worker_that_held_nothing_vanishes(backend: Store, workers: Sessions) -> None:
    workers.dead()
    session = workers.join()
    assert recover_all(backend, session) == []
    assert [worker.id for worker in backend.workers()] == [session.id]


# Cancelling what a dead worker holds


@pytest.mark.parametrize(("begun", "ending"), [(0, None), (1, None), (1, "retry"), (1, "back")])
def test_a_request_to_cancel_a_job_of_a_dead_worker_cancels_it(
    store: StoreKind, backend: Store, workers: Sessions, begun: int, ending: str | None
) -> None:
    (job_id,) = submitted(backend, 1)
    workers.dead(claim=1, begin=begun, **({"decide": ending} if ending else {}))
    assert backend.cancel(job_id, "ann@web1") == "requested"
    assert recover_all(backend, workers.join()) == []
    kept = got(backend, job_id)
    assert (kept.state, kept.error, len(kept.attempts)) == (State.CANCELLED, BY_ANN, begun)
    assert store.holders() == {job_id: [State.CANCELLED]}


def test_a_request_to_cancel_what_had_ended_already_changes_nothing(backend: Store, workers: Sessions) -> None:
    (job_id,) = submitted(backend, 1)
    workers.dead(claim=1, begin=1, decide="done")
    assert backend.cancel(job_id, "ann") in {"requested", "too late"}
    recover_all(backend, workers.join())
    assert got(backend, job_id).state is State.DONE


def test_a_request_to_cancel_a_job_that_is_being_recovered_cancels_it(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    (job_id,) = submitted(backend, 1)
    workers.dead(claim=1, begin=1)
    session = workers.join()
    for claim in session.recover():
        assert backend.cancel(job_id, "ann@web1") == "requested"
        stored(session, claim, decided(claim.job, LOST))
    recover_all(backend, session)
    kept = got(backend, job_id)
    assert (kept.state, kept.error, kept.crashes) == (State.CANCELLED, BY_ANN, 1)
    assert store.holders() == {job_id: [State.CANCELLED]}


# Who is not dead


@pytest.mark.skipif(sys.platform == "win32", reason="only POSIX can stop a process")
def test_a_stopped_worker_is_not_robbed(store: StoreKind, backend: Store, workers: Sessions) -> None:
    ids = submitted(backend, 2)
    process = workers.process(claim=2, begin=1)
    (wid,) = process.said()["id"]
    process.send(signal.SIGSTOP)
    session = workers.join()
    for _ in range(20):
        assert recover(session) == []
    assert [worker.alive for worker in backend.workers() if worker.id == wid] == [True]
    assert store.holders() == {job_id: [State.RUNNING] for job_id in ids}
    process.send(signal.SIGCONT)
    process.tell("finish")
    assert process.said() == {"finished": ids[:1]}
    assert got(backend, ids[0]).state is State.DONE
    process.kill()
    recover_all(backend, session)
    assert [got(backend, job_id).crashes for job_id in ids] == [0, 0]
    assert store.holders() == {ids[0]: [State.DONE], ids[1]: [State.QUEUED]}


def test_a_worker_does_not_recover_itself_or_others_that_live(backend: Store, workers: Sessions) -> None:
    ids = submitted(backend, 2)
    one, other = workers.join(), workers.join()
    claim_all(one, 1)
    claim_all(other, 1)
    for session in (one, other):
        assert list(session.recover()) == []
    assert {got(backend, job_id).state for job_id in ids} == {State.RUNNING}


# Recoverers in each other's way


def test_of_three_recoverers_at_once_one_wins(store: StoreKind, backend: Store, workers: Sessions) -> None:
    ids = submitted(backend, 40)
    workers.dead(claim=40, begin=30)
    sessions = [workers.join() for _ in range(3)]
    start = Barrier(3)

    def take_over(session: Session) -> list[Job]:
        start.wait()
        return recover_all(store.open(), session)

    with ThreadPoolExecutor(3) as pool:
        shares = list(pool.map(take_over, sessions))
    assert each_once(job.id for lost in shares for job in lost) == set(ids[:30])
    assert [got(backend, job_id).crashes for job_id in ids] == [1] * 30 + [0] * 10
    assert store.holders() == {job_id: [State.QUEUED] for job_id in ids}


def test_while_one_recovers_the_others_are_kept_out(backend: Store, workers: Sessions) -> None:
    submitted(backend, 2)
    workers.dead(claim=2, begin=2)
    one, other = workers.join(), workers.join()
    recovering = one.recover()
    claim = next(recovering)
    assert list(other.recover()) == []
    stored(one, claim, decided(claim.job, LOST))
    for claim in recovering:
        stored(one, claim, decided(claim.job, LOST))
    assert backend.counts()[State.QUEUED] == 2


@pytest.mark.parametrize("finished", [0, 1])
def test_what_a_recoverer_that_dies_half_way_leaves_is_recovered_by_the_next(
    store: StoreKind, backend: Store, workers: Sessions, finished: int
) -> None:
    ids = submitted(backend, 3)
    workers.dead(claim=3, begin=3)
    first = workers.join()
    recovering = first.recover()
    for _ in range(finished):
        claim = next(recovering)
        stored(first, claim, decided(claim.job, LOST))
    next(recovering)
    recovering.close()  # type: ignore[attr-defined]  # a generator, and this is how one is dropped
    workers.abandon(first)
    assert len(recover_all(backend, workers.join())) == 3 - finished
    assert [got(backend, job_id).crashes for job_id in ids] == [1, 1, 1]
    assert store.holders() == {job_id: [State.QUEUED] for job_id in ids}


def test_a_worker_that_has_lost_its_claim_cannot_finish_the_job(
    store: StoreKind, backend: Store, workers: Sessions
) -> None:
    (job_id,) = submitted(backend, 1)
    dead, session = workers.join(), workers.join()
    (claim,) = claim_all(dead, 1)
    running = lifecycle.started(claim.job, worker="web1:1", at=now())
    workers.abandon(dead)  # it lost its place, but does not know yet
    recover_all(backend, session)
    with pytest.raises(ClaimLostError):
        finish(dead, claim, Succeeded(), running=running)
    assert store.holders() == {job_id: [State.QUEUED]}
    assert got(backend, job_id).state is State.QUEUED


def test_jobs_go_on_while_workers_die(store: StoreKind, backend: Store, workers: Sessions) -> None:
    ids = submitted(backend, 30)
    session = workers.join()
    for _ in range(3):
        workers.dead(claim=4, begin=2)
        for claim in session.claim(3):
            finish(session, claim, Succeeded())
        recover(session)

    def all_are_done() -> bool:
        recover(session)
        for claim in session.claim(10):
            finish(session, claim, Succeeded())
        return backend.counts()[State.DONE] == 30

    wait_until(all_are_done)
    assert store.holders() == {job_id: [State.DONE] for job_id in ids}
    assert sum(got(backend, job_id).crashes for job_id in ids) == 6
