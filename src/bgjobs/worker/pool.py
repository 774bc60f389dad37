"""Keep as many runners as there are slots; replace those that died, have served long enough or are not clean.

To start one takes as long as hundreds of short jobs. Until it has a slot it only imports what a runner needs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.errors import why
from bgjobs.throttle import Once
from bgjobs.version import version
from bgjobs.worker.assignment import NEVER, Began, Finished, Report, StopReason
from bgjobs.worker.runner import LEAVE_S, Runner, environment, setup, start_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job, Progress
    from bgjobs.queue import Queue
    from bgjobs.store import Session
    from bgjobs.system import Child, Poller
    from bgjobs.worker.options import WorkerOptions


DYING_S = 1.0


class Spares:
    """Spare processes of one worker, started before a runner needs them. They run no job."""

    def __init__(self, queue: Queue, worker: str) -> None:
        """Begin with none."""
        self._queue = queue
        self._worker = worker
        self._waiting: list[Child] = []

    def keep(self, count: int) -> None:
        """Start processes until there are so many. Raises OSError; one that is missing is started when it is needed."""
        while len(self._waiting) < count:
            self._waiting.append(self._start())

    def take(self) -> Child:
        """Return a living one, started now if there is none. Raises OSError."""
        while self._waiting:
            process = self._waiting.pop(0)
            if process.poll() is None:
                return process
            process.close()
        return self._start()

    def close(self) -> None:
        """End them all."""
        for process in self._waiting:
            process.kill()
            process.wait(DYING_S)
            process.close()
        self._waiting.clear()

    def _start(self) -> Child:
        return start_process(environment(self._queue.settings, self._worker))


MOST_FAILED_STARTS = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0  # after a start that failed; each is twice as long as the one before
START_PATIENCE_S = 120.0  # a loaded machine may take long to start a runner; one that hangs is never ready
SHORT_S = 0.005
STILL = f"it still ran {LEAVE_S:g} s after it was asked to leave"
STILL_LEFT = f"threads or processes of it still ran {LEAVE_S:g} s after the method had ended"
MOST_ANNOUNCED = 1000  # methods
MOST_SHOWN = 200  # letters
NEAR_ITS_END = 256  # jobs: about as many short ones as are run while a process starts


def first_lifespans(recycle: int, count: int) -> list[int]:
    """Return how many jobs the first runners serve that live shorter, so that not all are replaced at once."""
    return [max(1, recycle * number // count) for number in range(1, count + 1)]


class StartFailures:
    """Lets starts wait that would fail again, each twice as long as the one before, and counts them.

    One that fails at once must not be a hot loop.
    """

    def __init__(self) -> None:
        """None has failed yet."""
        self.count = 0  # in a row
        self.reason = ""
        self._start_at = 0.0

    def may_start(self, now: float) -> bool:
        """Tell whether a start may be tried now."""
        return now >= self._start_at

    def add(self, now: float, reason: str = "") -> None:
        """Count one more; without a reason its process died before it was ready."""
        self.count += 1
        self.reason = reason
        pause_s = FIRST_PAUSE_S * 2 ** min(self.count - 1, 10)
        self._start_at = now + min(pause_s, LONGEST_PAUSE_S)

    def clear(self) -> None:
        """A runner is ready. The pause after the last failure goes on."""
        self.count, self.reason = 0, ""

    @property
    def are_enough(self) -> bool:
        """Whether so many have failed that no further one will succeed."""
        return self.count >= MOST_FAILED_STARTS


class Room:
    """How many more jobs each runner can take."""

    def __init__(self, left: dict[Runner, int]) -> None:
        """Begin with these."""
        self._left = left

    def most(self) -> Runner | None:
        """Return the runner that can take the most jobs, or None when there is no room."""
        best = max(self._left, key=self._left.__getitem__, default=None)
        return best if best is not None and self._left[best] > 0 else None

    def take(self, runner: Runner) -> None:
        """One job more is on its way to it."""
        self._left[runner] = self._left.get(runner, 0) - 1


class Pool:
    """Starts the runners of a worker, reads their messages, stops, kills and replaces them."""

    def __init__(
        self,
        queue: Queue,
        session: Session,
        poller: Poller,
        options: WorkerOptions,
        *,
        announce: Callable[[str], None],
        now: float,
    ) -> None:
        """Start all runners; they get ready by themselves."""
        self._queue = queue
        self._slots = session.slots
        self._poller = poller
        self._recycle = options.recycle
        self._reload = options.reload
        self._failures = StartFailures()
        self._replaced_by = ""
        self._vacant: set[int] = set()
        self._spares = Spares(queue, session.id)
        self._announce = announce
        self._stopping = False
        self._runners: dict[int, Runner] = {}
        self._leaving: list[Runner] = []
        self._costly = Once(MOST_ANNOUNCED)
        for slot, lifespan in enumerate(first_lifespans(options.recycle, options.concurrency)):
            self._start(slot, now, lifespan=lifespan)

    @property
    def broken(self) -> bool:
        """Whether runners cannot be started at all. As long as one serves, starts are tried again and again."""
        if not self._failures.are_enough:
            return bool(self._replaced_by)
        return not any(runner.ready is not None and not runner.unusable for runner in self._runners.values())

    @property
    def trouble(self) -> str:
        """Why runners cannot be started."""
        if self._replaced_by:
            return f"bgjobs on the disk has version {self._replaced_by}, this worker {version()}: start it again"
        count, reason = self._failures.count, self._failures.reason
        if reason:
            return f"no runner can be started, as was tried {count} times: {reason}"
        return f"{count} runners in a row died before they were ready: see `bgjobs check`"

    def start_no_more(self) -> None:
        """Start no runner any more: the worker stops."""
        self._stopping = True

    def room(self, depth: int, now: float) -> int:
        """Return how many more jobs the runners can take, if each may hold `depth`."""
        return sum(max(0, runner.room(depth, now)) for runner in self._runners.values())

    def room_of_each(self, depth: int, now: float) -> Room:
        """Return how many more jobs each runner can take, if each may hold `depth`, to share out many at once."""
        return Room({runner: runner.room(depth, now) for runner in self._runners.values()})

    def unused(self) -> Runner | None:
        """Return a runner that has not had a job yet, or None."""
        return next((runner for runner in self._runners.values() if runner.is_unused), None)

    def make_unused(self, count: int, now: float) -> bool:
        """Replace idle runners until so many are about to be ready; return whether there are so many."""
        starting = len(self._vacant) + sum(runner.ready is None for runner in self._runners.values())
        for runner in list(self._runners.values()):
            if starting < count and runner.ready is not None and not runner.held:
                runner.lifespan = 0
                self._replace_if_worn_out(runner, now)
                starting += 1
        return starting >= count

    def has_unsent(self) -> bool:
        """Tell whether something is still to be sent to a runner."""
        return any(runner.has_unsent for runner in self._runners.values())

    def flush(self) -> None:
        """Send the runners what was assigned to them."""
        for runner in self._runners.values():
            runner.flush()

    def prepare(self, now: float) -> None:
        """Start the processes in time that are to replace runners which have nearly served long enough."""
        if not self._failures.may_start(now):
            return
        near = sum(runner.lifespan - runner.served < NEAR_ITS_END for runner in self._runners.values())
        try:
            self._spares.keep(near)
        except OSError as error:
            self._cannot_start(error, now)

    def busy(self) -> list[Runner]:
        """Return the runners that have a job."""
        return [runner for runner in self._runners.values() if runner.held]

    def is_stale(self) -> bool:
        """Tell whether a runner has reported that its code was changed on the disk."""
        return any(runner.stale and not runner.is_worn_out for runner in self._runners.values())

    def sent_ahead(self) -> list[Job]:
        """Return the jobs that runners hold behind the one that they run."""
        return [held.job for runner in self._runners.values() for held in list(runner.held)[1:]]

    def progress(self) -> dict[str, Progress]:
        """Return the progress that the running jobs have reported."""
        heads = [runner.head for runner in self.busy()]
        return {one.job.id: one.progress for one in heads if one is not None and one.progress is not None}

    def deadline(self) -> float:
        """Return the monotonic moment at which `enforce_deadlines` has something to do."""
        return min((runner.deadline() for runner in self._runners.values()), default=NEVER)

    def enforce_deadlines(self, now: float) -> None:
        """Ask attempts to stop whose time is over, and kill those that did not."""
        for runner in self._runners.values():
            runner.enforce_deadlines(now)

    def cancel(self, job_id: str, by: str, now: float) -> bool:
        """Ask the attempt of this job to stop; return whether one of our runners has it."""
        for runner in self.busy():
            if any(held.job.id == job_id for held in runner.held):
                runner.stop(job_id, StopReason.CANCELLED, now, by)
                return True
        return False

    def recall(self) -> None:
        """Ask back what was sent ahead."""
        for runner in self.busy():
            runner.recall()

    def recall_overdue(self, now: float) -> None:
        """Ask back what was sent ahead of jobs that turn out to take long."""
        for runner in self.busy():
            if runner.is_overdue(now):
                runner.recall()

    def interrupt(self, now: float) -> None:
        """Ask all running methods to stop, because the worker does."""
        for runner in self.busy():
            for held in list(runner.held):
                runner.stop(held.job.id, StopReason.WORKER_STOPS, now)

    def receive(self, runner: object, data: bytes, now: float) -> Iterator[Report]:
        """Read messages of a runner, or notice its end; go through what became of the jobs that it held."""
        assert isinstance(runner, Runner)  # noqa: S101 - the poller's keys are our runners
        if self._runners.get(runner.slot) is not runner:
            return
        if not data:
            yield from self._reap(runner, now)
            return
        was_ready = runner.ready is not None
        reports = runner.receive(data, now)
        self._announce_costly_method(runner)
        for report in reports:
            left = isinstance(report, Finished) and report.output_left
            if left or (report.assignment.message.user and not isinstance(report, Began)):
                # The runner cannot store that output. What it has left must be dead before the worker does.
                runner.kill()
                self._keep_output(runner, report)
            yield report
        if runner.ready is not None and not was_ready:
            if runner.ready.version != version():
                self._reject(runner, runner.ready.version, now)
                return
            self._failures.clear()
            # Without this file, recovery has to rely on the death pipe alone.
            with suppress(OSError):
                self._slots.started(runner.slot, runner.ready.pid, runner.ready.birth)
        self._replace_if_worn_out(runner, now)

    def _reject(self, runner: Runner, version: str, now: float) -> None:
        """Run nothing in a process of another bgjobs than ours: its messages may mean something else."""
        runner.accept_no_more(now)
        self._replaced_by = version

    def check_runners(self, now: float) -> Iterator[Report]:
        """Notice dead runners whose pipe a child of theirs still holds open, and output that has grown too long."""
        system.reap_adopted()
        self._fill_vacant(now)
        self._reap_leaving(now)
        if not self.busy():
            self._spares.close()  # no runner will be needed soon
        for runner in list(self._runners.values()):
            if runner.is_dead():
                self._poller.forget(runner)
                yield from self._reap(runner, now)
            elif runner.ready is None and now - runner.started > START_PATIENCE_S:
                self._announce(f"a runner that was not ready after {START_PATIENCE_S:g} s is killed")
                runner.kill()
            elif runner.head is not None:
                self._slots.limit_output(runner.slot, runner.head.policy.max_output)

    def renew(self, now: float) -> None:
        """Replace every runner by a fresh one, the busy ones when they are done."""
        self._spares.close()  # their environment is that of the old settings
        for runner in list(self._runners.values()):
            runner.recall()
            runner.lifespan = 0
            self._replace_if_worn_out(runner, now)

    def kill(self) -> None:
        """Kill all runners at once."""
        for runner in self._runners.values():
            runner.kill()

    def close(self, now: float, is_urgent: Callable[[], bool]) -> None:
        """Let all runners leave, and wait for that; no longer once it is urgent."""
        self._stopping = True
        for runner in self._runners.values():
            self._retire(runner, now)
        self._runners.clear()
        self._spares.close()
        while self._leaving:
            time.sleep(SHORT_S)
            self._reap_leaving(NEVER if is_urgent() else time.monotonic())

    def _start(self, slot: int, now: float, lifespan: int | None = None) -> None:
        """Start the runner of a slot whose last one is gone; later, if starts fail right now."""
        # Its descriptors are closed: it must not be found in its slot, whatever happens below.
        self._runners.pop(slot, None)
        if self._stopping:
            return
        self._vacant.add(slot)
        if not self._failures.may_start(now):
            return
        first_message = setup(self._queue.settings, self._slots, slot, reload=self._reload)
        lifespan = self._recycle if lifespan is None else lifespan
        runner = None
        try:
            runner = Runner(slot, first_message, self._spares.take(), now, lifespan)
            self._poller.watch(runner, runner.output_fd)
        except OSError as error:
            # No program, no process or no descriptor to be had right now: the other runners go on.
            if runner is not None:
                runner.retire()
            self._cannot_start(error, now)
            return
        self._vacant.discard(slot)
        self._runners[slot] = runner

    def _cannot_start(self, error: OSError, now: float) -> None:
        before, reason = self._failures.reason, why(error)
        self._failures.add(now, reason)
        if reason != before:
            self._announce(f"cannot start a runner: {reason}; it is tried again")

    def _fill_vacant(self, now: float) -> None:
        for slot in sorted(self._vacant):
            self._start(slot, now)

    def _replace_if_worn_out(self, runner: Runner, now: float) -> None:
        """Replace a runner that has served long enough or is not clean, once it holds no job."""
        if self._runners.get(runner.slot) is not runner or runner.ready is None or runner.held:
            return
        if runner.is_worn_out:
            self._retire(runner, now)
            self._start(runner.slot, now)

    def _retire(self, runner: Runner, now: float) -> None:
        """Let a runner end as Python does, if it has served. The next one in its slot need not wait for that."""
        self._poller.forget(runner)
        if runner.leave(now):
            self._leaving.append(runner)
        else:
            runner.retire()

    def _reap_leaving(self, now: float) -> None:
        """Reap runners that have left, and kill those that take too long: with `NEVER` as the moment, all."""
        for runner in self._leaving[:]:
            if runner.finish_leaving(now):
                self._leaving.remove(runner)
                if runner.forced:
                    reason = "asked to" if now == NEVER else STILL
                    self._announce(f"ended the process of runner {runner.slot} by force: {reason}")

    def _announce_costly_method(self, runner: Runner) -> None:
        """Announce which method costs a process for each of its jobs, and why."""
        if runner.left is None:
            return
        (class_name, method, left), runner.left = runner.left, None
        if self._costly.first((class_name, method)):
            self._announce(f"{class_name}.{method} costs a process for each of its jobs: {left[:MOST_SHOWN]}")

    def _announce_force(self, runner: Runner, report: Report) -> None:
        """Announce that what an attempt had left was killed, and add that to the output of the attempt."""
        job = report.assignment.job
        self._announce(f"{job.class_name}.{job.method} {job.id}: ended by force what it had left: {STILL_LEFT}")
        with suppress(OSError):
            self._slots.add_to_output(runner.slot, f"\n[ended by force: {STILL_LEFT}]\n")

    def _keep_output(self, runner: Runner, report: Report) -> None:
        held = report.assignment
        if held.message.begin is not None:
            self._slots.cut_output(runner.slot, held.policy.max_output)
            if runner.forced and runner.is_ended(held):
                self._announce_force(runner, report)
            self._slots.keep_output(runner.slot, held.message.begin.output)

    def _reap(self, runner: Runner, now: float) -> Iterator[Report]:
        if runner.ready is None:
            self._failures.add(now)
        for report in runner.reap(now):
            # A runner that reported an end has kept the output of that attempt itself.
            left = isinstance(report, Finished) and (report.died or report.output_left)
            if left or report.assignment.message.user:
                self._keep_output(runner, report)
            yield report
        self._start(runner.slot, now)
