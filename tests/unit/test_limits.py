"""Which limit an attempt has hit, as far as that can be known, and which ones a system does not enforce."""

from __future__ import annotations

import errno
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from bgjobs.cli.commands.check import _unenforced
from bgjobs.config.allowlist import Allowlist, Target
from bgjobs.config.settings import POLICY, load
from bgjobs.job import JobError, Outcome, Raised, Succeeded
from bgjobs.lifecycle import Policy
from bgjobs.worker import limits
from bgjobs.worker.child import outcome
from bgjobs.worker.protocol import LOST_CONTACT, Limits

if TYPE_CHECKING:
    from pathlib import Path

ALL = Limits(memory=1000, cpu=2, files=50, file_size=4096)
SIGXCPU = 24


class OwnMemoryError(MemoryError):
    """As numpy has one."""


class TrappedError(OSError):
    """An error of a job's own: what its attributes say is for the job to decide."""

    @property
    def errno(self) -> int:  # type: ignore[override]  # that is the trap
        raise AssertionError("user code ran")


def message(ended: Outcome) -> str:
    assert isinstance(ended, Raised)
    return ended.error.message


@pytest.mark.parametrize(
    ("error", "text", "shown"),
    [
        (MemoryError(), "", "max_memory is 1000 bytes"),
        (OwnMemoryError("an array"), "an array", "an array (max_memory is 1000 bytes)"),
        (OSError(errno.EMFILE, "many"), "many", "many (max_files is 50)"),
        (OSError(errno.EFBIG, "large"), "large", "large (max_file_size is 4096 bytes)"),
        (OSError(errno.ENOSPC, "full"), "full", "full"),
        (ValueError("no"), "no", "no"),
        (TrappedError(errno.EFBIG, "mine"), "mine", "mine"),
    ],
)
def test_an_error_names_the_limit_that_it_comes_from(error: BaseException, text: str, shown: str) -> None:
    raised = Raised(JobError(type="E", message=text), ("E",), asked=True)
    assert message(outcome.with_limit(raised, error, ALL)) == shown
    assert message(outcome.with_limit(raised, error, Limits())) == text  # where there is no limit, none was hit


def test_only_the_message_changes() -> None:
    raised = Raised(JobError(type="MemoryError", traceback="here"), ("MemoryError",), final=True)
    named = outcome.with_limit(raised, MemoryError(), ALL)
    assert named == Raised(JobError("MemoryError", "max_memory is 1000 bytes", "here"), ("MemoryError",), final=True)
    assert outcome.with_limit(Succeeded(), MemoryError(), ALL) == Succeeded()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_process_that_the_system_ended_for_its_processor_time_is_told_from_others() -> None:
    limited = Policy(max_cpu=timedelta(seconds=2.5))
    assert limits.ended_by(-SIGXCPU, limited) == JobError(
        type="CpuLimit", message="used more than 2.5 s of processor time (max_cpu)"
    )
    assert limits.ended_by(-SIGXCPU, Policy()) is None  # it was not our limit
    for status in (None, 0, 1, SIGXCPU, -9, LOST_CONTACT):
        assert limits.ended_by(status, limited) is None


@pytest.mark.parametrize(
    ("status", "suspect"),
    [(-signal.SIGSEGV, True), (-signal.SIGABRT, True), (LOST_CONTACT, True), (0, False), (1, False)],
)
def test_a_crash_under_a_limit_of_memory_says_that_this_may_be_why(status: int, *, suspect: bool) -> None:
    text = limits.memory_hint(status, Policy(max_memory=1000))
    assert text == ("; max_memory is 1000 bytes: perhaps it needed more" if suspect else "")
    assert limits.memory_hint(status, Policy()) == ""


def target(**policy: object) -> Target:
    return Target(class_name="A", method="b", module="a", owner=None, policy=Policy(**policy))  # type: ignore[arg-type]  # keywords of any policy


def test_limits_that_the_system_does_not_enforce_are_named_if_somebody_asks_for_them() -> None:
    targets = [target(max_memory=1 << 30), target(max_cpu=timedelta(seconds=1)), target(max_memory=1 << 31)]
    assert _unenforced(targets, {"max_memory", "max_cpu", "max_files"}) == ["max_cpu", "max_memory"]
    assert _unenforced(targets, {"max_files"}) == []
    assert _unenforced([target()], {"max_memory", "max_cpu", "max_files", "max_file_size"}) == []
    assert POLICY.keys() >= system.UNENFORCED


def test_the_limits_of_an_attempt_are_those_of_its_method(tmp_path: Path) -> None:
    path = tmp_path / "allowed_jobs.toml"
    path.write_text(
        '[bgjobs]\nmax_memory = "1GiB"\nmax_files = 100\n'
        '[jobs.A]\nclass = "a"\nmethods = ["b", "c"]\nmax_cpu = 1.5\nmax_memory = "2GiB"\n'
        "[jobs.A.method.c]\nmax_memory = 0\nmax_file_size = 7\n",
        encoding="utf-8",
    )
    found = {one.method: limits.of(one.policy) for one in Allowlist(load(config=str(path), environ={}))}
    assert found["b"] == Limits(memory=2 << 30, cpu=1.5, files=100)
    assert found["c"] == Limits(memory=0, cpu=1.5, files=100, file_size=7)
