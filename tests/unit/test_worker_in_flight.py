"""What becomes of claimed jobs that do not begin: they are refused, decided again, put back or cancelled."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bgjobs import Queue, clock, system
from bgjobs.clock import Now
from bgjobs.job import Job, State
from bgjobs.store import Claim, Selection, WorkerInfo
from bgjobs.worker.assignment import StopReason
from bgjobs.worker.in_flight import AHEAD_S, UNDECIDED_S, AfterReturn, InFlight, after_return, is_refused, overdue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.store import Session

CONFIG = '[bgjobs]\ndurability = "os"\n[jobs.Mail]\nclass = "mail:Mail"\nmethods = ["send", "note"]\n'
MAIL = "class Mail:\n    def send(self, text=''): ...\n    def note(self, text=''): ...\n"


@pytest.mark.parametrize(
    ("is_final", "after_s", "refused"),
    [
        (True, 0.0, True),
        (False, 0.0, False),  # the file is being changed: perhaps the job may run in a moment
        (False, UNDECIDED_S - 0.1, False),
        (False, UNDECIDED_S, True),
    ],
)
def test_what_may_not_run_fails_at_once_if_that_is_final_and_else_after_a_minute(
    after_s: float, *, is_final: bool, refused: bool
) -> None:
    assert is_refused(is_final=is_final, claimed_at=1000.0, now=1000.0 + after_s) is refused


@pytest.mark.parametrize(
    ("why", "stopping", "expected"),
    [
        (None, False, AfterReturn.WAIT_AGAIN),
        (StopReason.TIMED_OUT, False, AfterReturn.WAIT_AGAIN),
        (StopReason.CANCELLED, False, AfterReturn.CANCEL),
        (StopReason.CANCELLED, True, AfterReturn.CANCEL),
        (None, True, AfterReturn.RELEASE),
        (StopReason.WORKER_STOPS, True, AfterReturn.RELEASE),
        (StopReason.TIMED_OUT, True, AfterReturn.RELEASE),
    ],
)
def test_a_job_that_was_not_begun_waits_again_goes_back_or_is_cancelled(
    why: StopReason | None, expected: AfterReturn, *, stopping: bool
) -> None:
    assert after_return(why, stopping=stopping) is expected


def claims(count: int) -> list[Claim]:
    now = clock.now()
    jobs = [
        Job(
            id=f"job-{number}",
            class_name="Mail",
            method="send",
            priority=5,
            not_before=now,
            submitted_at=now,
            retries=0,
        )
        for number in range(count)
    ]
    return [Claim(job, "") for job in jobs]


@pytest.mark.parametrize(
    ("ages_s", "free", "back"),
    [
        ([], 2, []),
        ([9.0, 9.0], 2, []),  # they begin at once
        ([9.0, 9.0, 9.0], 2, [2]),
        ([9.0, 9.0, 0.5, 2.0], 2, [3]),
        ([9.0, 0.0], 0, [0]),
        ([AHEAD_S], 0, []),
        ([AHEAD_S + 0.1], 0, [0]),
    ],
)
def test_what_was_claimed_ahead_a_second_ago_goes_back_to_idle_workers(
    ages_s: list[float], free: int, back: list[int]
) -> None:
    waiting = claims(len(ages_s))
    claimed_at = {claim.job.id: 1000.0 - age_s for claim, age_s in zip(waiting, ages_s, strict=True)}
    assert overdue(waiting, claimed_at, free, 1000.0) == [waiting[number] for number in back]


class Worker:
    """The claims of a worker that runs nothing."""

    def __init__(self, root: Path) -> None:
        (root / "allowed_jobs.toml").write_text(CONFIG, "utf-8")
        (root / "mail.py").write_text(MAIL, "utf-8")
        self.queue = Queue.open(config=root / "allowed_jobs.toml", spool=root / "spool")
        info = WorkerInfo(host=system.host(), pid=os.getpid(), concurrency=1, started_at=clock.now(), version="test")
        self.session: Session = self.queue._store.join(info, Selection())
        self.announced: list[str] = []
        self.is_current = True
        self.in_flight = InFlight(self.queue, self.session, self.announced.append, lambda: self.is_current)
        self.began = clock.both()

    def claim(self, most: int = 10, *, after_s: float = 0.0) -> None:
        self.in_flight.add(self.session.claim(most), self.after(after_s))

    def forbid_notes(self) -> None:
        """Let the allowlist in memory be one without `note`."""
        del self.queue.allowlist._targets["Mail", "note"]

    def allow_notes(self) -> None:
        self.queue.allowlist._targets["Mail", "note"] = self.queue.allowlist.target("Mail", "send")

    def after(self, seconds: float) -> Now:
        return Now(self.began.s + seconds, self.began.at + timedelta(seconds=seconds))

    def state(self, job: Job) -> State:
        return self.queue.get(job.id).state


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.in_flight.release_waiting("the test is over", clock.now())
    made.session.leave()


def test_claims_wait_by_priority_and_then_by_age(worker: Worker) -> None:
    jobs = []
    for priority in (3, 9, 3, 7):
        jobs.append(worker.queue.submit("Mail", "send", priority=priority))
        worker.claim()
    assert [claim.job.id for claim in worker.in_flight.waiting] == [jobs[number].id for number in (1, 3, 0, 2)]


def test_a_job_that_the_allowlist_refuses_fails_at_once(worker: Worker) -> None:
    job = worker.queue.submit("Mail", "note")
    worker.forbid_notes()
    worker.claim()
    assert worker.state(job) is State.FAILED
    assert len(worker.in_flight) == 0
    assert worker.queue.get(job.id).attempts == ()


def test_while_the_allowlist_is_being_changed_a_refused_job_waits_for_a_minute_and_then_fails(worker: Worker) -> None:
    job = worker.queue.submit("Mail", "note")
    worker.forbid_notes()
    worker.is_current = False
    worker.claim()
    assert [claim.job.id for claim in worker.in_flight.undecided] == [job.id]
    worker.in_flight.recheck_undecided(worker.after(UNDECIDED_S - 0.1))
    assert [claim.job.id for claim in worker.in_flight.undecided] == [job.id]
    worker.in_flight.recheck_undecided(worker.after(UNDECIDED_S))
    assert (worker.state(job), worker.in_flight.undecided) == (State.FAILED, [])


def test_a_job_that_the_changed_allowlist_names_waits_for_a_runner(worker: Worker) -> None:
    job = worker.queue.submit("Mail", "note")
    worker.forbid_notes()
    worker.is_current = False
    worker.claim()
    worker.allow_notes()
    worker.in_flight.recheck_undecided(worker.after(1))
    assert [claim.job.id for claim in worker.in_flight.waiting] == [job.id]
    assert worker.in_flight.undecided == []


def test_a_job_that_waits_is_cancelled_whatever_it_waits_for(worker: Worker) -> None:
    first, second = worker.queue.submit("Mail", "send"), worker.queue.submit("Mail", "note")
    worker.forbid_notes()
    worker.is_current = False
    worker.claim()
    for job in first, second:
        worker.in_flight.cancel_waiting(job.id, "ann", worker.after(1).at)
        assert worker.state(job) is State.CANCELLED
    assert len(worker.in_flight) == 0


def test_what_was_claimed_ahead_goes_back_into_the_queue(worker: Worker) -> None:
    jobs = [worker.queue.submit("Mail", "send") for _ in range(3)]
    worker.claim()
    worker.in_flight.release_overdue(1, worker.after(AHEAD_S + 0.1))
    assert [claim.job.id for claim in worker.in_flight.waiting] == [jobs[0].id]
    assert [worker.state(job) for job in jobs] == [State.RUNNING, State.QUEUED, State.QUEUED]


def test_a_write_that_fails_is_tried_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    job = worker.queue.submit("Mail", "send")
    worker.claim()
    with monkeypatch.context() as patch:
        patch.setattr(worker.session, "release", _no_space)
        worker.in_flight.release_waiting("the worker stops", worker.after(1).at)
        worker.in_flight.retry_pending_writes(worker.after(2).at)
    assert (len(worker.in_flight), worker.state(job)) == (1, State.RUNNING)
    assert all(said.startswith(f"cannot put back job {job.id}, trying again: ") for said in worker.announced)
    worker.in_flight.retry_pending_writes(worker.after(3).at)
    assert (len(worker.in_flight), worker.state(job)) == (0, State.QUEUED)


def _no_space(claim: Claim) -> None:
    raise OSError(28, "No space left on device", claim.place)
