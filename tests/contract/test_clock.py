"""Whatever the clock says, jobs that may run do; only what waits for a moment comes sooner or later."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs import clock, lifecycle
from bgjobs.event_log import STATUS_LOG
from bgjobs.events import Submitted
from bgjobs.ids import new_id
from bgjobs.job import Job, JobError, Raised, State, Succeeded, milliseconds, moment
from bgjobs.lifecycle import Policy
from tests.contract.stores import (
    LANE,
    Sessions,
    SpoolKind,
    begin,
    claim_all,
    each_once,
    got,
    new_job,
    recover_all,
    stored,
)

if TYPE_CHECKING:
    from bgjobs.job import Outcome
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Claim, Session

HOUR = timedelta(hours=1)
TRUE = datetime(2026, 11, 23, 3, 19, 7, 123000, tzinfo=UTC)
CLOCKS = {
    "right": TRUE,
    "an hour behind": TRUE - HOUR,
    "an hour ahead": TRUE + HOUR,
    "of 1970": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
    "of 2100": datetime(2100, 1, 1, tzinfo=UTC),
}
HOURLY = Policy(retry_delay=HOUR, backoff="fixed", max_retry_delay=2 * HOUR, max_crashes=3)
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))


class Clock:
    """The clock of this process, as a test sets it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = TRUE
        patch.setattr(clock, "now", lambda: self.at)
        patch.setattr(clock, "now_ms", lambda: milliseconds(self.at))


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def submitted(spool: SpoolStore, delay: timedelta = timedelta(0)) -> Job:
    """Store a job as one does whose clock is that of this process."""
    ms = clock.now_ms()
    job = replace(new_job(), id=new_id(ms, lane=LANE), submitted_at=moment(ms), not_before=moment(ms) + delay)
    spool.submit([replace(job, state=State.SCHEDULED if delay else State.QUEUED)])
    return job


def finish(session: Session, claim: Claim, outcome: Outcome) -> Job:
    """End an attempt as a worker does whose clock is that of this process."""
    begin(session, claim)
    running = lifecycle.started(claim.job, worker="web1:1", at=clock.now())
    at = clock.now()
    return stored(session, claim, lifecycle.after(running, outcome, HOURLY, at, 0.5), running=running, at=at)


@pytest.mark.parametrize("submitters", CLOCKS)
@pytest.mark.parametrize("workers_own", CLOCKS)
def test_a_job_that_may_run_at_once_does_so_whichever_clock_is_wrong(
    store: SpoolKind, workers: Sessions, wrong: Clock, submitters: str, workers_own: str
) -> None:
    wrong.at = CLOCKS[submitters]
    spool = store.open()
    jobs = []
    for _ in range(5):
        jobs.append(submitted(spool))
        wrong.at += timedelta(milliseconds=1)
    wrong.at = CLOCKS[workers_own]
    session = workers.join()
    claims = claim_all(session, 5)
    assert [claim.job.id for claim in claims] == [job.id for job in jobs]
    session.release(claims.pop())
    for claim in [*claims, *claim_all(session, 1)]:
        assert finish(session, claim, Succeeded()).state is State.DONE
    sum(session.tidy(keep_done=timedelta(days=7), keep_failed=timedelta(days=30)))
    wrong.at = CLOCKS[submitters]
    assert {got(spool, job.id).state for job in jobs} == {State.DONE}
    assert store.holders() == {job.id: [State.DONE] for job in jobs}


@pytest.mark.parametrize("now", CLOCKS)
def test_a_clock_that_jumps_moves_only_what_waits_for_a_moment(
    spool: SpoolStore, workers: Sessions, wrong: Clock, now: str
) -> None:
    delayed, failed = submitted(spool, delay=HOUR / 2), submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    again = finish(session, claim, RAISED)
    assert again.not_before == TRUE + HOUR
    wrong.at = CLOCKS[now]  # a correction of the clock, in the middle of the wait
    due = [job.id for job in (delayed, failed) if wrong.at >= got(spool, job.id).not_before]
    assert due == ([delayed.id, failed.id] if CLOCKS[now] > TRUE else [])
    for _ in range(3):
        for claim in session.claim(5):
            due.remove(claim.job.id)
            finish(session, claim, Succeeded())
    assert due == []
    wrong.at = TRUE + 2 * HOUR  # right again, and later
    if CLOCKS[now] <= TRUE:
        for claim in claim_all(session, 2):
            finish(session, claim, Succeeded())
    assert {got(spool, job.id).state for job in (delayed, failed)} == {State.DONE}


@pytest.mark.parametrize("now", CLOCKS)
def test_jobs_of_a_dead_worker_are_recovered_whatever_the_clock_says(
    spool: SpoolStore, workers: Sessions, wrong: Clock, now: str
) -> None:
    jobs = [submitted(spool) for _ in range(4)]
    workers.dead(claim=4, begin=2)
    wrong.at = CLOCKS[now]
    session = workers.join()
    assert len(recover_all(spool, session)) == 2
    assert sorted(claim.job.id for claim in claim_all(session, 4)) == sorted(job.id for job in jobs)


def test_ids_are_unique_and_valid_while_the_clock_goes_back_and_forth(wrong: Clock) -> None:
    ids = []
    for round_trip in range(200):
        wrong.at = list(CLOCKS.values())[round_trip % len(CLOCKS)]
        ids += [new_id() for _ in range(5)]
    assert len(each_once(ids)) == 1000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no tzset")
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "right/UTC"])
def test_the_zone_of_the_machine_and_its_summer_time_change_nothing(
    spool: SpoolStore, workers: Sessions, wrong: Clock, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    wrong.at = datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC)  # a second before Berlin's clocks go back
    job, later = submitted(spool), submitted(spool, delay=timedelta(seconds=2))
    session = workers.join()
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        try:
            (claim,) = claim_all(session, 1)
            assert claim.job.id == job.id
            finish(session, claim, Succeeded())
            wrong.at += timedelta(seconds=2)
            (claim,) = claim_all(session, 1)
            assert claim.job.id == later.id
            finish(session, claim, Succeeded())
            spool.handle.emit(Submitted(later, wrong.at))
        finally:
            patch.undo()
            time.tzset()
    assert sorted(path.parent.name for path in Path(spool.paths.root).glob("done/*/*.json")) == [
        "2026102500",
        "2026102501",
    ]
    assert "[2026-10-25 01:00:01.000+00:00]" in Path(spool.handle.settings.log_dir, STATUS_LOG).read_text(
        encoding="utf-8"
    )
