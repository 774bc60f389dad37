"""What a runner asks of its own process: its children, its descriptors, its resource limits."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from math import ceil

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# The environment variable that hands over the number of the death pipe's descriptor.
DEATH_FD = "BGJOBS_DEATH_FD"
_UNBUFFERED = 2  # _IONBF, of glibc, musl and macOS alike

# The environment variable with the mark of a runner: its worker's name, and what tells it from other runners of that.
RUNNER = "BGJOBS_RUNNER"


def take_death_fd() -> int | None:
    """Take the death pipe's descriptor out of the environment, and keep children from inheriting it."""
    number = os.environ.pop(DEATH_FD, None)
    if number is None:
        return None
    os.set_inheritable(int(number), False)  # noqa: FBT003 - the standard library wants it without a name
    return int(number)


def root_directory() -> tuple[int, ...]:
    """Return the identity of the root directory of this process: device and inode."""
    found = os.stat("/")
    return found.st_dev, found.st_ino


def children() -> bool:
    """Tell whether this process has live children; collect the exit status of dead ones."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


class ChildProcesses:
    """Tells whether this process has got new descendants."""

    def __init__(self) -> None:
        self.remember()

    @property
    def any(self) -> bool:
        """Whether there were any at the last `remember`."""
        return bool(self._known)

    def remember(self) -> None:
        """Take the descendants that live now for known ones."""
        self._known = _descendants() if children() else frozenset()

    def have_grown(self) -> bool:
        """Tell whether there are descendants that are not known."""
        return children() and not (self._known and _descendants() <= self._known)


def _descendants() -> frozenset[tuple[int, str]]:
    # Most runners do without.
    if sys.platform == "darwin":
        from bgjobs.system.darwin_processes import descendants  # noqa: PLC0415 - as above
    else:
        from bgjobs.system.linux_processes import descendants  # noqa: PLC0415 - as above

    return frozenset((found.pid, found.birth) for found in descendants(os.getpid()))


def open_descriptors() -> list[int]:
    """Return the open descriptors of this process; none if it cannot list them any more."""
    found = []
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return []  # a job has changed the root directory, or taken the last descriptor
    for number in numbers:
        try:
            os.fstat(number)
        except OSError:
            continue  # the descriptor of the listing itself
        found.append(number)
    return found


def unbuffer_c_output() -> None:
    """Make C's standard output unbuffered: buffered text would appear in the output of a later job."""
    import ctypes  # noqa: PLC0415 - for runners alone

    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError, ValueError):
        stream = ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout")
        libc.setvbuf(stream, None, _UNBUFFERED, ctypes.c_size_t(0))


# macOS accepts the limit of the address space, and does not enforce it.
UNENFORCED = frozenset({"max_memory"}) if sys.platform == "darwin" else frozenset[str]()
CPU_SIGNAL = signal.SIGXCPU

# Linux compares the limit with processor time sampled at its ticks. On a busy machine that is ahead of the exact time
# by a fifth and more: computed from the exact time, the limit would kill an old runner at the start of an attempt. This
# is the number of this process's sampled clock (MAKE_PROCESS_CPUCLOCK(0, CPUCLOCK_PROF) of the kernel).
_SAMPLED_CPU_TIME = -8

# The limits that a job may have a reason to change. Reading all of them takes as long as some jobs.
_WATCHED = (
    *(resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE),
    *(resource.RLIMIT_CORE, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_NPROC),
)


class ResourceLimits:
    """The resource limits of this process. Soft limits are put back; a child process keeps those that it inherited."""

    def __init__(self) -> None:
        """Remember the limits of a fresh runner. It never writes a core file, which would hold secrets of jobs."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._usual = {kind: resource.getrlimit(kind) for kind in _WATCHED}
        self._usual_values = list(self._usual.values())
        self._imposed: dict[int, int] = {}
        self._fresh: int | None = None
        self.intact = True

    def is_crowded(self, memory: int) -> bool:
        """Tell whether earlier attempts use more than half of the address space that a fresh process has left.

        Call it before each attempt: at the first call the process is fresh.
        """
        if self._fresh is None:
            self._fresh = _address_space()
        return bool(memory) and _address_space() - self._fresh > max(memory - self._fresh, 0) // 2

    def impose(self, *, memory: int, cpu: float, files: int, file_size: int) -> None:
        """Set soft limits for the attempt that begins now; 0 stands for none. No limit ever becomes wider."""
        if cpu:
            # If the worker inherited it ignored, or an earlier job caught it, the signal would end nothing.
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

        `intact` is False from then on if they were not as `impose` had set them: a job has changed them.
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
