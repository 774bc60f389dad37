"""What the process of an attempt may use: soft limits, set for one attempt and put back after it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from math import ceil

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# macOS takes the limit of the address space, and then lets a process grow as it likes.
UNENFORCED = frozenset({"max_memory"}) if sys.platform == "darwin" else frozenset[str]()
CPU_SIGNAL = signal.SIGXCPU

# The limit is held against what Linux sampled at its ticks. On a busy machine that runs ahead of the exact time by a
# fifth and more: with that one, a runner that has served for long would be killed as soon as an attempt began. The
# number is that of this process's own clock of that kind (MAKE_PROCESS_CPUCLOCK(0, CPUCLOCK_PROF) of the kernel).
_SAMPLED_CPU_TIME = -8

# Those that a job may have a reason to change. To ask for all of them takes as long as some jobs.
_WATCHED = (
    *(resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE),
    *(resource.RLIMIT_CORE, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_NPROC),
)


class ResourceLimits:
    """The limits of this process. A soft limit can be put back; what a child process inherits, it keeps."""

    def __init__(self) -> None:
        """Remember the limits of a fresh runner, which never writes a core file: it would hold what jobs hold."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._usual = {kind: resource.getrlimit(kind) for kind in _WATCHED}
        self._usual_values = list(self._usual.values())
        self._imposed: dict[int, int] = {}
        self._fresh: int | None = None
        self.intact = True

    def is_crowded(self, memory: int) -> bool:
        """Tell whether earlier attempts took more than half of the room that a fresh process has within this limit.

        To be asked before each attempt: when it is asked first, the process is fresh.
        """
        if self._fresh is None:
            self._fresh = _address_space()
        return bool(memory) and _address_space() - self._fresh > max(memory - self._fresh, 0) // 2

    def impose(self, *, memory: int, cpu: float, files: int, file_size: int) -> None:
        """Set soft limits for the attempt that begins now; 0 stands for none. No limit ever becomes wider."""
        if cpu:
            # Ignored by whoever started the worker, or caught by an earlier job, the signal would end nothing.
            signal.signal(CPU_SIGNAL, signal.SIG_DFL)
        wanted = {
            resource.RLIMIT_AS: 0 if "max_memory" in UNENFORCED else memory,
            # The kernel counts the seconds of a process from its start, with those of earlier attempts.
            resource.RLIMIT_CPU: ceil(_time_used() + cpu) if cpu else 0,
            resource.RLIMIT_NOFILE: files,
            resource.RLIMIT_FSIZE: file_size,
        }
        for kind, value in wanted.items():
            soft, hard = self._usual[kind]
            if value and (soft == resource.RLIM_INFINITY or value < soft):
                self._imposed[kind] = value
                resource.setrlimit(kind, (value, hard))

    def lift(self) -> None:
        """Put the usual limits back. May be called twice.

        `intact` is False from then on when they were not as `impose` had left them: a job has changed its own.
        """
        imposed, self._imposed = self._imposed, {}
        if not imposed and [*map(resource.getrlimit, _WATCHED)] == self._usual_values:
            return
        for kind, (soft, hard) in self._usual.items():
            found = resource.getrlimit(kind)
            if found != (imposed.get(kind, soft), hard):
                self.intact = False
            if found[0] != soft:
                try:
                    resource.setrlimit(kind, (soft, found[1]))
                except (OSError, ValueError):
                    self.intact = False  # the job has lowered the hard limit too: there is no way back


def _time_used() -> float:
    """Return how much processor time this process has used, as the system counts it for its limit."""
    if sys.platform == "linux":
        try:
            return time.clock_gettime(_SAMPLED_CPU_TIME)
        except OSError:
            pass
    return time.process_time()


def _address_space() -> int:
    """Return how many bytes of address space this process has; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
