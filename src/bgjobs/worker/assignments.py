"""Turn a claimed job into what a runner needs to run it, or into a refusal: everything is checked again here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bgjobs import clock, lifecycle, system, users
from bgjobs.worker import limits
from bgjobs.worker.messages import Run, Setup
from bgjobs.worker.runners import Assignment

if TYPE_CHECKING:
    from bgjobs.backend import Claim, Session
    from bgjobs.queue import Queue
    from bgjobs.settings import Settings
    from bgjobs.worker.runners import Runner


def assignment(queue: Queue, session: Session, claim: Claim, *, worker: str, runner: Runner) -> Assignment:
    """Return the assignment for a claimed job that this ready runner is to run. Raises NotAllowedError."""
    assert runner.ready is not None  # noqa: S101 - only ready runners have room
    job = claim.job
    target = queue.allowlist.target_for(job)
    policy = lifecycle.with_wishes(target.policy, job)
    begun = lifecycle.started(job, worker=worker, at=clock.now())
    message = Run(
        id=job.id,
        attempt=begun.charged,
        retries=job.retries,
        class_name=job.class_name,
        method=job.method,
        module=target.module,
        owner=target.owner,
        args=job.args,
        kwargs=job.kwargs,
        text=job.text,
        secret=target.secret,
        begin=session.begin(claim, slot=runner.slot, pid=runner.ready.pid, birth=runner.ready.birth),
        keep_output=session.output_path(claim),
        max_output=policy.max_output,
        limits=limits.of(policy),
        user=users.other(policy),
        number=begun.attempts[-1].number,
        crashes=begun.crashes,
    )
    return Assignment(begun, message, policy)


def setup(configured: Settings, session: Session | None, slot: int, *, reload: bool = False) -> Setup:
    """Return what a runner needs to know before its first job; without a session it runs in the foreground."""
    if session is None:
        return Setup(configured.import_paths, configured.cwd)
    return Setup(
        configured.import_paths,
        configured.cwd,
        lock=session.runner_lock(slot),
        output=session.runner_output(slot),
        reload=reload,
        from_source=reload or configured.on_code_change == "renew",
    )


def environment(configured: Settings, worker: str) -> dict[str, str]:
    """Return the environment of a new runner of a worker.

    What is harmless of ours, what the settings name, where the queue is, and a mark by which it is found again with
    whatever it forks.
    """
    chosen = system.base_environment(os.environ)
    chosen |= {name: os.environ[name] for name in configured.pass_env if name in os.environ}
    return chosen | {
        "BGJOBS_CONFIG": configured.config,
        "BGJOBS_SPOOL": configured.spool,
        "BGJOBS_RUNNER": f"{worker}-{os.urandom(8).hex()}",
    }
