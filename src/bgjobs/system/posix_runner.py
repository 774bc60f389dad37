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

# The one with the mark of a runner: its worker, and what tells it from the other runners of that one.
RUNNER = "BGJOBS_RUNNER"


def take_death_fd() -> int | None:
    """Take the death pipe's descriptor out of the environment, and keep what this process starts from having it."""
    number = os.environ.pop(DEATH_FD, None)
    if number is None:
        return None
    os.set_inheritable(int(number), False)  # noqa: FBT003 - the standard library wants it without a name
    return int(number)


def root_directory() -> tuple[int, ...]:
    """Return which directory is the root of all others for this process."""
    found = os.stat("/")
    return found.st_dev, found.st_ino


def children() -> bool:
    """Tell whether this process has live children, and ask for the exit status of those that are dead."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


class ChildProcesses:
    """Tells whether this process has more descendants than it had."""

    def __init__(self) -> None:
        self.remember()

    @property
    def any(self) -> bool:
        """Whether there were some when they were remembered."""
        return bool(self._known)

    def remember(self) -> None:
        """Those that live now belong to this process."""
        self._known = _descendants() if children() else frozenset()

    def have_grown(self) -> bool:
        """Tell whether there are others than those that were remembered."""
        return children() and not (self._known and _descendants() <= self._known)


def _descendants() -> frozenset[tuple[int, str]]:
    # Most runners do without.
    if sys.platform == "darwin":
        from bgjobs.system.darwin_processes import descendants  # noqa: PLC0415 - as above
    else:
        from bgjobs.system.linux_processes import descendants  # noqa: PLC0415 - as above

    return frozenset((found.pid, found.birth) for found in descendants(os.getpid()))


def open_descriptors() -> list[int]:
    """Return the descriptors that are open in this process; none where it cannot see that any more."""
    found = []
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return []  # a job has changed the root directory, or taken the last descriptor
    for number in numbers:
        try:
            os.fstat(number)
        except OSError:
            continue  # the one that listed them
        found.append(number)
    return found


def unbuffer_c_output() -> None:
    """Have C code write at once what it prints: held back, it would come to light in the middle of another job."""
    import ctypes  # noqa: PLC0415 - for runners alone

    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError, ValueError):
        stream = ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout")
        libc.setvbuf(stream, None, _UNBUFFERED, ctypes.c_size_t(0))


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
