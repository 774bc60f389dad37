"""What a runner asks of its own process, on Linux and macOS alike."""

from __future__ import annotations

import contextlib
import os
import sys

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
    from bgjobs.system.posix_processes import descendants  # noqa: PLC0415 - most runners do without

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
