"""A project in a directory that can be copied, and what the processes that work in it tell before they die."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgjobs import clock, files, lifecycle
from bgjobs.config import settings
from bgjobs.event_log import Log
from bgjobs.ids import lane_of, new_id
from bgjobs.job import Job, State, milliseconds, moment
from bgjobs.lifecycle import Policy, Verdict
from bgjobs.spool import record
from bgjobs.spool.store import SpoolStore
from tests.contract.stores import LOST, NO_SELECTION, decided, info, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Outcome
    from bgjobs.store import Claim, Selection, Session

POLICY = Policy(retry_delay=timedelta(minutes=5), backoff="fixed", max_crashes=3)
# The runner of every job is said to be the process that forks all others, with a birth that no process has: so nobody
# is killed, and nobody has to look for what may be left of it.
RUNNER, LONG_AGO = os.getpid(), "long ago"
Decided = tuple[Job, Verdict, datetime]  # the job as it ended, what was decided, and when
CONFIG = '[bgjobs]\ndurability = "full"\n'


class World:
    """One project. Everything in it lies below one directory, so that cases can start from copies."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.spool = Path(root, "spool")
        self._facts = os.path.join(root, "facts")
        config = Path(root, "allowed_jobs.toml")
        os.makedirs(root, exist_ok=True)
        if not config.exists():
            config.write_text(CONFIG, encoding="utf-8")
        self._settings = settings.load(config=str(config), environ={})

    def open(self) -> SpoolStore:
        """Open the queue as a new process does."""
        return SpoolStore(self._settings, Log(self._settings.log_dir))

    def join(self, selection: Selection = NO_SELECTION) -> Session:
        """Take a place as a worker."""
        return self.open().join(info(), selection)

    # What is told: by bare system calls, which are no steps of the queue and outlive the process

    def tell(self, what: str, *ids: str, **more: Any) -> None:
        """Say something that must hold whatever happens next."""
        line = json.dumps({"what": what, "ids": ids, **more}) + "\n"
        descriptor = os.open(self._facts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def told(self) -> list[dict[str, Any]]:
        """Return all that was said."""
        try:
            return [json.loads(line) for line in Path(self._facts).read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []

    # Jobs

    def planned(self, count: int = 1, *, delay: timedelta = timedelta(0), **values: Any) -> list[Job]:
        """Return new jobs, and tell what their first lines will be."""
        at = now()
        jobs = [
            Job(
                id=new_id(milliseconds(at), lane=lane_of("Mail", "send")),
                class_name="Mail",
                method="send",
                not_before=at + delay,
                submitted_at=at,
                submitted_by="ann@web1",
                retries=3,
                state=State.SCHEDULED if delay else State.QUEUED,
                args=("Tony",),
                **({"priority": 5} | values),
            )
            for _ in range(count)
        ]
        for job in jobs:
            self.tell("planned", job.id, line=record.line_1(job).decode())
        return jobs

    def submit(self, queue: SpoolStore, jobs: list[Job]) -> None:
        """Submit jobs, and tell that they were accepted."""
        queue.submit(jobs)
        self.tell("acked", *(job.id for job in jobs))

    def submitted(self, count: int = 1, *, delay: timedelta = timedelta(0), **values: Any) -> list[Job]:
        """Submit new jobs one by one to a queue opened for it."""
        queue, jobs = self.open(), self.planned(count, delay=delay, **values)
        for job in jobs:
            self.submit(queue, [job])
        return jobs

    # What a worker and its runners do

    def begin(self, session: Session, claim: Claim) -> Job:
        """Begin an attempt as a runner does, and tell that user code runs."""
        todo = session.begin(claim, slot=0, pid=RUNNER, birth=LONG_AGO)
        assert todo is not None
        at = now()
        files.append(todo.path, f"{todo.head}{milliseconds(at)}{todo.tail}".encode())
        self.tell("ran", claim.job.id)
        return lifecycle.started(claim.job, worker=info().name, at=at)

    def ending(self, running: Job, outcome: Outcome) -> Decided:
        """Decide what becomes of a job whose attempt has ended."""
        policy = lifecycle.with_options_of(POLICY, running)
        return running, lifecycle.after(running, outcome, policy, now(), 0.5), now()

    def finish(self, session: Session, claim: Claim, ending: Decided) -> None:
        """Store what became of a job, and tell."""
        running, verdict, at = ending
        job = stored(session, claim, verdict, running=running, at=at)
        self.tell("stored", job.id, state=job.state)

    def recover(self, session: Session) -> None:
        """Take over what dead workers left, as a worker does."""
        for claim in session.recover():
            stored(session, claim, decided(claim.job, LOST))


def now() -> datetime:
    """Return this moment as jobs keep it, by the clock of the project."""
    return moment(milliseconds(clock.now()))


def set_clock(ahead: timedelta) -> None:
    """Set the clock of this process."""
    real_now, real_ms = clock.now, clock.now_ms
    clock.now = lambda: real_now() + ahead
    clock.now_ms = lambda: real_ms() + ahead // timedelta(milliseconds=1)


def until_calm(done: Callable[[], object], *, most: int = 2000) -> None:
    """Repeat a round of work until it says that all is done; many rounds without that are one too many."""
    for _ in range(most):
        if done():
            return
        time.sleep(0.002)  # between two looks
    raise AssertionError("it did not come to that")
