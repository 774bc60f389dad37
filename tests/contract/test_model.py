"""A model of the queue, and random lives of it: whatever workers and people do, store and model tell the same."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from bgjobs import lifecycle
from bgjobs.ids import new_id
from bgjobs.job import (
    Cancelled,
    Crashed,
    Interrupted,
    Job,
    JobError,
    Outcome,
    Raised,
    Refused,
    State,
    Succeeded,
    TimedOut,
)
from bgjobs.lifecycle import Policy
from bgjobs.store import Filter, Unfinished
from tests.contract.stores import (
    FAR,
    KINDS,
    LOST,
    NO_SELECTION,
    begin,
    decided,
    got,
    info,
    new_job,
    now,
    plain,
    stored,
    told,
)

if TYPE_CHECKING:
    from bgjobs.store import Claim, Session

MOST_JOBS, MOST_WORKERS = 10, 3
ACTIVE = {State.QUEUED, State.RUNNING}
WRONG = JobError(type="OSError", message="no answer", traceback="Traceback …")
REFUSAL = JobError(type="not-allowed", message="Mail.send")
PICK = st.integers(0, 1000)
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Succeeded(msgspec.Raw(b'{"sent":1}')),
        Succeeded(),
        Raised(WRONG, ("OSError", "Exception")),
        Raised(WRONG, asked=True, retry_in=timedelta(0)),
        Raised(WRONG, asked=True, retry_in=FAR),
        Raised(WRONG, final=True),
        Refused(REFUSAL),
        TimedOut(timedelta(seconds=30), exit=-9),
        Crashed(WRONG, exit=-11),
        Cancelled("ann"),
        Interrupted(),
    ]
)
POLICIES = st.sampled_from([Policy(retry_delay=timedelta(0), max_crashes=2), Policy(retry_delay=FAR, max_crashes=2)])


class Held:
    """A claim in the hands of a worker, and the running job once it has begun."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.running: Job | None = None


class Worker:
    """A worker, dead or alive, and what it holds."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.held: dict[str, Held] = {}


class QueueMachine(RuleBasedStateMachine):
    """The model: what each job has to look like, who holds it, and who has asked to cancel it."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = KINDS[self.kind](self.folder.name)
        self.backend = self.store.open()
        self.jobs: dict[str, Job] = {}
        self.cancels = 0
        self.deleted = 0
        self.requests: dict[str, str] = {}
        self.workers: list[Worker] = []
        self.dead: list[Worker] = []
        self.ended: dict[str, bytes] = {}
        self.checked: dict[str, Job] = {}
        self.join()

    def teardown(self) -> None:
        for worker in self.workers:
            worker.session.leave()
        self.folder.cleanup()

    # Producers

    @precondition(lambda self: sum(job.state in ACTIVE for job in self.jobs.values()) < MOST_JOBS)
    @rule(
        count=st.integers(1, 3),
        priority=st.integers(0, 9),
        delay=st.sampled_from([timedelta(0), timedelta(0), FAR]),
        retries=st.integers(0, 2),
    )
    def submit(self, count: int, priority: int, delay: timedelta, retries: int) -> None:
        assert self.backend.cancel(new_id(), "ann") == "unknown"
        jobs = [new_job(priority=priority, delay=delay, retries=retries) for _ in range(count)]
        self.backend.submit(jobs)
        self.jobs |= {job.id: job for job in jobs}
        self.store.settle()

    @rule()
    def nothing_happens(self) -> None:
        """Let time pass, when all that is left is delayed."""

    @precondition(lambda self: self.cancels < len(self.jobs) // 3)  # or there would be nothing left to run
    @rule(pick=PICK, by=st.sampled_from(["ann", "bob"]))
    def cancel(self, pick: int, by: str) -> None:
        self.cancels += 1
        job = self.jobs[sorted(self.jobs)[pick % len(self.jobs)]]
        answer = self.backend.cancel(job.id, by)
        if job.state.ended:
            assert answer == "too late"
        elif job.state is State.RUNNING:
            assert answer == "requested"
            self.requests.setdefault(job.id, by)
        else:
            assert answer == "cancelled"
            self.jobs[job.id] = lifecycle.applied(job, lifecycle.cancelled(by), now())

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def run_now(self, pick: int) -> None:
        assert self.backend.run_now(new_id()) == "unknown"
        delayed = sorted(job.id for job in self.jobs.values() if job.state is State.SCHEDULED)
        chosen = delayed or sorted(self.jobs)
        job, before = self.jobs[chosen[pick % len(chosen)]], now()
        answer = self.backend.run_now(job.id, "ann")
        if job.state is State.SCHEDULED:
            assert answer == "now"
            moment = got(self.backend, job.id).not_before
            assert before <= moment <= now()
            self.jobs[job.id] = replace(job, state=State.QUEUED, not_before=moment)
            self.store.settle()
        else:
            expected = {State.QUEUED: "already due", State.RUNNING: "running"}
            assert answer == expected.get(job.state, "too late")

    @precondition(lambda self: self.deleted < len(self.jobs) // 3)
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        assert self.backend.delete(new_id()) == "unknown"
        job = self.jobs[sorted(self.jobs)[pick % len(self.jobs)]]
        answer = self.backend.delete(job.id)
        if not job.state.ended:
            assert answer == "not ended"
            return
        assert answer == "deleted"
        assert self.backend.get(job.id) is None
        self.deleted += 1
        del self.jobs[job.id]
        self.ended = {path: stored for path, stored in self.ended.items() if job.id not in path}

    # Workers

    @precondition(lambda self: len(self.workers) < MOST_WORKERS - 1)
    @rule()
    def join(self) -> None:
        self.workers.append(Worker(self.backend.join(info(), NO_SELECTION)))

    @precondition(lambda self: any(job.state is State.QUEUED for job in self.jobs.values()))
    @rule(pick=PICK, most=st.integers(1, 5), above=st.sampled_from([-1, -1, -1, 4, 7]), begun=st.integers(0, 5))
    def claim(self, pick: int, most: int, above: int, begun: int) -> None:
        worker = self.workers[pick % len(self.workers)]
        due = [job for job in self.jobs.values() if job.state is State.QUEUED and job.priority > above]
        due.sort(key=lambda job: (-job.priority, job.not_before, job.id))
        claims = worker.session.claim(most, above=above)
        assert [claim.job.id for claim in claims] == [job.id for job in due[:most]]
        for number, claim in enumerate(claims):
            job = self.jobs[claim.job.id] = plain(self.jobs[claim.job.id], State.RUNNING)
            assert told(claim.job) == told(job)
            worker.held[job.id] = Held(claim)
            if number < begun:
                self._begin(worker, worker.held[job.id])

    @precondition(lambda self: any(job.state is State.QUEUED for job in self.jobs.values()))
    @rule(pick=PICK, most=st.integers(1, 3), outcome=OUTCOMES, policy=POLICIES)
    def work(self, pick: int, most: int, outcome: Outcome, policy: Policy) -> None:
        self.claim(pick, most, -1, most)
        self.finish([(pick + number, outcome, policy) for number in range(most)])

    @precondition(lambda self: self._held())
    @rule(endings=st.lists(st.tuples(PICK, OUTCOMES, POLICIES), min_size=1, max_size=5))
    def finish(self, endings: list[tuple[int, Outcome, Policy]]) -> None:
        for pick, outcome, policy in endings:
            found = self._held()
            if found:
                worker, held = found[pick % len(found)]
                self._begin(worker, held)
                self._finish(worker, held, outcome, policy)

    @precondition(lambda self: self._held(begun=False))
    @rule(pick=PICK, refused=st.booleans())
    def do_not_begin(self, pick: int, refused: bool) -> None:
        found = self._held(begun=False)
        worker, held = found[pick % len(found)]
        if refused:
            self._let_go(worker, stored(worker.session, held.claim, lifecycle.failed(REFUSAL)))
        else:
            self._give_back(worker, held)

    @precondition(lambda self: len(self.workers) > 1 and self._held())
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        worker = self.workers.pop(pick % len(self.workers))
        for held in list(worker.held.values()):
            if held.running is None:
                self._give_back(worker, held)
            else:
                self._finish(worker, held, Interrupted(), Policy())
        worker.session.leave()

    @precondition(lambda self: self._held() and len(self.dead) < MOST_WORKERS)
    @rule(pick=PICK)
    def die(self, pick: int) -> None:
        if len(self.workers) == 1:
            self.join()
        found = [worker for worker in self.workers if worker.held]
        worker = found[pick % len(found)]
        self.workers.remove(worker)
        self.store.abandon(worker.session)
        self.dead.append(worker)

    @precondition(lambda self: self.dead)
    @rule(pick=PICK, policy=POLICIES)
    def recover(self, pick: int, policy: Policy) -> None:
        session = self.workers[pick % len(self.workers)].session
        lost = {}
        for _ in range(2):  # the second look takes away what the first one emptied
            for claim in session.recover():
                assert claim.leftover
                lost[claim.job.id] = stored(session, claim, decided(claim.job, LOST, policy))
        for worker in self.dead:
            for held in list(worker.held.values()):
                self._recovered(worker, held, lost)
        assert not lost
        self.dead = []
        self.store.settle()

    def _recovered(self, worker: Worker, held: Held, lost: dict[str, Job]) -> None:
        job = self.jobs[held.claim.job.id]
        by = self.requests.get(job.id)
        if by is None:
            self._let_go(worker, plain(job, State.QUEUED) if held.running is None else lost.pop(job.id))
            return
        outcome = "" if held.running is None else "cancelled"
        verdict = lifecycle.cancelled(by, outcome=outcome)
        self._let_go(worker, lifecycle.applied(held.running or job, verdict, now()))

    # What is common to the rules

    def _held(self, *, begun: bool | None = None) -> list[tuple[Worker, Held]]:
        found = ((worker, held) for worker in self.workers for held in worker.held.values())
        return [(worker, held) for worker, held in found if begun in {None, held.running is not None}]

    def _begin(self, worker: Worker, held: Held) -> None:
        if held.running is None:
            assert not worker.session.attempt(held.claim).begun
            held.running = begin(worker.session, held.claim)
            assert worker.session.attempt(held.claim).begun
            self.jobs[held.running.id] = held.running

    def _finish(self, worker: Worker, held: Held, outcome: Outcome, policy: Policy) -> None:
        assert held.running is not None
        verdict = decided(held.running, outcome, policy)
        self._let_go(worker, stored(worker.session, held.claim, verdict, running=held.running))

    def _give_back(self, worker: Worker, held: Held) -> None:
        worker.session.release(held.claim)
        self._let_go(worker, plain(self.jobs[held.claim.job.id], State.QUEUED))

    def _let_go(self, worker: Worker, job: Job) -> None:
        """Note what became of a job that no worker holds any more. A request to cancel that comes meanwhile counts."""
        by = self.requests.pop(job.id, None)
        if by is not None and not job.state.ended:
            job = lifecycle.applied(job, lifecycle.cancelled(by), now())
        self.jobs[job.id] = job
        del worker.held[job.id]
        self.store.settle()

    # What must hold at every moment

    @invariant()
    def every_job_is_in_exactly_one_place(self) -> None:
        expected = {job.id: [State.QUEUED if job.state is State.SCHEDULED else job.state] for job in self.jobs.values()}
        assert self.store.holders() == expected

    @invariant()
    def every_job_is_what_it_should_be(self) -> None:
        listed = list(self.backend.jobs(Filter()))
        assert [job.id for job in listed] == sorted(self.jobs, reverse=True)
        for kept in listed:
            job = self.jobs[kept.id]
            assert told(kept) == told(job)
            assert (kept.finished_at is None) == (job.finished_at is None)
            if self.checked.get(job.id) is not job:
                self.checked[job.id] = job
                assert told(got(self.backend, job.id)) == told(job)

    @invariant()
    def the_counts_add_up(self) -> None:
        states = Counter(job.state for job in self.jobs.values())
        assert self.backend.counts() == dict.fromkeys(State, 0) | states
        unfinished = Unfinished(*(states[state] > 0 for state in (State.QUEUED, State.SCHEDULED, State.RUNNING)))
        assert self.backend.unfinished(now()) == unfinished
        queued = [job.not_before for job in self.jobs.values() if job.state is State.QUEUED]
        assert self.backend.oldest_queued() == min(queued, default=None)

    @invariant()
    def what_ended_never_changes(self) -> None:
        stored = self.store.ended()
        assert len(stored) == sum(job.state.ended for job in self.jobs.values())
        assert self.ended.items() <= stored.items()
        self.ended = stored

    @invariant()
    def each_worker_knows_who_wants_what_cancelled(self) -> None:
        for worker in self.workers:
            mine = {job_id: by for job_id, by in self.requests.items() if job_id in worker.held}
            assert worker.session.renew({}) == mine

    @invariant()
    def the_living_are_alive_and_the_dead_are_not(self) -> None:
        expected = {worker.session.id: True for worker in self.workers}
        expected |= {worker.session.id: False for worker in self.dead}
        assert {worker.id: worker.alive for worker in self.backend.workers()} == expected


@pytest.mark.timeout(900)  # thousands of small steps, each of which looks at every file: slow where files are
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whatever_workers_and_people_do_store_and_model_tell_the_same(kind: str) -> None:
    machine = type("Machine", (QueueMachine,), {"kind": kind})
    examples = settings().max_examples // 3  # each makes a store of its own, and takes a while
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))


def test_a_job_is_replaced_and_never_changed() -> None:
    job = new_job()
    assert replace(job, state=State.DONE) != job
