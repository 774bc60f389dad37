"""One runner process as its worker sees it: start it, give it a job, keep its deadlines, and say how that ended."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bgjobs import system
from bgjobs.job import Cancelled, Crashed, Interrupted, Job, JobError, Outcome, Progress, Succeeded, TimedOut, moment
from bgjobs.worker import limits, protocol
from bgjobs.worker.protocol import LOST_CONTACT, Ended, Leave, Progressed, Ready, Recall, Run, Setup, Stop, Unbegun

if TYPE_CHECKING:
    from bgjobs.config.settings import Settings
    from bgjobs.lifecycle import Policy
    from bgjobs.slots import Slots
    from bgjobs.system import Child


# The import path is what the settings say and what is installed: not the current directory (-P), nor PYTHONPATH (-E),
# even if `pass_env` names it for programs that jobs start. Not -I: bgjobs may be installed for its user alone.
COMMAND: tuple[str, ...] = ("-E", "-P", "-X", "utf8", "-m", "bgjobs.worker.child.main")
STOP_AT_MOST_S = 5.0
DYING_S = 1.0
SPENT_S = 2.0
OVERDUE_S = 0.1
SPARE_DESCRIPTORS = 24  # a start takes 8 of them, of which it keeps 3
LEAVE_S = 5.0  # what a process may take to leave as Python does


class Why(Enum):
    """Why an attempt is asked to stop."""

    TIMED_OUT = "the timeout has passed"
    CANCELLED = "the job was cancelled"
    WORKER_STOPS = "the worker stops"


class Assignment:
    """A job in the hands of a runner: it runs now, or as soon as those before it have ended."""

    def __init__(self, job: Job, message: Run, policy: Policy) -> None:
        """Do not begin the clock of its timeout yet."""
        self.job = job
        self.message = message
        self.policy = policy
        self.progress: Progress | None = None
        self.recalled = False
        self.why: Why | None = None
        self.asked_by = ""
        self.head_since: float | None = None
        self.stop_at = self.kill_at = float("inf")

    def is_head_now(self) -> None:
        """Begin the clock of its timeout: nothing is before it any more."""
        self.head_since = time.monotonic()
        self.stop_at = self.head_since + self.policy.timeout.total_seconds()
        if self.why is not None:
            self.kill_at = self.head_since + self.patience()

    def patience(self) -> float:
        """Return how many seconds the method may take to stop after it was asked to."""
        seconds = self.policy.kill_after.total_seconds()
        return min(seconds, STOP_AT_MOST_S) if self.why is Why.WORKER_STOPS else seconds


class Began(Struct, frozen=True):
    """The runner has turned to this job."""

    assignment: Assignment


class Finished(Struct, frozen=True):
    """The attempt ended. After the death of the runner nobody knows yet whether it had begun at all: `died`.

    `recorded_ms` is when the runner wrote down that it succeeded, if it did. `stale` and `output_left`: see `Ended`.
    """

    assignment: Assignment
    outcome: Outcome
    began_ms: int | None = None
    took: float | None = None
    died: bool = False
    recorded_ms: int | None = None
    stale: str = ""
    output_left: bool = False

    def running(self) -> Job:
        """Return the job as it ran: with the moment at which it really began, and its latest progress."""
        job = self.assignment.job
        if self.began_ms is not None:
            *earlier, last = job.attempts
            began = replace(last, started_at=moment(self.began_ms))
            job = replace(job, attempts=(*earlier, began))
        return job if self.assignment.progress is None else replace(job, progress=self.assignment.progress)


class Returned(Struct, frozen=True):
    """The job was not begun. `gone`: it is not ours any more; `trouble`: it could not be begun.

    `stale` and `begun` are as in `Unbegun`.
    """

    assignment: Assignment
    reason: str = ""
    gone: bool = False
    trouble: bool = False
    stale: str = ""
    begun: bool = False


Report = Began | Finished | Returned


def start_process(environment: dict[str, str]) -> Child:
    """Start what can become a runner: until then it waits, and holds nothing.

    Raises OSError, also when it would leave too few descriptors for all that is not a runner: who cannot open a file
    any more can neither claim a job nor see that one is to be cancelled.
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

    def __init__(self, slot: int, setup: Setup, child: Child, lifespan: int = 1) -> None:
        """Make a process that was started for it the runner that serves so many jobs. It says when it is ready."""
        self.slot = slot
        self.lifespan = lifespan
        self.held: deque[Assignment] = deque()
        self.ready: Ready | None = None
        self.served = 0
        self.started = time.monotonic()
        self.spent = False
        self.stale = ""
        self.left: tuple[str, str, str] | None = None
        self.forced = False
        self._ended: Finished | None = None
        self._leave_until = float("inf")
        self._spent_since: float | None = None
        self._killed = False
        self._recalling = False
        self._outbox = b""
        self._lines = protocol.Lines()
        self._child = child
        self._send(setup)

    @property
    def output_fd(self) -> int:
        """The descriptor with what the runner says."""
        return self._child.output_fd

    @property
    def head(self) -> Assignment | None:
        """The job that it runs now."""
        return self.held[0] if self.held else None

    def room(self, depth: int) -> int:
        """Return how many more jobs it can take, if so many may be in its hands. Nothing waits behind a long job."""
        if self.ready is None or self.worn or self._awaits_recalled():
            return 0
        return min((1 if self.is_overdue() else depth) - len(self.held), self.lifespan - self.served)

    def _awaits_recalled(self) -> bool:
        """Tell whether jobs are on their way back: what is sent now would run before better ones among them."""
        self._recalling = self._recalling and any(held.recalled for held in list(self.held)[1:])
        return self._recalling

    def is_overdue(self) -> bool:
        """Tell whether the job that it runs takes so long that nothing should wait behind it."""
        head = self.head
        return head is not None and head.head_since is not None and time.monotonic() - head.head_since > OVERDUE_S

    @property
    def unused(self) -> bool:
        """Whether it has not had a job yet and can take one."""
        return not self.served and self.room(1) > 0

    @property
    def worn(self) -> bool:
        """Whether it gets no more jobs: it has served long enough, is not clean, or dies."""
        return self.spent or self.served >= self.lifespan

    def assign(self, assignment: Assignment) -> Began | None:
        """Give it a job to run, now or after those that it holds."""
        self.held.append(assignment)
        self.served += 1
        if assignment.message.user:
            self.lifespan = self.served  # it becomes that user for good
        self._outbox += protocol.encoded(assignment.message)
        return self._turn()

    @property
    def behind(self) -> bool:
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

    def stop(self, job_id: str, why: Why, by: str = "") -> None:
        """Ask a method to stop; kill its whole process tree if it does not."""
        held = self._holding(job_id)
        if held is None or held.why is not None:
            return
        held.why, held.asked_by = why, by
        if held is self.head:
            held.kill_at = time.monotonic() + held.patience()
        reason = f"{why.value} ({by})" if by else why.value
        self._send(Stop(held.job.id, timed_out=why is Why.TIMED_OUT, reason=reason))

    def kill(self) -> None:
        """Kill it with its whole process tree."""
        self.spent = self._killed = True
        self._end_tree()

    def _end_tree(self) -> None:
        if self.ready is None:
            # It has run no job, so it has no tree. To end a tree the root is stopped first; stopped before it has tied
            # itself to us, it would stay for ever if we died right then.
            self._child.kill()
        else:
            self._child.kill_tree()

    def deadline(self) -> float:
        """Return the monotonic moment at which `check` has something to do."""
        head = self.head
        if head is None or self._killed:
            return float("inf")
        if self._ended is not None:
            return min(head.kill_at, self._leave_until)
        if self.spent:
            return min(head.kill_at, (self._spent_since or 0.0) + SPENT_S)
        return min(head.stop_at, head.kill_at)

    def check(self, now: float) -> None:
        """Keep the deadlines of the running attempt."""
        head = self.head
        if head is None or self._killed:
            return
        if self._ended is not None:
            if now >= min(head.kill_at, self._leave_until):
                self.forced = True
                self.kill()
            return
        if self.spent and self._spent_since is None:
            self._spent_since = now
        if now >= head.kill_at or (self._spent_since is not None and now >= self._spent_since + SPENT_S):
            self.kill()  # the second: it should have given back long ago what it holds
        elif self.spent:
            return
        elif now >= head.stop_at:
            head.stop_at = float("inf")
            self.stop(head.job.id, Why.TIMED_OUT)

    def is_dead(self) -> bool:
        """Tell whether the process has ended, even if a forked child of it still holds its pipe open."""
        return self._child.poll() is not None

    def hear(self, data: bytes) -> list[Report]:
        """Take what the runner said; return what that means for the jobs it holds."""
        reports: list[Report] = []
        try:
            for line in self._lines.feed(data):
                self._understand(protocol.heard(line), reports)
        except (msgspec.DecodeError, ValueError, RecursionError):
            # User code wrote into our pipe. Nothing that comes now can be trusted.
            self.kill()
        return reports

    def _understand(self, message: protocol.FromRunner, reports: list[Report]) -> None:
        """Do what a message asks for, and add what it means for the jobs to the reports."""
        if isinstance(message, Ready):
            self.ready = self.ready or message  # once: a job must not point at another process as its runner
            return
        held = self._holding(message.id)
        if held is None or (self._ended is not None and held is self._ended.assignment):
            return  # of an earlier job: too late to matter
        match message:
            case Progressed(progress=progress):
                held.progress = progress
                return
            case Ended():
                self.spent = self.spent or not message.clean or message.leaving
                if message.left:
                    self.left = (held.job.class_name, held.job.method, message.left)
                outcome = outcome_of(message, held)
                # One that has become another user could not write there.
                recorded = message.recorded_ms if isinstance(outcome, Succeeded) and not held.message.user else None
                self.stale = message.stale
                ended = Finished(
                    held,
                    outcome,
                    message.began_ms,
                    message.took,
                    recorded_ms=recorded,
                    stale=message.stale,
                    output_left=message.output_left,
                )
                if message.leaving and held is self.head:
                    # What it has left may still do its work: nobody may begin another attempt before that is gone.
                    self._ended = replace(ended, died=True)
                    self._leave_until = time.monotonic() + LEAVE_S
                    return
                self.held.remove(held)
                reports.append(ended)
            case Unbegun():
                self.held.remove(held)
                self.spent = self.spent or not message.clean
                if held.why is Why.TIMED_OUT:
                    self.kill()  # it had all the time that it needed: whatever it does, it does not run jobs any more
                reports.append(
                    Returned(held, message.reason, message.gone, message.trouble, message.stale, message.begun)
                )
        began = self._turn()
        if began is not None:
            reports.append(began)

    def _holding(self, job_id: str) -> Assignment | None:
        head = self.head
        if head is not None and head.job.id == job_id:
            return head
        return next((held for held in self.held if held.job.id == job_id), None)

    def _turn(self) -> Began | None:
        """Begin the clock of a job that has just become the first."""
        head = self.head
        if head is None or head.head_since is not None or self.spent:
            return None
        head.is_head_now()
        return Began(head)

    def bury(self) -> list[Report]:
        """Clear away the dead process and what it left; return what became of the jobs that it held."""
        self.spent = True  # no job may be given to it any more, while what becomes of the last ones is stored
        reports = self._last_words()
        status = self._child.wait(DYING_S)
        self._end_tree()
        self._child.wait(DYING_S)
        self._child.close()
        if self._ended is not None:
            self.held.remove(self._ended.assignment)
            reports.append(self._ended)
        held, self.held = self.held, deque()
        return [*reports, *(Finished(one, _outcome_of_death(one, status, self.stale), died=True) for one in held)]

    def is_ended(self, held: Assignment) -> bool:
        """Tell whether this attempt had ended before the process did."""
        return self._ended is not None and self._ended.assignment is held

    def _last_words(self) -> list[Report]:
        """Hear what the dead runner had said before: attempts that ended must not count as lost."""
        reports: list[Report] = []
        for data in self._child.rest():
            reports += self.hear(data)
        return reports

    def leave(self) -> bool:
        """Ask an idle runner to leave as Python does, in its own time but for `LEAVE_S`; return whether it can."""
        if self.ready is None or self._killed or self.held or not self.served or self.is_dead():
            return False
        self.spent = True
        self._leave_until = time.monotonic() + LEAVE_S
        self._send(Leave())
        return True

    def has_left(self, now: float) -> bool:
        """Tell whether a runner that was asked to leave is gone; end it when its time is over (`forced`)."""
        status = self._child.poll()
        if status is None and now < self._leave_until:
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
        left_nothing = self.ready is not None and self.ready.adopts and not self.spent and not self.held
        self.spent = True
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
            self.kill()  # it is dead, or deaf: the end of its output says the rest


def outcome_of(message: Ended, held: Assignment) -> Outcome:
    """Return how an attempt ended that ended by itself, perhaps because it was asked to."""
    outcome = message.outcome
    match held.why:
        case None:
            return outcome
        case Why.TIMED_OUT:
            return TimedOut(held.policy.timeout) if message.stopped else outcome
        case Why.CANCELLED:
            # A method that catches the request, cleans up and returns was cancelled all the same.
            finished_first = isinstance(outcome, Succeeded) and not message.stopped
            return outcome if finished_first else Cancelled(held.asked_by)
        case Why.WORKER_STOPS:
            # Whatever a method returns that was told to stop, it has not done its job.
            return Interrupted() if message.stopped else outcome


def _outcome_of_death(held: Assignment, status: int | None, stale: str) -> Outcome:
    match held.why:
        case Why.TIMED_OUT:
            return TimedOut(held.policy.timeout, status)
        case Why.CANCELLED:
            return Cancelled(held.asked_by)
        case Why.WORKER_STOPS:
            return Interrupted()
        case None:
            remark = f"; {stale} has changed since this process loaded it" if stale else ""
            message = described(status) + limits.suspicion(status, held.policy) + remark
            return Crashed(limits.ended_by(status, held.policy) or JobError(type="Crashed", message=message), status)


def described(status: int | None) -> str:
    """Say in words how a process ended."""
    if status is None:
        return "its process closed its pipes and had to be killed"
    if status == LOST_CONTACT:
        return "its process could not answer any more: did the method close descriptors that were not its own?"
    if status < 0:
        return f"its process was killed by {system.signal_name(-status)}"
    return f"its process exited with status {status} before the method returned"


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
