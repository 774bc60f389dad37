"""End the attempts of dead workers, import the jobs that other programs hand in, repair a queue without a worker.

Which attempts these are, and what becomes of claims that had not begun, is found out in `spool/recover.py`.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from bgjobs import __version__, clock, lifecycle, system
from bgjobs.events import Decided
from bgjobs.job import Crashed, JobError
from bgjobs.queue import store_of
from bgjobs.store import Finish, Selection, WorkerInfo

if TYPE_CHECKING:
    from bgjobs.job import Job
    from bgjobs.lifecycle import Policy
    from bgjobs.queue import Queue
    from bgjobs.store import Session


def recover(session: Session, queue: Queue) -> int:
    """End the attempts of dead workers as lost, and queue their jobs again; return how many there were."""
    count = 0
    for claim in session.recover():
        now = clock.now()
        worker = claim.job.attempts[-1].worker
        outcome = Crashed(JobError(type="WorkerLost", message=f"worker {worker} died"), worker_lost=True)
        verdict = lifecycle.after(claim.job, outcome, policy_of(queue, claim.job), now, random.random())  # noqa: S311 - jitter
        (error,) = session.finish([Finish(claim=claim, running=claim.job, verdict=verdict, at=now)])
        if error is not None:
            raise error  # the next round goes on from there
        queue.events.emit(Decided(claim.job, verdict, outcome, now))
        count += 1
    return count


def import_jobs(session: Session, queue: Queue) -> int:
    """Make jobs of what other programs have handed in; return how many. Which of them may run is asked at the claim."""
    return session.import_jobs(lambda class_name, method: _policy(queue, class_name, method))


def policy_of(queue: Queue, job: Job) -> Policy:
    """Return how the job is treated, by the project's defaults if its pair is not allowed any more."""
    return lifecycle.with_options_of(_policy(queue, job.class_name, job.method), job)


def _policy(queue: Queue, class_name: str, method: str) -> Policy:
    target = queue.allowlist.find(class_name, method)
    return queue.settings.policy if target is None else target.policy


RECOVERED = {"dead-worker", "claims-without-worker"}
REPAIR_S, REPAIR_PAUSE_S = 10.0, 0.25


def repair(queue: Queue) -> list[str]:
    """Recover and tidy as the next worker would, but run no job, and mend what is broken; return what was done.

    Safe while workers run: it joins as one of them, and uses the same locks and renames.
    """
    info = WorkerInfo(host=system.host(), pid=os.getpid(), concurrency=0, started_at=clock.now(), version=__version__)
    session = store_of(queue).join(info, Selection())
    try:
        count = _recover_all(session, queue)
        done = [f"ended {count} lost {'attempt' if count == 1 else 'attempts'} of dead workers"] if count else []
        in_files = store_of(queue).files
        done += [] if in_files is None else in_files.repair()
        for _ in session.tidy(keep_done=queue.settings.keep_done, keep_failed=queue.settings.keep_failed):
            pass
    finally:
        session.leave()
    return done


def _recover_all(session: Session, queue: Queue) -> int:
    """Recover until nothing is left that can be; a worker directory without its lock must be watched for a while."""
    count, deadline = 0, time.monotonic() + REPAIR_S
    while True:
        count += recover(session, queue)
        in_files = store_of(queue).files
        left = [] if in_files is None else in_files.findings(quick=True)
        if not any(finding.code in RECOVERED for finding in left) or time.monotonic() > deadline:
            return count
        time.sleep(REPAIR_PAUSE_S)
