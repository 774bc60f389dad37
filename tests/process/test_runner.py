"""What a worker sends to a runner and when, and when it kills it.

The process is real, but echoes what it is sent; the test writes the messages of a runner, and gives the moments.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import pytest

from bgjobs import lifecycle, system
from bgjobs.ids import new_id
from bgjobs.job import Crashed, Job, Succeeded, TimedOut
from bgjobs.lifecycle import Policy
from bgjobs.worker import protocol
from bgjobs.worker.assignment import NEVER, Assignment, Began, Finished, Report, Returned, StopReason
from bgjobs.worker.protocol import Ended, NotStarted, Ready, Recall, Run, Setup, Stop, ToRunner
from bgjobs.worker.runner import LEAVE_S, RETURN_S, Runner
from tests.process.conftest import LIMIT, posix_only, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = posix_only

ECHO = "import shutil, sys\nshutil.copyfileobj(sys.stdin.buffer.raw, sys.stdout.buffer.raw)"
BEGAN = 1000.0
TIMEOUT_S, KILL_AFTER_S = 60.0, 10.0
POLICY = Policy(timeout=timedelta(seconds=TIMEOUT_S), kill_after=timedelta(seconds=KILL_AFTER_S))
AT = datetime(2026, 11, 23, 3, tzinfo=UTC)
Message = TypeVar("Message")


class Echoing(Runner):
    """A runner that is ready, in a process that gives back what it is sent."""

    def __init__(self, lifespan: int = 100) -> None:
        child = system.start_child([sys.executable, "-I", "-S", "-c", ECHO], env={}, cwd=None)
        super().__init__(0, Setup((), "/"), child, BEGAN, lifespan)
        self._sent = protocol.Lines()
        self.sent: list[ToRunner] = []
        assert self.say(Ready(child.pid, "")) == []

    def say(self, message: protocol.FromRunner, after_s: float = 0.0) -> list[Report]:
        """Let it send a message, so long after it began."""
        return self.receive(protocol.encoded(message), BEGAN + after_s)

    def give(self, count: int = 1, policy: Policy = POLICY) -> list[Assignment]:
        """Give it jobs."""
        given = []
        for _ in range(count):
            job = Job(
                id=new_id(), class_name="Mail", method="send", priority=5, not_before=AT, submitted_at=AT, retries=0
            )
            message = Run(job.id, 1, 0, "Mail", "send", "mail", "Mail", (), {})
            given.append(Assignment(lifecycle.started(job, worker="test:1", at=AT), message, policy))
            self.assign(given[-1], BEGAN)
        self.flush()
        return given

    def was_sent(self, kind: type[Message], count: int = 1) -> list[Message]:
        """Wait until it was sent so many messages of this kind, and return them."""
        found: list[Message] = []
        while len(found := [message for message in self.sent if isinstance(message, kind)]) < count:
            assert select.select([self.output_fd], [], [], LIMIT)[0], "it was sent nothing more"
            for line in self._sent.feed(os.read(self.output_fd, 65_536)):
                self.sent.append(protocol.to_runner.decode(line))
        return found

    def dies(self) -> None:
        wait_until(self.is_dead)


@pytest.fixture
def runner() -> Iterator[Echoing]:
    with system.adopting():
        made = Echoing()
        yield made
        with contextlib.suppress(OSError):
            made.retire()


def test_it_is_asked_to_stop_once_when_the_time_of_its_job_is_over_and_killed_when_it_does_not(
    runner: Echoing,
) -> None:
    (held,) = runner.give()
    for after_s in (0.0, TIMEOUT_S - 0.1):
        runner.enforce_deadlines(BEGAN + after_s)
        assert held.stop_reason is None
    assert runner.deadline() == BEGAN + TIMEOUT_S
    for after_s in (TIMEOUT_S, TIMEOUT_S + 1, TIMEOUT_S + KILL_AFTER_S - 0.1):
        runner.enforce_deadlines(BEGAN + after_s)
    assert runner.was_sent(Stop) == [Stop(held.job.id, timed_out=True, reason="the timeout has passed")]
    assert (runner.deadline(), runner.is_dead()) == (BEGAN + TIMEOUT_S + KILL_AFTER_S, False)
    runner.enforce_deadlines(runner.deadline())
    runner.dies()
    assert runner.deadline() == NEVER
    (report,) = runner.reap(BEGAN)
    assert isinstance(report, Finished)
    assert (report.outcome, report.died) == (TimedOut(timedelta(seconds=TIMEOUT_S), -9), True)


def test_the_next_job_has_all_of_its_time_however_long_the_one_before_it_took(runner: Echoing) -> None:
    first, second = runner.give(2)
    reports = runner.say(Ended(first.job.id, 5, 0.5, Succeeded()), after_s=TIMEOUT_S - 1)
    assert [type(report) for report in reports] == [Finished, Began]
    assert runner.deadline() == BEGAN + TIMEOUT_S - 1 + TIMEOUT_S
    runner.enforce_deadlines(BEGAN + TIMEOUT_S + 1)
    assert second.stop_reason is None


def test_a_job_that_is_cancelled_before_its_turn_is_asked_for_at_once(runner: Echoing) -> None:
    first, second = runner.give(2)
    runner.stop(second.job.id, StopReason.CANCELLED, BEGAN, "ann")
    assert runner.was_sent(Stop) == [Stop(second.job.id, timed_out=False, reason="the job was cancelled (ann)")]
    (report,) = runner.say(NotStarted(second.job.id))
    assert isinstance(report, Returned)
    assert (report.assignment, list(runner.held)) == (second, [first])


def test_a_second_request_to_stop_gives_a_method_no_more_time(runner: Echoing) -> None:
    (held,) = runner.give()
    runner.stop(held.job.id, StopReason.CANCELLED, BEGAN + 1, "ann")
    runner.stop(held.job.id, StopReason.WORKER_STOPS, BEGAN + 5)
    assert (held.stop_reason, held.asked_by) == (StopReason.CANCELLED, "ann")
    assert runner.deadline() == BEGAN + 1 + KILL_AFTER_S


def test_while_jobs_are_on_their_way_back_it_gets_no_others(runner: Echoing) -> None:
    first, second, third = runner.give(3)
    assert runner.room(16, BEGAN) == 13
    runner.recall()
    runner.recall()  # once is enough
    assert runner.was_sent(Recall, 2) == [Recall(third.job.id), Recall(second.job.id)]  # the last one first
    assert runner.room(16, BEGAN) == 0
    runner.say(NotStarted(third.job.id))
    assert runner.room(16, BEGAN) == 0
    runner.say(NotStarted(second.job.id))
    assert runner.room(16, BEGAN) == 15
    assert list(runner.held) == [first]


def test_nothing_more_is_sent_behind_a_job_that_takes_long(runner: Echoing) -> None:
    runner.give()
    assert runner.room(16, BEGAN + 0.05) == 15
    assert runner.room(16, BEGAN + 0.2) == 0


def test_it_gets_no_more_jobs_than_it_is_to_serve() -> None:
    with system.adopting():
        runner = Echoing(lifespan=3)
        assert (runner.room(16, BEGAN), runner.is_unused) == (3, True)
        held = runner.give(3)
        assert (runner.room(16, BEGAN), runner.is_unused, runner.is_worn_out) == (0, False, True)
        for each in held:
            runner.say(Ended(each.job.id, 5, 0.5, Succeeded()))
        assert runner.room(16, BEGAN) == 0
        runner.retire()


def test_a_process_that_is_not_clean_must_return_what_it_has_not_begun_within_two_seconds(runner: Echoing) -> None:
    first, second = runner.give(2)
    reports = runner.say(Ended(first.job.id, 5, 0.5, Succeeded(), clean=False), after_s=1)
    assert [type(report) for report in reports] == [Finished]
    assert (runner.room(16, BEGAN), runner.deadline()) == (0, BEGAN + 1 + RETURN_S)
    runner.enforce_deadlines(BEGAN + 1 + RETURN_S - 0.1)
    assert not runner.is_dead()
    runner.enforce_deadlines(BEGAN + 1 + RETURN_S)
    runner.dies()
    (report,) = runner.reap(BEGAN)
    assert isinstance(report, Finished)
    assert (report.assignment, type(report.outcome), report.died) == (second, Crashed, True)
    assert not runner.forced


def test_an_attempt_that_leaves_something_running_ends_with_its_process_which_has_five_seconds(
    runner: Echoing,
) -> None:
    (held,) = runner.give()
    ended = Ended(held.job.id, 5, 0.5, Succeeded(), clean=False, left="the thread 'x' runs on", leaving=True)
    assert runner.say(ended, after_s=1) == []
    assert runner.left == ("Mail", "send", "the thread 'x' runs on")
    assert runner.deadline() == BEGAN + 1 + LEAVE_S
    runner.enforce_deadlines(BEGAN + 1 + LEAVE_S - 0.1)
    assert not runner.is_dead()
    runner.enforce_deadlines(BEGAN + 1 + LEAVE_S)
    runner.dies()
    assert runner.forced
    (report,) = runner.reap(BEGAN)
    assert isinstance(report, Finished)
    assert (report.outcome, report.died, runner.is_ended(held)) == (Succeeded(), True, True)


def test_a_process_that_does_not_leave_when_it_was_asked_to_is_killed_after_five_seconds(runner: Echoing) -> None:
    assert not runner.leave(BEGAN)  # it has done nothing yet: it is ended at once
    (held,) = runner.give()
    assert not runner.leave(BEGAN)  # not while it has a job
    runner.say(Ended(held.job.id, 5, 0.5, Succeeded()))
    assert runner.leave(BEGAN)
    assert not runner.finish_leaving(BEGAN + LEAVE_S - 0.1)
    assert runner.finish_leaving(BEGAN + LEAVE_S)
    assert runner.forced
    assert runner.is_dead()


@pytest.mark.parametrize("noise", [b"print\n", b'{"type":"Ready"}\n', b'{"type":"Ended","id":1}\n', b"\xff\n"])
def test_a_process_whose_pipe_was_written_to_by_its_job_is_killed(runner: Echoing, noise: bytes) -> None:
    runner.give()
    assert runner.receive(noise, BEGAN) == []
    runner.dies()
    assert runner.room(16, BEGAN) == 0


def test_a_message_about_a_job_that_it_has_not_got_changes_nothing(runner: Echoing) -> None:
    (held,) = runner.give()
    assert runner.say(Ended(new_id(), 5, 0.5, Succeeded())) == []
    assert runner.say(NotStarted(new_id())) == []
    assert list(runner.held) == [held]
    assert not runner.is_worn_out
