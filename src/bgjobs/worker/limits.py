"""The limits of one attempt: what the settings say, and which of them it has hit, as far as that can be known."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs import system
from bgjobs.job import JobError, Raised
from bgjobs.worker.child.outcome import members
from bgjobs.worker.protocol import LOST_CONTACT, Limits, Told

if TYPE_CHECKING:
    from bgjobs.lifecycle import Policy

NONE = Limits()
_OUT_OF_MEMORY = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP")  # how C code ends that did not get what it asked for


def of(policy: Policy) -> Limits:
    """Return the limits of an attempt under this policy."""
    if not (policy.max_memory or policy.max_cpu or policy.max_files or policy.max_file_size):
        return NONE
    return Limits(
        memory=policy.max_memory,
        cpu=policy.max_cpu.total_seconds(),
        files=policy.max_files,
        file_size=policy.max_file_size,
    )


def named(outcome: Told, error: BaseException, limits: Limits) -> Told:
    """Return the outcome, with the limit in its message that made the method raise this."""
    if limits == NONE:
        return outcome
    hit = next((found for part in members(error) if (found := _hit(part, limits))), "")
    if not hit or not isinstance(outcome, Raised):
        return outcome
    message = f"{outcome.error.message} ({hit})" if outcome.error.message else hit
    return replace(outcome, error=replace(outcome.error, message=message))


def ended_by(status: int | None, policy: Policy) -> JobError | None:
    """Return the error of an attempt whose process ended like that because of a limit, or None."""
    if policy.max_cpu and system.CPU_SIGNAL and status == -system.CPU_SIGNAL:
        seconds = policy.max_cpu.total_seconds()
        return JobError(type="CpuLimit", message=f"used more than {seconds:g} s of processor time (max_cpu)")
    return None


def suspicion(status: int | None, policy: Policy) -> str:
    """Return what may have been behind the end of a process, to be added to how it ended, or nothing."""
    if not policy.max_memory or status is None:
        return ""
    likely = status == LOST_CONTACT or (status < 0 and system.signal_name(-status).split()[0] in _OUT_OF_MEMORY)
    return f"; max_memory is {policy.max_memory} bytes: perhaps it needed more" if likely else ""


def _hit(error: BaseException, limits: Limits) -> str:
    # By the type alone: attributes of an error that a job has made itself are user code.
    if limits.memory and issubclass(type(error), MemoryError):
        return f"max_memory is {limits.memory} bytes"
    if type(error) is not OSError:
        return ""
    if limits.files and error.errno == errno.EMFILE:
        return f"max_files is {limits.files}"
    if limits.file_size and error.errno == errno.EFBIG:
        return f"max_file_size is {limits.file_size} bytes"
    return ""
