"""One runner process as its worker sees it: start it, give it a job, keep its deadlines, and say how that ended."""

from __future__ import annotations

import os
import sys
import time
from enum import Enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bgjobs import system
from bgjobs.job import Cancelled, Crashed, Interrupted, Job, JobError, Outcome, Progress, Succeeded, TimedOut
from bgjobs.worker import messages
from bgjobs.worker.messages import LOST_CONTACT, Ended, Progressed, Ready, Run, Setup, Stop, Unbegun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.lifecycle import Policy

COMMAND = ("-P", "-X", "utf8", "-m", "bgjobs.worker.child")
STOP_AT_MOST_S = 5.0
DYING_S = 1.0


class Why(Enum):
    """Why an attempt is asked to stop."""

    TIMED_OUT = "the timeout has passed"
    CANCELLED = "the job was cancelled"
    WORKER_STOPS = "the worker stops"


class Assignment:
    """A job in the hands of a runner."""

    def __init__(self, job: Job, message: Run, policy: Policy) -> None:
        """Begin the clock of its timeout."""
        self.job = job
        self.message = message
        self.policy = policy
        self.progress: Progress | None = None
        self.why: Why | None = None
        self.asked_by = ""
        self.stop_at = time.monotonic() + policy.timeout.total_seconds()
        self.kill_at: float | None = None


class Finished(Struct, frozen=True):
    """The attempt ended."""

    assignment: Assignment
    outcome: Outcome
    began_ms: int | None = None


class Returned(Struct, frozen=True):
    """The job was not begun: put it back, or, if it is `gone`, forget it."""

    assignment: Assignment
    reason: str
    gone: bool


Report = Finished | Returned


class Runner:
    """A child process that runs one job after another. It never outlives its worker."""

    def __init__(self, slot: int, setup: Setup, environment: dict[str, str]) -> None:
        """Start the process. It says by itself when it is ready."""
        self.slot = slot
        self.assignment: Assignment | None = None
        self.ready: Ready | None = None
        self.served = 0
        self.spent = False
        self._lines = messages.Lines()
        self._child = system.start_child([sys.executable, *COMMAND], env=environment, cwd=None)
        self._send(setup)

    @property
    def output_fd(self) -> int:
        """The descriptor with what the runner says."""
        return self._child.output_fd

    @property
    def idle(self) -> bool:
        """Whether it can take a job."""
        return self.ready is not None and self.assignment is None and not self.spent

    def assign(self, assignment: Assignment) -> None:
        """Give it a job to run."""
        self.assignment = assignment
        self.served += 1
        self._send(assignment.message)

    def stop(self, why: Why, by: str = "") -> None:
        """Ask the running method to stop; kill its whole process tree if it does not."""
        held = self.assignment
        if held is None or held.why is not None:
            return
        held.why, held.asked_by = why, by
        patience = held.policy.kill_after.total_seconds()
        if why is Why.WORKER_STOPS:
            patience = min(patience, STOP_AT_MOST_S)
        held.kill_at = time.monotonic() + patience
        reason = f"{why.value} ({by})" if by else why.value
        self._send(Stop(held.job.id, timed_out=why is Why.TIMED_OUT, reason=reason))

    def kill(self) -> None:
        """Kill it with its whole process tree."""
        self.spent = True
        self._child.kill_tree()

    def deadline(self) -> float | None:
        """Return the monotonic moment at which `check` has something to do, if there is one."""
        held = self.assignment
        if held is None:
            return None
        return held.stop_at if held.kill_at is None else held.kill_at

    def check(self, now: float) -> None:
        """Keep the deadlines of the running attempt."""
        held = self.assignment
        if held is None:
            return
        if held.kill_at is not None and now >= held.kill_at:
            self.kill()
        elif held.kill_at is None and now >= held.stop_at:
            self.stop(Why.TIMED_OUT)

    def is_dead(self) -> bool:
        """Tell whether the process has ended, even if a forked child of it still holds its pipe open."""
        return self._child.poll() is not None

    def hear(self, data: bytes) -> Iterator[Report]:
        """Take what the runner said; go through what that means for the job it holds."""
        for line in self._lines.feed(data):
            try:
                message = messages.from_runner.decode(line)
            except msgspec.DecodeError:
                # User code wrote into our pipe. Nothing that comes now can be trusted.
                self.kill()
                return
            report = self._understood(message)
            if report is not None:
                yield report

    def _understood(self, message: messages.FromRunner) -> Report | None:
        held = self.assignment
        match message:
            case Ready():
                self.ready = message
            case Progressed(id=job_id, progress=progress) if held is not None and held.job.id == job_id:
                held.progress = progress
            case Ended(id=job_id) if held is not None and held.job.id == job_id:
                self.assignment = None
                self.spent = self.spent or not message.clean
                return Finished(held, outcome_of(message, held), message.began_ms)
            case Unbegun(id=job_id, reason=reason, gone=gone) if held is not None and held.job.id == job_id:
                self.assignment = None
                return Returned(held, reason, gone)
            case Progressed() | Ended() | Unbegun():
                pass  # of an earlier job: too late to matter
        return None

    def bury(self) -> Finished | None:
        """Clear away the dead process and what it left; return how the attempt ended that it was running."""
        status = self._child.wait(DYING_S)
        self._child.kill_tree()
        self._child.wait(DYING_S)
        self._child.close()
        held, self.assignment = self.assignment, None
        return None if held is None else Finished(held, _outcome_of_death(held, status))

    def retire(self) -> None:
        """End an idle runner, and whatever its jobs left running."""
        self.spent = True
        self._child.kill_tree()
        self._child.wait(DYING_S)
        self._child.close()

    def _send(self, message: messages.ToRunner) -> None:
        data = memoryview(messages.encoded(message))
        try:
            while data:
                data = data[os.write(self._child.input_fd, data) :]
        except OSError:
            self.spent = True  # it is dead or dying: the end of its output says the rest


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
            return outcome if isinstance(outcome, Succeeded) else Interrupted()


def _outcome_of_death(held: Assignment, status: int | None) -> Outcome:
    match held.why:
        case Why.TIMED_OUT:
            return TimedOut(held.policy.timeout, status)
        case Why.CANCELLED:
            return Cancelled(held.asked_by)
        case Why.WORKER_STOPS:
            return Interrupted()
        case None:
            return Crashed(JobError(type="Crashed", message=described(status)), status)


def described(status: int | None) -> str:
    """Say in words how a process ended."""
    if status is None:
        return "its process closed its pipes and had to be killed"
    if status == LOST_CONTACT:
        return "its process could not answer any more: did the method close descriptors that were not its own?"
    if status < 0:
        return f"its process was killed by {system.signal_name(-status)}"
    return f"its process exited with status {status} before the method returned"
