"""What every store promises to anyone: keep jobs, and find them again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from bgjobs.ids import new_id
from bgjobs.job import Cancelled, JobError, Progress, Raised, State, Succeeded
from bgjobs.store import Filter, Selection, Unfinished
from tests.contract.stores import FAR, claim_all, finish, got, new_job, now, output_of, told

if TYPE_CHECKING:
    from bgjobs.job import Job
    from bgjobs.store import Store
    from tests.contract.stores import Sessions, StoreKind

WRONG = JobError(type="shop.GatewayDown", message="no Answer from 10.0.0.1", traceback="Traceback …")


def one_in_each_state(backend: Store, workers: Sessions) -> dict[State, Job]:
    """Bring jobs into every state that a job can be brought into."""
    jobs = [new_job(priority=priority) for priority in (9, 8, 7, 6, 5)]
    later = new_job(delay=FAR)
    backend.submit(jobs)
    backend.submit([later])
    session = workers.join()
    claims = claim_all(session, 4)
    finish(session, claims[0], Succeeded(msgspec.Raw(b'"fine"')))
    finish(session, claims[1], Raised(WRONG, final=True))
    finish(session, claims[2], Cancelled("ann"))
    states = (State.DONE, State.FAILED, State.CANCELLED, State.RUNNING, State.QUEUED)
    return dict(zip(states, jobs, strict=True)) | {State.SCHEDULED: later}


# Submitting


def test_a_submitted_job_is_there_for_every_process(store: StoreKind, backend: Store) -> None:
    job = new_job(args=("Tony", 2, None, [1.5, {"a": True}]), tags=("night",))
    backend.submit([job])
    assert backend.get(job.id) == job
    assert store.open().get(job.id) == job


def test_all_that_a_job_asks_for_is_kept(backend: Store) -> None:
    job = msgspec.structs.replace(
        new_job(delay=FAR),
        kwargs={"name": "Zoë", "x": 2**63},
        retry_delay=timedelta(seconds=1.5),
        timeout=timedelta(milliseconds=1),
        retry_of=new_id(),
        text=True,
    )
    backend.submit([job])
    assert backend.get(job.id) == job


def test_a_delayed_job_is_scheduled(backend: Store) -> None:
    job = new_job(delay=FAR)
    backend.submit([job])
    assert got(backend, job.id).state is State.SCHEDULED
    assert got(backend, job.id).not_before == job.not_before


def test_many_jobs_are_submitted_at_once(store: StoreKind, backend: Store) -> None:
    jobs = [new_job(priority=n % 10, delay=FAR if n % 3 else timedelta(0)) for n in range(60)]
    backend.submit(jobs)
    assert store.holders() == {job.id: [State.QUEUED] for job in jobs}
    assert {job.id: backend.get(job.id) for job in jobs} == {job.id: job for job in jobs}


def test_submitting_nothing_is_nothing(store: StoreKind, backend: Store) -> None:
    backend.submit([])
    assert store.holders() == {}


# Looking


def test_what_was_never_submitted_is_unknown(backend: Store) -> None:
    assert backend.get(new_id()) is None
    backend.submit([new_job()])
    assert backend.get(new_id()) is None


def test_a_job_is_found_in_every_state(backend: Store, workers: Sessions) -> None:
    for state, job in one_in_each_state(backend, workers).items():
        assert got(backend, job.id).state is state
        assert got(backend, job.id).args == job.args


def test_counts_tell_how_many_jobs_are_in_each_state(backend: Store, workers: Sessions) -> None:
    assert backend.counts() == dict.fromkeys(State, 0)
    one_in_each_state(backend, workers)
    backend.submit([new_job(), new_job(), new_job(delay=FAR)])
    expected = dict.fromkeys(State, 1) | {
        State.WAITING: 0,
        State.CORRUPT: 0,
        State.QUEUED: 3,
        State.SCHEDULED: 2,
    }
    assert backend.counts() == expected


def test_an_id_is_found_by_its_end(backend: Store, workers: Sessions) -> None:
    jobs = one_in_each_state(backend, workers)
    for job in jobs.values():
        assert backend.ids(job.id[-8:]) == [job.id]
        assert backend.ids(job.id) == [job.id]
    assert sorted(backend.ids("")) == sorted(job.id for job in jobs.values())
    assert backend.ids("0" * 26) == []


def test_what_a_later_job_retries_is_known_whatever_becomes_of_that(backend: Store, workers: Sessions) -> None:
    first = one_in_each_state(backend, workers)
    ended = [first[state].id for state in (State.DONE, State.FAILED, State.CANCELLED)]
    assert backend.retried(ended) == {}
    retries = [msgspec.structs.replace(new_job(), retry_of=old) for old in ended]
    later = msgspec.structs.replace(new_job(delay=FAR), retry_of=ended[0])
    backend.submit([*retries, new_job()])
    expected = {old: job.id for old, job in zip(ended, retries, strict=True)}
    assert backend.retried(ended) == expected  # while they wait
    session = workers.join()
    claims = {claim.job.id: claim for claim in claim_all(session, 5)}
    assert backend.retried(ended) == expected  # while they run
    finish(session, claims[retries[0].id], Succeeded())
    finish(session, claims[retries[1].id], Raised(WRONG, final=True))
    finish(session, claims[retries[2].id], Cancelled("ann"))
    assert backend.retried(ended) == expected  # once they have ended
    backend.submit([later])
    assert backend.retried(ended) == expected | {ended[0]: later.id}  # the latest one
    assert backend.retried([first[State.RUNNING].id, new_id()]) == {}
    assert backend.retried([]) == {}
    assert backend.delete(retries[1].id) == "deleted"
    assert ended[1] not in backend.retried(ended)


def test_jobs_are_listed_newest_first(backend: Store, workers: Sessions) -> None:
    jobs = one_in_each_state(backend, workers)
    listed = list(backend.jobs(Filter()))
    assert [job.id for job in listed] == sorted((job.id for job in jobs.values()), reverse=True)
    assert {job.id: job.state for job in listed} == {job.id: state for state, job in jobs.items()}


@pytest.mark.parametrize("state", sorted(set(State) - {State.CORRUPT, State.WAITING}))
def test_jobs_are_listed_by_state(backend: Store, workers: Sessions, state: State) -> None:
    jobs = one_in_each_state(backend, workers)
    listed = list(backend.jobs(Filter(states=frozenset({state}))))
    assert [(job.id, job.state) for job in listed] == [(jobs[state].id, state)]


def test_jobs_are_listed_by_class_method_priority_tag_moment_and_error(backend: Store, workers: Sessions) -> None:
    start = now()
    plain = new_job()
    other_class = new_job(class_name="Post", priority=6)
    other_method = new_job(method="drop", tags=("night", "x"))
    failing = new_job(priority=9)
    jobs = [plain, other_class, other_method, failing]
    backend.submit(jobs)
    session = workers.join()
    finish(session, claim_all(session, 1)[0], Raised(WRONG, final=True))

    def listed(**conditions: object) -> set[str]:
        return {job.id for job in backend.jobs(Filter(**conditions))}  # type: ignore[arg-type]  # as a person gives them

    everything = {job.id for job in jobs}
    assert listed() == everything
    assert listed(class_name="Post") == {other_class.id}
    assert listed(method="drop") == {other_method.id}
    assert listed(priority=6) == {other_class.id}
    assert listed(priority=9) == {failing.id}
    assert listed(tag="night") == {other_method.id}
    assert listed(error="gatewaydown: no answer") == {failing.id}
    assert listed(error="10.0.0.2") == set()
    assert listed(since=start) == everything
    assert listed(until=start) == set()
    assert listed(since=failing.submitted_at + timedelta(milliseconds=1)) == set()
    assert listed(until=failing.submitted_at + timedelta(milliseconds=1)) == everything
    assert listed(class_name="Mail", method="send", priority=5) == {plain.id}


def test_the_oldest_job_that_may_start_now_tells_since_when(backend: Store, workers: Sessions) -> None:
    assert backend.oldest_queued() is None
    backend.submit([new_job(delay=FAR)])
    assert backend.oldest_queued() is None
    old, new = new_job(priority=0), new_job(priority=9)
    backend.submit([new])
    backend.submit([old])
    assert backend.oldest_queued() == min(old.not_before, new.not_before)
    claim_all(workers.join(), 2)
    assert backend.oldest_queued() is None


def test_whether_there_is_work_is_known(backend: Store, workers: Sessions) -> None:
    assert backend.unfinished(now()) == Unfinished(due=False, later=False, claimed=False)
    backend.submit([new_job(delay=FAR)])
    assert backend.unfinished(now()) == Unfinished(due=False, later=True, claimed=False)
    assert backend.unfinished(now() + 2 * FAR) == Unfinished(due=True, later=False, claimed=False)
    backend.submit([new_job()])
    assert backend.unfinished(now()) == Unfinished(due=True, later=True, claimed=False)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert backend.unfinished(now()) == Unfinished(due=False, later=True, claimed=True)
    finish(session, claim, Succeeded())
    assert backend.unfinished(now()) == Unfinished(due=False, later=True, claimed=False)


# Workers


def test_workers_are_seen_from_join_to_leave(backend: Store, workers: Sessions) -> None:
    assert backend.workers() == []
    one, other = workers.join(), workers.join()
    assert {worker.id for worker in backend.workers()} == {one.id, other.id}
    for worker in backend.workers():
        assert worker.alive
        assert worker.info.host == "web1"
        assert worker.info.concurrency == 2
    workers.leave(one)
    assert [worker.id for worker in backend.workers()] == [other.id]
    workers.leave(other)
    assert backend.workers() == []


def test_a_dead_worker_is_seen_as_dead(backend: Store, workers: Sessions) -> None:
    (wid,) = workers.dead()["id"]
    assert [(worker.id, worker.alive) for worker in backend.workers()] == [(wid, False)]


def test_progress_of_a_running_job_is_seen_and_gone_when_it_ended_without(backend: Store, workers: Sessions) -> None:
    job = new_job()
    backend.submit([job])
    session = workers.join(Selection())
    (claim,) = claim_all(session, 1)
    session.renew({job.id: Progress(done=3, total=10, message="page 3")})
    assert got(backend, job.id).progress == Progress(done=3, total=10, message="page 3")
    session.renew({job.id: Progress(done=4, total=10, message="page 4")})
    assert got(backend, job.id).progress == Progress(done=4, total=10, message="page 4")
    done = finish(session, claim, Succeeded())
    assert told(got(backend, job.id)) == told(done)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pages_of_jobs_have_no_gaps_and_no_repetitions_however_the_jobs_move(
    backend: Store, workers: Sessions, size: int
) -> None:
    jobs = [new_job(priority=n % 10, delay=FAR if n % 3 else timedelta(0)) for n in range(30)]
    backend.submit(jobs)
    session = workers.join()
    pages: list[list[str]] = []
    before = None
    while page := [job.id for job in backend.jobs(Filter(), before=before, limit=size)]:
        pages.append(page)
        before = page[-1]
        backend.submit([new_job()])  # newer than all that follows
        for claim in claim_all(session, 1):
            finish(session, claim, Succeeded())
        backend.run_now(jobs[1].id)
    assert [job_id for page in pages for job_id in page] == sorted((job.id for job in jobs), reverse=True)
    assert {len(page) for page in pages[:-1]} <= {size}


def test_a_page_begins_after_an_id_that_no_job_has(backend: Store) -> None:
    jobs = [new_job() for _ in range(3)]
    backend.submit(jobs)
    assert [job.id for job in backend.jobs(Filter(), before=new_id(), limit=2)] == [jobs[2].id, jobs[1].id]
    assert list(backend.jobs(Filter(), before=jobs[0].id)) == []


def test_a_job_that_printed_nothing_has_no_output(backend: Store) -> None:
    job = new_job()
    backend.submit([job])
    assert backend.read_output(job, 1) == b""


def test_output_is_read_from_an_offset_on(backend: Store, workers: Sessions) -> None:
    backend.submit([new_job()])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    path = output_of(session, claim)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"printed")
    job = finish(session, claim, Succeeded())
    assert [backend.read_output(job, 1, offset) for offset in (0, 5, 7, 100)] == [b"printed", b"ed", b"", b""]
    assert backend.read_output(job, 2) == b""
