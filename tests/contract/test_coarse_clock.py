"""A clock that goes on every 15.6 ms only, as that of Windows: order, moments and lengths of time hold all the same."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from bgjobs import clock, files, lifecycle
from bgjobs.ids import id_ms, new_id
from bgjobs.job import Interrupted, Job, JobError, Raised, State, Succeeded, milliseconds, moment
from bgjobs.lifecycle import Policy, applied
from bgjobs.spool.cached_listing import UNSURE_NS
from tests.contract import stores
from tests.contract.stores import claim_all, each_once, finish, got, new_job, wait_until

if TYPE_CHECKING:
    from bgjobs.store import Session, Store
    from tests.contract.stores import Sessions, StoreKind

TICK_NS = 15_625_000
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))


@pytest.fixture(autouse=True)
def _ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all clocks that bgjobs looks at go in steps; the finer `perf_counter` is fine on Windows too."""
    time_ns, monotonic = time.time_ns, time.monotonic

    def coarse_ns() -> int:
        return time_ns() // TICK_NS * TICK_NS

    def now() -> datetime:
        return datetime.fromtimestamp(coarse_ns() // 1000 / 1_000_000, UTC)

    monkeypatch.setattr(time, "time_ns", coarse_ns)
    monkeypatch.setattr(time, "time", lambda: coarse_ns() / 1_000_000_000)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() // 0.015625 * 0.015625)
    monkeypatch.setattr(clock, "now", now)
    monkeypatch.setattr(stores, "now", lambda: moment(milliseconds(now())))


def submitted(backend: Store, delay: timedelta = timedelta(0), priority: int = 5) -> Job:
    """Store a job as `Queue.prepare` makes it."""
    at = moment(milliseconds(clock.now()))
    job = Job(
        id=new_id(lane=stores.LANE),
        class_name="Mail",
        method="send",
        priority=priority,
        not_before=at + delay,
        submitted_at=at,
        retries=3,
        state=State.SCHEDULED if delay else State.QUEUED,
    )
    backend.submit([job])
    return job


def in_turn(session: Session, count: int, batch: int) -> list[str]:
    """Claim so many jobs, a few at a time, finish them, and return their ids in the order of the claims."""
    found: list[str] = []

    def all_are_there() -> bool:
        for claim in session.claim(batch):
            found.append(claim.job.id)
            finish(session, claim, Succeeded())
        return len(found) == count

    wait_until(all_are_there)
    return found


def test_the_clock_of_these_tests_is_coarse() -> None:
    seen = {clock.now_ms() for _ in range(1000)}
    assert all(later - earlier >= 15 for earlier, later in pairwise(sorted(seen)))
    assert clock.now().timestamp() * 1_000_000 % (TICK_NS // 1000) == 0


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_what_one_process_submits_runs_in_that_order(backend: Store, workers: Sessions, batch: int) -> None:
    jobs = [submitted(backend) for _ in range(60)]
    assert len({job.submitted_at for job in jobs}) < len(jobs)  # several in one tick
    assert in_turn(workers.join(), len(jobs), batch) == [job.id for job in jobs]


def test_what_is_submitted_while_a_worker_takes_jobs_runs_in_that_order(backend: Store, workers: Sessions) -> None:
    session, jobs, found = workers.join(), [], list[str]()
    for _ in range(40):
        jobs += [submitted(backend).id for _ in range(3)]
        found += in_turn(session, 2, 1)
    found += in_turn(session, len(jobs) - len(found), 5)
    assert found == jobs


def test_ids_within_a_tick_are_unique_and_sort_as_they_were_made() -> None:
    ids = [new_id() for _ in range(5000)]
    assert len(each_once(ids)) == 5000
    assert sorted(ids) == ids
    assert len({id_ms(each) for each in ids}) < 5000


def test_a_delayed_job_comes_neither_early_nor_never(backend: Store, workers: Sessions) -> None:
    jobs = [submitted(backend, timedelta(milliseconds=delay)) for delay in (1, 15, 16, 40, 100)]
    session, early = workers.join(), []

    def all_came() -> bool:
        at = clock.now()
        for claim in session.claim(1):
            if claim.job.not_before > clock.now():
                early.append((claim.job.not_before, at))
            finish(session, claim, Succeeded())
        return backend.counts()[State.DONE] == len(jobs)

    wait_until(all_came)
    assert early == []


def test_no_length_of_time_is_negative(backend: Store, workers: Sessions) -> None:
    policy = Policy(retry_delay=timedelta(milliseconds=1), max_crashes=3)
    job, session = submitted(backend), workers.join()
    for outcome in (Interrupted(), RAISED, RAISED, Succeeded()):
        (claim,) = claim_all(session, 1)
        left = finish(session, claim, outcome, policy=policy)
        assert left.not_before >= job.submitted_at
    done = got(backend, job.id)
    assert done.state is State.DONE
    assert done.finished_at is not None
    times = [moment for each in done.attempts for moment in (each.started_at, each.finished_at)]
    assert all(each is not None for each in times)
    assert times == sorted(each for each in times if each is not None)
    assert done.finished_at >= done.submitted_at


def test_a_backoff_is_as_long_as_it_should_be_to_a_tick() -> None:
    begun = lifecycle.started(new_job(), worker="w", at=clock.now())
    at = clock.now()
    again = applied(begun, lifecycle.after(begun, RAISED, Policy(retry_delay=timedelta(milliseconds=5)), at, 0.5), at)
    assert again.not_before >= at
    assert again.attempts[-1].finished_at == at


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_change_is_not_overlooked_on_a_disk_that_keeps_whole_seconds(
    backend: Store, workers: Sessions, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """ext3 and ext4 with small inodes keep whole seconds, FAT even ones: the worker's next look came after 30 s."""
    changed_ns = files.changed_ns

    def coarse(path: str) -> int | None:
        ns = changed_ns(path)
        return None if ns is None else ns // (seconds * 10**9) * (seconds * 10**9)

    monkeypatch.setattr(files, "changed_ns", coarse)
    session = workers.join()
    for _ in range(20):
        job = submitted(backend)
        assert in_turn(session, 1, 1) == [job.id]
        assert session.claim(1) == []  # a look after which nothing has changed, as far as the disk tells


def test_a_change_within_a_tick_is_not_overlooked(backend: Store, workers: Sessions, store: StoreKind) -> None:
    """The time of a directory and that of the look at it may be the same, though a job came after the look."""
    assert UNSURE_NS > TICK_NS
    session = workers.join()
    for _ in range(50):
        session.claim(1)
        job = submitted(backend)
        assert in_turn(session, 1, 1) == [job.id]
