"""Keep as many runners as there are slots; replace those that died or are worn out.

To start one takes as long as hundreds of short jobs. Until it has a place it only imports what a runner needs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.errors import why
from bgjobs.throttle import Once
from bgjobs.version import version
from bgjobs.worker.runner import LEAVE_S, Began, Finished, Report, Runner, Why, environment, setup, start_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job, Progress
    from bgjobs.queue import Queue
    from bgjobs.store import Session
    from bgjobs.system import Child, Poller
    from bgjobs.worker.options import WorkerOptions


DYING_S = 1.0


class Spares:
    """The processes of one worker that no runner has become yet. They know no job, and run none."""

    def __init__(self, queue: Queue, worker: str) -> None:
        """Have none."""
        self._queue = queue
        self._worker = worker
        self._waiting: list[Child] = []

    def keep(self, count: int) -> None:
        """Have so many at least. Raises OSError; what cannot be started now is started when it is needed."""
        while len(self._waiting) < count:
            self._waiting.append(self._start())

    def take(self) -> Child:
        """Return one that lives, started now if there is none. Raises OSError."""
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
MOST_TOLD = 1000  # methods
MOST_WORDS = 200  # letters
NEAR_ITS_END = 256  # jobs: about as many short ones as are run while a process starts


class Rooms:
    """How many more jobs each runner can take."""

    def __init__(self, rooms: dict[Runner, int]) -> None:
        """Begin with these."""
        self._rooms = rooms

    def roomiest(self) -> Runner | None:
        """Return the runner that can take the most jobs, or None when there is no room."""
        best = max(self._rooms, key=self._rooms.__getitem__, default=None)
        return best if best is not None and self._rooms[best] > 0 else None

    def take(self, runner: Runner) -> None:
        """One job more is on its way to it."""
        self._rooms[runner] = self._rooms.get(runner, 0) - 1


class Pool:
    """Starts runners, hears them, and buries them."""

    def __init__(
        self, queue: Queue, session: Session, poller: Poller, options: WorkerOptions, say: Callable[[str], None]
    ) -> None:
        """Start all runners; they get ready by themselves."""
        self._queue = queue
        self._slots = session.slots
        self._poller = poller
        self._recycle = options.recycle
        self._reload = options.reload
        self._failed_starts = 0  # in a row
        self._failure = ""
        self._replaced_by = ""
        self._start_at = 0.0  # no start before this monotonic moment: the last one failed
        self._vacant: set[int] = set()
        self._spares = Spares(queue, session.id)
        self._say = say
        self._stopping = False
        self._runners: dict[int, Runner] = {}
        self._leaving: list[Runner] = []
        self._costly = Once(MOST_TOLD)
        for slot in range(options.concurrency):
            # The first ones live shorter, each a little longer than the one before: so that not all wear out at once.
            self._start(slot, lifespan=max(1, options.recycle * (slot + 1) // options.concurrency))

    @property
    def broken(self) -> bool:
        """Whether runners cannot be started at all. As long as one serves, others are tried again and again."""
        if self._failed_starts < MOST_FAILED_STARTS:
            return bool(self._replaced_by)
        return not any(runner.ready is not None and not runner.spent for runner in self._runners.values())

    @property
    def trouble(self) -> str:
        """Why runners cannot be started."""
        if self._replaced_by:
            return f"bgjobs on the disk has version {self._replaced_by}, this worker {version()}: start it again"
        if self._failure:
            return f"no runner can be started, as was tried {self._failed_starts} times: {self._failure}"
        return f"{self._failed_starts} runners in a row died before they were ready: see `bgjobs check`"

    def start_no_more(self) -> None:
        """Replace no runner from now on: the worker stops."""
        self._stopping = True

    def room(self, depth: int) -> int:
        """Return how many more jobs the runners can take, if each may hold so many."""
        return sum(max(0, runner.room(depth)) for runner in self._runners.values())

    def rooms(self, depth: int) -> Rooms:
        """Return how many more jobs each runner can take, if each may hold so many, to share out many at once."""
        return Rooms({runner: runner.room(depth) for runner in self._runners.values()})

    def unused(self) -> Runner | None:
        """Return a runner that has not had a job yet, or None."""
        return next((runner for runner in self._runners.values() if runner.unused), None)

    def make_unused(self, count: int) -> bool:
        """Replace idle runners until so many are about to be ready; return whether there are so many."""
        starting = len(self._vacant) + sum(runner.ready is None for runner in self._runners.values())
        for runner in list(self._runners.values()):
            if starting < count and runner.ready is not None and not runner.held:
                runner.lifespan = 0
                self._replace_if_worn(runner)
                starting += 1
        return starting >= count

    def behind(self) -> bool:
        """Tell whether something is still to be sent to a runner."""
        return any(runner.behind for runner in self._runners.values())

    def flush(self) -> None:
        """Send the runners what was assigned to them."""
        for runner in self._runners.values():
            runner.flush()

    def prepare(self) -> None:
        """Start in time what is to take the place of runners that will soon have served long enough."""
        if time.monotonic() < self._start_at:
            return
        near = sum(runner.lifespan - runner.served < NEAR_ITS_END for runner in self._runners.values())
        try:
            self._spares.keep(near)
        except OSError as error:
            self._cannot_start(error)

    def busy(self) -> list[Runner]:
        """Return the runners that have a job."""
        return [runner for runner in self._runners.values() if runner.held]

    def is_stale(self) -> bool:
        """Tell whether a runner has said that its code is not what is on the disk any more."""
        return any(runner.stale and not runner.worn for runner in self._runners.values())

    def sent_ahead(self) -> list[Job]:
        """Return the jobs that runners hold behind the one that they run."""
        return [held.job for runner in self._runners.values() for held in list(runner.held)[1:]]

    def progress(self) -> dict[str, Progress]:
        """Return how far the running jobs say they are."""
        heads = [runner.head for runner in self.busy()]
        return {one.job.id: one.progress for one in heads if one is not None and one.progress is not None}

    def deadline(self) -> float:
        """Return the monotonic moment at which `keep_deadlines` has something to do."""
        return min((runner.deadline() for runner in self._runners.values()), default=float("inf"))

    def keep_deadlines(self, now: float) -> None:
        """Ask attempts to stop whose time is over, and kill those that did not."""
        for runner in self._runners.values():
            runner.check(now)

    def cancel(self, job_id: str, by: str) -> bool:
        """Ask the attempt of this job to stop; return whether one of our runners has it."""
        for runner in self.busy():
            if any(held.job.id == job_id for held in runner.held):
                runner.stop(job_id, Why.CANCELLED, by)
                return True
        return False

    def recall(self, *, overdue_only: bool = False) -> None:
        """Ask back what was sent ahead, from all runners or only from those whose running job takes long."""
        for runner in self.busy():
            if runner.is_overdue() or not overdue_only:
                runner.recall()

    def interrupt(self) -> None:
        """Ask all running methods to stop, because the worker does."""
        for runner in self.busy():
            for held in list(runner.held):
                runner.stop(held.job.id, Why.WORKER_STOPS)

    def hear(self, runner: object, data: bytes) -> Iterator[Report]:
        """Take what a runner said; go through what became of the jobs that it held."""
        assert isinstance(runner, Runner)  # noqa: S101 - the poller's keys are our runners
        if self._runners.get(runner.slot) is not runner:
            return
        if not data:
            yield from self._bury(runner)
            return
        was_ready = runner.ready is not None
        heard = runner.hear(data)
        self._tell_once(runner)
        for report in heard:
            left = isinstance(report, Finished) and report.output_left
            if left or (report.assignment.message.user and not isinstance(report, Began)):
                # It may not keep its output itself any more. Nothing that it has left may write while we do.
                runner.kill()
                self._keep_output(runner, report)
            yield report
        if runner.ready is not None and not was_ready:
            if runner.ready.version != version():
                self._give_up_on(runner, runner.ready.version)
                return
            self._failed_starts, self._failure = 0, ""
            # Without the note a recoverer has to rely on the death pipe alone.
            with suppress(OSError):
                self._slots.started(runner.slot, runner.ready.pid, runner.ready.birth)
        self._replace_if_worn(runner)

    def _give_up_on(self, runner: Runner, version: str) -> None:
        """Run nothing in a process of another bgjobs than ours: its messages may mean something else."""
        runner.spent = True
        self._replaced_by = version

    def look_after(self) -> Iterator[Report]:
        """Notice dead runners whose pipe a child of theirs still holds open, and output that has grown too long."""
        system.reap_adopted()
        self._fill_vacant()
        self._see_off()
        if not self.busy():
            self._spares.close()  # nothing is urgent any more
        for runner in list(self._runners.values()):
            if runner.is_dead():
                self._poller.forget(runner)
                yield from self._bury(runner)
            elif runner.ready is None and time.monotonic() - runner.started > START_PATIENCE_S:
                self._say(f"a runner that was not ready after {START_PATIENCE_S:g} s is killed")
                runner.kill()
            elif runner.head is not None:
                self._slots.limit_output(runner.slot, runner.head.policy.max_output)

    def renew(self) -> None:
        """Replace every runner by a fresh one, the busy ones when they are done."""
        self._spares.close()  # their environment is that of the old settings
        for runner in list(self._runners.values()):
            runner.recall()
            runner.lifespan = 0
            self._replace_if_worn(runner)

    def kill(self) -> None:
        """Kill all runners at once."""
        for runner in self._runners.values():
            runner.kill()

    def close(self, hurried: Callable[[], bool]) -> None:
        """Let all runners leave, and wait for that; no longer once somebody is in a hurry."""
        self._stopping = True
        for runner in self._runners.values():
            self._retire(runner)
        self._runners.clear()
        self._spares.close()
        while self._leaving:
            time.sleep(SHORT_S)
            self._see_off(at_once=hurried())

    def _start(self, slot: int, lifespan: int | None = None) -> None:
        """Start the runner of a slot whose last one is gone; later, if starts fail right now."""
        # Its descriptors are closed. Whatever happens here, nobody may find it in its slot any more.
        self._runners.pop(slot, None)
        if self._stopping:
            return
        self._vacant.add(slot)
        if time.monotonic() < self._start_at:
            return
        first_message = setup(self._queue.settings, self._slots, slot, reload=self._reload)
        runner = None
        try:
            runner = Runner(slot, first_message, self._spares.take(), self._recycle if lifespan is None else lifespan)
            self._poller.watch(runner, runner.output_fd)
        except OSError as error:
            # No program, no process or no descriptor to be had right now: the other runners go on.
            if runner is not None:
                runner.retire()
            self._cannot_start(error)
            return
        self._vacant.discard(slot)
        self._runners[slot] = runner

    def _cannot_start(self, error: OSError) -> None:
        before = self._failure
        self._failure = why(error)
        self._count_failed_start()
        if self._failure != before:
            self._say(f"cannot start a runner: {self._failure}; it is tried again")

    def _count_failed_start(self) -> None:
        """Let the next start wait: one that fails at once must not be a hot loop."""
        self._failed_starts += 1
        pause = FIRST_PAUSE_S * 2 ** min(self._failed_starts - 1, 10)
        self._start_at = time.monotonic() + min(pause, LONGEST_PAUSE_S)

    def _fill_vacant(self) -> None:
        for slot in sorted(self._vacant):
            self._start(slot)

    def _replace_if_worn(self, runner: Runner) -> None:
        """Replace a runner that has served long enough or is not clean, once it holds no job."""
        if self._runners.get(runner.slot) is not runner or runner.ready is None or runner.held or not runner.worn:
            return
        self._retire(runner)
        self._start(runner.slot)

    def _retire(self, runner: Runner) -> None:
        """Let a runner leave in its own time, if it has served. The next one in its place need not wait for that."""
        self._poller.forget(runner)
        if runner.leave():
            self._leaving.append(runner)
        else:
            runner.retire()

    def _see_off(self, *, at_once: bool = False) -> None:
        """Notice who has left, and end who takes too long."""
        now = float("inf") if at_once else time.monotonic()
        for runner in self._leaving[:]:
            if runner.has_left(now):
                self._leaving.remove(runner)
                if runner.forced:
                    self._say(f"ended the process of runner {runner.slot} by force: {'asked to' if at_once else STILL}")

    def _tell_once(self, runner: Runner) -> None:
        """Say which method costs a process for each of its jobs, and why."""
        if runner.left is None:
            return
        (class_name, method, left), runner.left = runner.left, None
        if self._costly.first((class_name, method)):
            self._say(f"{class_name}.{method} costs a process for each of its jobs: {left[:MOST_WORDS]}")

    def _tell_of_force(self, runner: Runner, report: Report) -> None:
        """Say that what an attempt had left had to be ended, to who watches the worker and in the attempt's output."""
        job = report.assignment.job
        self._say(f"{job.class_name}.{job.method} {job.id}: ended by force what it had left: {STILL_LEFT}")
        with suppress(OSError):
            self._slots.add_to_output(runner.slot, f"\n[ended by force: {STILL_LEFT}]\n")

    def _keep_output(self, runner: Runner, report: Report) -> None:
        held = report.assignment
        if held.message.keep_output is not None:
            self._slots.cut_output(runner.slot, held.policy.max_output)
            if runner.forced and runner.is_ended(held):
                self._tell_of_force(runner, report)
            self._slots.keep_output(runner.slot, held.message.keep_output)

    def _bury(self, runner: Runner) -> Iterator[Report]:
        if runner.ready is None:
            self._failure = ""
            self._count_failed_start()
        for report in runner.bury():
            # Others had kept their output before they said how they ended.
            left = isinstance(report, Finished) and (report.died or report.output_left)
            if left or report.assignment.message.user:
                self._keep_output(runner, report)
            yield report
        self._start(runner.slot)
