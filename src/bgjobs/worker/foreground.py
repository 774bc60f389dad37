"""Run one job here and now, or only look whether everything allowed can be found, in a runner but without a queue."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bgjobs import clock, lifecycle, system
from bgjobs.config import run_as, trust
from bgjobs.ids import lane_of, new_id
from bgjobs.job import Cancelled, Crashed, Job, JobError, Outcome, Raised, Refused, TimedOut
from bgjobs.worker.assignment import Assignment, Began, Finished, Report, Returned, StopReason, run_message
from bgjobs.worker.runner import Runner, environment, setup, start_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Self

    from bgjobs.config.allowlist import Target
    from bgjobs.queue import Queue

SLICE_S = 0.5
SHORT_S = 0.005
PROBE_TIMEOUT = timedelta(seconds=60)


class Problem(Struct, frozen=True):
    """An approved pair that cannot be called, and why."""

    class_name: str
    method: str
    reason: str


def run(queue: Queue, job: Job) -> Outcome:
    """Run a job that was not queued, with the checks and the timeout of a queued one; its output goes to stderr.

    Raises ConfigError where another user could choose what runs, or where it cannot run as the user that it has.
    """
    trust.refuse(queue.settings, queue.allowlist)
    target = queue.allowlist.target(job.class_name, job.method)
    run_as.refuse([target])
    policy = lifecycle.with_options_of(target.policy, job)
    begun = lifecycle.started(job, worker=f"{system.host()}:{os.getpid()}", at=job.submitted_at)
    with _Foreground(queue) as foreground:
        return foreground.run(Assignment(begun, run_message(target, begun, policy), policy))


def probe(queue: Queue) -> list[Problem]:
    """Import everything that is allowed, in child processes, as the user that it has; return what cannot be called.

    What cannot have its user here is left out (`users.problems`).
    """
    problems = []
    impossible = {(target.class_name, target.method) for target, _, _ in run_as.problems(queue.allowlist)}
    with _Foreground(queue) as foreground:
        for target in queue.allowlist:
            if (target.class_name, target.method) in impossible:
                continue
            reason = foreground.probe(target)
            if reason:
                problems.append(Problem(target.class_name, target.method, reason))
    return problems


def _outcome(report: Finished | Returned) -> Outcome:
    """Return how the attempt ended, or what kept it from beginning."""
    if isinstance(report, Finished):
        return report.outcome
    held = report.assignment
    match held.stop_reason:
        case StopReason.TIMED_OUT:
            return TimedOut(held.policy.timeout)
        case StopReason.CANCELLED:
            return Cancelled(held.asked_by)
        case StopReason.WORKER_STOPS | None:
            return Crashed(JobError(type="Crashed", message=report.reason or "it was not begun"))


def _ends(reports: list[Report]) -> Iterator[Finished | Returned]:
    return (report for report in reports if not isinstance(report, Began))


class _Foreground:
    """A runner that is ours alone, replaced when it dies."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._poller = system.Poller()
        self._runner: Runner | None = None
        self._user = ""
        self._asked = 0  # how often somebody has asked to stop
        self._signals: AbstractContextManager[None] = system.stop_requests(self._count_request)
        self._adoption: AbstractContextManager[None] = system.adopting()

    def __enter__(self) -> Self:
        self._signals.__enter__()
        self._adoption.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.__exit__(None, None, None)
        if self._runner is not None:
            self._dismiss(self._runner)
        self._poller.close()
        self._adoption.__exit__(None, None, None)

    def run(self, assignment: Assignment) -> Outcome:
        """Run one assignment to its end."""
        runner = self._ready(assignment.message.user)
        while runner.ready is None and not runner.unusable:
            list(self._reports(runner))  # only then: starting is no part of the time that the method has
            if self._asked:
                return Cancelled()
        runner.assign(assignment, time.monotonic())
        while True:
            self._stop_if_asked(runner)
            runner.flush()
            for report in self._reports(runner):
                return _outcome(report)
            if not runner.held:
                return Crashed(JobError(type="Crashed", message="its process ended before it could begin"))
            runner.enforce_deadlines(time.monotonic())

    def probe(self, target: Target) -> str:
        """Return why the target cannot be called, or nothing."""
        now = clock.now()
        job = Job(
            id=new_id(lane=lane_of(target.class_name, target.method)),
            class_name=target.class_name,
            method=target.method,
            priority=0,
            not_before=now,
            submitted_at=now,
            retries=0,
        )
        policy = replace(target.policy, timeout=PROBE_TIMEOUT, kill_after=lifecycle.NOW)
        match self.run(Assignment(job, run_message(target, job, policy, look_only=True), policy)):
            case Raised(error) | Refused(error) | Crashed(error):
                return f"{error.type}: {error.message}"
            case _:
                return ""

    def _ready(self, user: str) -> Runner:
        """Return a runner for jobs of this user. No process runs jobs of two."""
        if self._runner is not None and not self._runner.unusable and self._user == user:
            return self._runner
        self._user = user
        if self._runner is not None:
            self._dismiss(self._runner)
        configured = self._queue.settings
        # By this mark `bgjobs doctor` can tell whether this process lives, as it can of a worker by its lock.
        mark = f"run.{os.getpid()}.{system.birth(os.getpid()) or ''}"
        self._runner = Runner(
            0, setup(configured, None, 0), start_process(environment(configured, mark)), time.monotonic()
        )
        self._poller.watch(self._runner, self._runner.output_fd)
        return self._runner

    def _dismiss(self, runner: Runner) -> None:
        """Let a runner leave as Python does, and wait for that."""
        self._poller.forget(runner)
        if not runner.leave(time.monotonic()):
            runner.retire()
            return
        while not runner.finish_leaving(time.monotonic()):
            time.sleep(SHORT_S)

    def _reports(self, runner: Runner) -> Iterator[Finished | Returned]:
        messages = self._poller.wait(
            max(0.0, min(0.01 if runner.has_unsent else SLICE_S, runner.deadline() - time.monotonic()))
        )
        system.reap_adopted()
        for _, data in messages:
            if data:
                yield from _ends(runner.receive(data, time.monotonic()))
            else:
                yield from self._reap(runner)
                return
        if not messages and runner.is_dead():  # its pipe has no end, because a child that it forked holds it open
            yield from self._reap(runner)

    def _reap(self, runner: Runner) -> Iterator[Finished | Returned]:
        self._poller.forget(runner)
        yield from _ends(runner.reap(time.monotonic()))

    def _stop_if_asked(self, runner: Runner) -> None:
        """Ask the method to stop if somebody asked us to; when asked again, kill it."""
        if self._asked and runner.head is not None:
            runner.stop(runner.head.job.id, StopReason.CANCELLED, time.monotonic())
        if self._asked > 1:
            runner.kill()

    def _count_request(self) -> None:
        # No more than that: the signal may have come in the middle of a message to the runner.
        self._asked += 1
        self._poller.wake()
