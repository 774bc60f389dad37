"""A runner process, seen from its worker: start it, send it jobs, read its reports, stop it, kill it."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bgjobs import system
from bgjobs.worker import protocol
from bgjobs.worker.assignment import (
    NEVER,
    Began,
    Finished,
    Returned,
    Step,
    StopReason,
    finished,
    next_deadline,
    outcome_of_death,
    room_left,
    step_due,
)
from bgjobs.worker.protocol import Ended, Leave, NotStarted, Progressed, Ready, Recall, Setup, Stop

if TYPE_CHECKING:
    from bgjobs.config.settings import Settings
    from bgjobs.slots import Slots
    from bgjobs.system import Child
    from bgjobs.worker.assignment import Assignment, Report


# The import path is what the settings say and what is installed: not the current directory (-P), nor PYTHONPATH (-E),
# even if `pass_env` names it for programs that jobs start. Not -I: bgjobs may be installed for its user alone.
COMMAND: tuple[str, ...] = ("-E", "-P", "-X", "utf8", "-m", "bgjobs.worker.child.main")
DYING_S = 1.0
RETURN_S = 2.0  # what a process that gets no more jobs may take to return those that it holds
SPARE_DESCRIPTORS = 24  # a start takes 8 of them, of which it keeps 3
LEAVE_S = 5.0  # what a process may take to leave as Python does


def start_process(environment: dict[str, str]) -> Child:
    """Start what can become a runner: until then it waits, and holds nothing.

    Raises OSError, also when it would leave too few descriptors for all that is not a runner: a worker that cannot
    open a file any more can neither claim a job nor see that one is to be cancelled.
    """
    spare: list[int] = []
    try:
        spare.extend(os.dup(0) for _ in range(SPARE_DESCRIPTORS))
    finally:
        for descriptor in spare:
            os.close(descriptor)
    return system.start_child([sys.executable, *COMMAND], env=environment, cwd=None)


class Runner:
    """A child process that runs one job after another. It never outlives its worker."""

    def __init__(self, slot: int, setup: Setup, child: Child, now: float, lifespan: int = 1) -> None:
        """Make a process that was started for it the runner that serves so many jobs. It reports when it is ready."""
        self.slot = slot
        self.lifespan = lifespan
        self.held: deque[Assignment] = deque()
        self.ready: Ready | None = None
        self.served = 0
        self.started = now
        self.unusable = False  # it takes no further job
        self.stale = ""
        self.left: tuple[str, str, str] | None = None
        self.forced = False
        self._ended: Finished | None = None
        self._end_by = NEVER
        self._killed = False
        self._recalling = False
        self._outbox = b""
        self._lines = protocol.Lines()
        self._child = child
        self._send(setup)

    @property
    def output_fd(self) -> int:
        """The descriptor from which to read the messages of the runner."""
        return self._child.output_fd

    @property
    def head(self) -> Assignment | None:
        """The job that it runs now."""
        return self.held[0] if self.held else None

    def room(self, depth: int, now: float) -> int:
        """Return how many more jobs it can take, if it may hold `depth`."""
        if self.ready is None or self.is_worn_out or self._awaits_recalled():
            return 0
        held, jobs_left = len(self.held), self.lifespan - self.served
        return room_left(depth, held=held, jobs_left=jobs_left, is_overdue=self.is_overdue(now))

    def _awaits_recalled(self) -> bool:
        """Tell whether jobs are on their way back: what is sent now would run before better ones among them."""
        self._recalling = self._recalling and any(held.recalled for held in list(self.held)[1:])
        return self._recalling

    def is_overdue(self, now: float) -> bool:
        """Tell whether the job that it runs takes so long that nothing should wait behind it."""
        return bool(self.held) and self.held[0].is_overdue(now)

    @property
    def is_unused(self) -> bool:
        """Whether it has not had a job yet and can take one."""
        return not self.served and self.ready is not None and not self.is_worn_out

    @property
    def is_worn_out(self) -> bool:
        """Whether it gets no more jobs: it has served long enough, is not clean, or dies."""
        return self.unusable or self.served >= self.lifespan

    def assign(self, assignment: Assignment, now: float) -> Began | None:
        """Give it a job to run, now or after those that it holds."""
        self.held.append(assignment)
        self.served += 1
        if assignment.message.user:
            self.lifespan = self.served  # it becomes that user for good
        self._outbox += protocol.encoded(assignment.message)
        return self._begin_head(now)

    @property
    def has_unsent(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Send what was assigned, all in one write: each wakes the runner."""
        if self._outbox:
            outbox, self._outbox = self._outbox, b""
            self._write(outbox)

    def recall(self) -> None:
        """Ask back what was sent ahead and is not begun, the last one first: it may go on with the next meanwhile."""
        for held in reversed(list(self.held)[1:]):
            if not held.recalled:
                held.recalled = self._recalling = True
                self._send(Recall(held.job.id))

    def stop(self, job_id: str, why: StopReason, now: float, by: str = "") -> None:
        """Ask a method to stop; after a while its whole process tree is killed if it does not."""
        held = self._holding(job_id)
        if held is None or held.stop_reason is not None:
            return
        held.ask_to_stop(why, by, now, is_head=held is self.head)
        reason = f"{why.value} ({by})" if by else why.value
        self._send(Stop(held.job.id, timed_out=why is StopReason.TIMED_OUT, reason=reason))

    def kill(self) -> None:
        """Kill it with its whole process tree."""
        self.unusable = self._killed = True
        self._end_tree()

    def _end_tree(self) -> None:
        if self.ready is None:
            # It has run no job, so it has no tree. To end a tree the root is stopped first; stopped before it has tied
            # itself to us, it would stay for ever if we died right then.
            self._child.kill()
        else:
            self._child.kill_tree()

    def deadline(self) -> float:
        """Return the monotonic moment at which `enforce_deadlines` has something to do."""
        return NEVER if self._killed else next_deadline(self.head, self._end_by)

    def enforce_deadlines(self, now: float) -> None:
        """Ask the running attempt to stop when its time is over; kill the process if it does not stop, or not end."""
        head = self.head
        if head is None or self._killed:
            return
        match step_due(head, self._end_by, now):
            case Step.STOP:
                head.stop_at = NEVER
                self.stop(head.job.id, StopReason.TIMED_OUT, now)
            case Step.KILL:
                self.forced = self._ended is not None
                self.kill()
            case Step.NONE:
                pass

    def accept_no_more(self, now: float) -> None:
        """Give it no further job; within two seconds it must have returned those that it has not begun."""
        if not self.unusable:
            self.unusable, self._end_by = True, now + RETURN_S

    def is_dead(self) -> bool:
        """Tell whether the process has ended, even if a forked child of it still holds its pipe open."""
        return self._child.poll() is not None

    def receive(self, data: bytes, now: float) -> list[Report]:
        """Read messages of the runner; return what they mean for the jobs that it holds."""
        reports: list[Report] = []
        try:
            for line in self._lines.feed(data):
                self._handle(protocol.decoded(line), reports, now)
        except (msgspec.DecodeError, ValueError, RecursionError):
            # User code wrote into our pipe. Nothing that comes now can be trusted.
            self.kill()
        return reports

    def _handle(self, message: protocol.FromRunner, reports: list[Report], now: float) -> None:
        """Do what a message asks for, and add what it means for the jobs to the reports."""
        if isinstance(message, Ready):
            self.ready = self.ready or message  # once: a job must not point at another process as its runner
            return
        held = self._holding(message.id)
        if held is None or (self._ended is not None and held is self._ended.assignment):
            return  # of an earlier job: too late to matter
        report: Report | None = None
        match message:
            case Progressed(progress=progress):
                held.progress = progress
            case Ended():
                report = self._end_attempt(message, held, now)
            case NotStarted():
                report = self._take_back(message, held, now)
        if report is None:
            return
        reports.append(report)
        began = self._begin_head(now)
        if began is not None:
            reports.append(began)

    def _end_attempt(self, message: Ended, held: Assignment, now: float) -> Finished | None:
        """Return how the attempt ended, or None if what it has left must end first."""
        if message.leaving or not message.clean:
            self.accept_no_more(now)
        if message.left:
            self.left = (held.job.class_name, held.job.method, message.left)
        self.stale = message.stale
        ended = finished(message, held)
        if message.leaving and held is self.head:
            # What it has left may still do its work: nobody may begin another attempt before that is gone.
            self._ended = replace(ended, died=True)
            self._end_by = now + LEAVE_S
            return None
        self.held.remove(held)
        return ended

    def _take_back(self, message: NotStarted, held: Assignment, now: float) -> Returned:
        self.held.remove(held)
        if not message.clean:
            self.accept_no_more(now)
        if held.stop_reason is StopReason.TIMED_OUT:
            self.kill()  # it had all the time that it needed: whatever it does, it does not run jobs any more
        return Returned(held, message.reason, message.gone, message.trouble, message.stale, message.begun)

    def _holding(self, job_id: str) -> Assignment | None:
        head = self.head
        if head is not None and head.job.id == job_id:
            return head
        return next((held for held in self.held if held.job.id == job_id), None)

    def _begin_head(self, now: float) -> Began | None:
        """Begin the time of a job that has just become the first."""
        head = self.head
        if head is None or head.head_since is not None or self.unusable:
            return None
        head.become_head(now)
        return Began(head)

    def reap(self, now: float) -> list[Report]:
        """Clear away the dead process and what it left; return what became of the jobs that it held."""
        self.unusable = True  # no job may be given to it any more, while what becomes of the last ones is stored
        reports = self._last_reports(now)
        status = self._child.wait(DYING_S)
        self._end_tree()
        self._child.wait(DYING_S)
        self._child.close()
        if self._ended is not None:
            self.held.remove(self._ended.assignment)
            reports.append(self._ended)
        held, self.held = self.held, deque()
        return [*reports, *(Finished(one, outcome_of_death(one, status, self.stale), died=True) for one in held)]

    def is_ended(self, held: Assignment) -> bool:
        """Tell whether this attempt had ended before the process did."""
        return self._ended is not None and self._ended.assignment is held

    def _last_reports(self, now: float) -> list[Report]:
        """Read what the dead runner had sent before: attempts that ended must not count as lost."""
        reports: list[Report] = []
        for data in self._child.rest():
            reports += self.receive(data, now)
        return reports

    def leave(self, now: float) -> bool:
        """Ask an idle runner to leave as Python does, in its own time but for `LEAVE_S`; return whether it can."""
        if self.ready is None or self._killed or self.held or not self.served or self.is_dead():
            return False
        self.unusable, self._end_by = True, now + LEAVE_S
        self._send(Leave())
        return True

    def finish_leaving(self, now: float) -> bool:
        """Close a runner that was asked to leave and is gone, or whose time is over (`forced`); tell whether it was."""
        status = self._child.poll()
        if status is None and now < self._end_by:
            self.flush()
            return False
        self.forced = status is None
        if status != 0 or self.ready is None or not self.ready.adopts:
            self._end_tree()  # else it has ended itself what its jobs had left
        self._child.wait(DYING_S)
        self._child.close()
        return True

    def retire(self) -> None:
        """End an idle runner at once, and whatever its jobs left running."""
        left_nothing = self.ready is not None and self.ready.adopts and not self.unusable and not self.held
        self.unusable = True
        if left_nothing:
            self._child.kill()  # it has looked, after each job; to look from here takes as long as many jobs
        else:
            self._end_tree()
        self._child.wait(DYING_S)
        self._child.close()

    def _send(self, message: protocol.ToRunner) -> None:
        self._outbox += protocol.encoded(message)
        self.flush()

    def _write(self, message: bytes) -> None:
        data = memoryview(message)
        try:
            while data:
                data = data[os.write(self._child.input_fd, data) :]
        except BlockingIOError:
            # Its pipe is full, perhaps because C code of the job does not let it read. We must not wait for that.
            self._outbox = bytes(data)
        except OSError:
            self.kill()  # it is dead, or has closed its pipe: the end of its output follows


def setup(configured: Settings, slots: Slots | None, slot: int, *, reload: bool = False) -> Setup:
    """Return what a runner needs to know before its first job; without slots it runs in the foreground."""
    if slots is None:
        return Setup(configured.import_paths, configured.cwd)
    return Setup(
        configured.import_paths,
        configured.cwd,
        lock=slots.lock(slot),
        output=slots.output(slot),
        reload=reload,
        from_source=reload or configured.on_code_change == "renew",
        most_growth=configured.recycle_growth,
    )


def environment(configured: Settings, worker: str) -> dict[str, str]:
    """Return the environment of a new runner of a worker.

    It has the harmless variables of this process, those that the settings name, where the queue is, and a mark by which
    the runner is found again with whatever it forks.
    """
    chosen = system.base_environment(os.environ)
    chosen |= {name: os.environ[name] for name in configured.pass_env if name in os.environ}
    return chosen | {
        "BGJOBS_CONFIG": configured.config,
        "BGJOBS_SPOOL": configured.spool,
        "BGJOBS_RUNNER": f"{worker}-{os.urandom(8).hex()}",
    }
