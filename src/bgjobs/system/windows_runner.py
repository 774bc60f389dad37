"""What a runner asks of its own process: its children. It has no resource limits, and its job object ends it."""

from __future__ import annotations

import contextlib
import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.windows_job_objects import processes_beside_us  # noqa: E402 - on this system only


def die_with_parent() -> bool:
    """Do nothing: the job object that `start_child` made kills this process when its maker dies.

    Returns False: here no process adopts those whose parents die.
    """
    return False


def root_directory() -> tuple[int, ...]:
    """Return nothing: no process gets another root here."""
    return ()


class _Family:
    """The processes from before any job: this one, and the launcher of a virtual environment."""

    def __init__(self) -> None:
        self._processes = processes_beside_us()
        self._children = _children() if self._processes is None else frozenset()

    def has_grown(self) -> bool:
        now = processes_beside_us()
        return now > self._processes if now is not None and self._processes is not None else bool(self._more())

    def _more(self) -> frozenset[int]:
        return _children() - self._children


def _children() -> frozenset[int]:
    """Return the live children of this process, without theirs: only a job object knows those, and not in Wine 8."""
    import psutil  # noqa: PLC0415 - most runners do without

    with contextlib.suppress(psutil.Error, OSError):
        return frozenset(child.pid for child in psutil.Process().children())
    return frozenset()


class ChildProcesses:
    """Tells whether this process has got new descendants."""

    def __init__(self) -> None:
        self.any = False
        self._family = _Family()

    def remember(self) -> None:
        """Take the descendants that live now for known ones."""
        self.any = self.any or self._family.has_grown()
        self._family = _Family()

    def have_grown(self) -> bool:
        """Tell whether there are descendants that are not known."""
        return self._family.has_grown()


_family = ChildProcesses()


def children() -> bool:
    """Tell whether something that this process has started since it began is alive."""
    return _family.have_grown()


def open_descriptors() -> list[int]:
    """Return nothing: to ask about a pipe that a thread reads from would wait for that thread."""
    return []


def unbuffer_c_output() -> None:
    """Do nothing: each C library of a process has its own."""


UNENFORCED = frozenset({"max_memory", "max_cpu", "max_files", "max_file_size"})
CPU_SIGNAL = 0  # no process ends by a signal


class ResourceLimits:
    """The limits of this process: none."""

    intact = True

    def is_crowded(self, memory: int) -> bool:
        """Return False: no attempt has a limit that earlier ones could have used up."""
        del memory
        return False

    def impose(self, *, memory: int, cpu: float, files: int, file_size: int) -> None:
        """Do nothing: `UNENFORCED` lists these limits."""

    def lift(self) -> None:
        """Do nothing."""
