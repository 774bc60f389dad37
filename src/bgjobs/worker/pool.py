"""The runners of one worker: as many as it has slots, each replaced when it has died or is worn out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs.worker import assignments
from bgjobs.worker.runners import Report, Runner, Why

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.backend import Session
    from bgjobs.job import Progress
    from bgjobs.queue import Queue
    from bgjobs.system import Poller
    from bgjobs.worker.options import WorkerOptions

MOST_FAILED_STARTS = 5


class Pool:
    """Starts runners, hears them, and buries them."""

    def __init__(self, queue: Queue, session: Session, poller: Poller, options: WorkerOptions) -> None:
        """Start all runners; they get ready by themselves."""
        self._queue = queue
        self._session = session
        self._poller = poller
        self._recycle = options.recycle
        self._failed_starts = 0
        self._closing = False
        self._runners: dict[int, Runner] = {}
        for slot in range(options.concurrency):
            self._start(slot)

    @property
    def broken(self) -> bool:
        """Whether runners cannot be started at all."""
        return self._failed_starts >= MOST_FAILED_STARTS

    def idle(self) -> list[Runner]:
        """Return the runners that can take a job."""
        return [runner for runner in self._runners.values() if runner.idle]

    def busy(self) -> list[Runner]:
        """Return the runners that have one."""
        return [runner for runner in self._runners.values() if runner.assignment is not None]

    def progress(self) -> dict[str, Progress]:
        """Return how far the running jobs say they are."""
        held = [runner.assignment for runner in self.busy()]
        return {one.job.id: one.progress for one in held if one is not None and one.progress is not None}

    def deadlines(self) -> Iterator[float]:
        """Go through the monotonic moments at which `keep_deadlines` has something to do."""
        for runner in self._runners.values():
            deadline = runner.deadline()
            if deadline is not None:
                yield deadline

    def keep_deadlines(self, now: float) -> None:
        """Ask attempts to stop whose time is over, and kill those that did not."""
        for runner in self._runners.values():
            runner.check(now)

    def cancel(self, job_id: str, by: str) -> bool:
        """Ask the attempt of this job to stop; return whether one of our runners has it."""
        for runner in self.busy():
            if runner.assignment is not None and runner.assignment.job.id == job_id:
                runner.stop(Why.CANCELLED, by)
                return True
        return False

    def hear(self, runner: object, data: bytes) -> Iterator[Report]:
        """Take what a runner said; go through what became of the jobs that it held."""
        assert isinstance(runner, Runner)  # noqa: S101 - the poller's keys are our runners
        if self._runners.get(runner.slot) is not runner:
            return
        if not data:
            yield from self._bury(runner)
            return
        was_ready = runner.ready is not None
        yield from runner.hear(data)
        if runner.ready is not None and not was_ready:
            self._failed_starts = 0
            self._session.runner_started(runner.slot, runner.ready.pid, runner.ready.birth)
        if runner.assignment is None and (runner.spent or runner.served >= self._recycle):
            self._replace(runner)

    def look_after(self) -> Iterator[Report]:
        """Notice dead runners whose pipe a child of theirs still holds open, and output that has grown too long."""
        for runner in list(self._runners.values()):
            if runner.is_dead():
                self._poller.forget(runner)
                yield from self._bury(runner)
            elif runner.assignment is not None:
                self._session.limit_output(runner.slot, runner.assignment.policy.max_output)

    def renew(self) -> None:
        """Replace every runner by a fresh one, the busy ones when they are done."""
        for runner in list(self._runners.values()):
            runner.spent = True
            if runner.assignment is None:
                self._replace(runner)

    def kill(self) -> None:
        """Kill all runners at once."""
        for runner in self._runners.values():
            runner.kill()

    def close(self) -> None:
        """End all runners."""
        self._closing = True
        for runner in self._runners.values():
            self._poller.forget(runner)
            runner.retire()
        self._runners.clear()

    def _start(self, slot: int) -> None:
        configured = self._queue.settings
        environment = assignments.environment(configured)
        runner = Runner(slot, assignments.setup(configured, self._session, slot), environment)
        self._runners[slot] = runner
        self._poller.watch(runner, runner.output_fd)

    def _replace(self, runner: Runner) -> None:
        self._poller.forget(runner)
        runner.retire()
        self._start(runner.slot)

    def _bury(self, runner: Runner) -> Iterator[Report]:
        if runner.ready is None:
            self._failed_starts += 1
            time.sleep(0.05 * self._failed_starts)  # a start that fails at once must not be a hot loop
        report = runner.bury()
        if report is not None:
            if report.assignment.message.keep_output is not None:
                self._session.keep_output(runner.slot, report.assignment.message.keep_output)
            yield report
        if not self._closing and not self.broken:
            self._start(runner.slot)
