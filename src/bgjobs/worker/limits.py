"""The resource limits of an attempt, and whether one of them has ended its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.job import JobError
from bgjobs.worker.protocol import LOST_CONTACT, Limits

if TYPE_CHECKING:
    from bgjobs.lifecycle import Policy

NONE = Limits()
_OUT_OF_MEMORY = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP")  # how C code ends that could not get memory


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


def ended_by(status: int | None, policy: Policy) -> JobError | None:
    """Return the error of an attempt whose process a limit has ended with this exit status, or None."""
    if policy.max_cpu and system.CPU_SIGNAL and status == -system.CPU_SIGNAL:
        seconds = policy.max_cpu.total_seconds()
        return JobError(type="CpuLimit", message=f"used more than {seconds:g} s of processor time (max_cpu)")
    return None


def memory_hint(status: int | None, policy: Policy) -> str:
    """Return a remark for the error of an attempt whose process may have lacked memory, or ""."""
    if not policy.max_memory or status is None:
        return ""
    likely = status == LOST_CONTACT or (status < 0 and system.signal_name(-status).split()[0] in _OUT_OF_MEMORY)
    return f"; max_memory is {policy.max_memory} bytes: perhaps it needed more" if likely else ""
