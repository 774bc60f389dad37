"""The processes of the soak: start them, find their runners, stop and kill them, and bury them."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


class Actor:
    """One process that the soak has started. Until it is buried nobody else can get its pid.

    It is forked, with all that it needs imported already: starting an interpreter for each would take longer than
    most of them live. (The runners of a worker are fresh interpreters, as always.)
    """

    def __init__(self, kind: str, main: Callable[[], object], errors: Path, environ: dict[str, str]) -> None:
        """Start it. What it has to say goes into a file of its own."""
        self.kind = kind
        self.errors = errors
        self.expected = False  # somebody has killed it, or asked it to end
        self.status: int | None = None
        errors.touch()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be(main, errors, environ)

    def runs(self) -> bool:
        """Tell whether it has not ended; a process that is stopped has not."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def send(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.runs():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, without waiting for its death."""
        self.expected = True
        self.send(signal.SIGKILL)

    def children(self) -> list[int]:
        """Return the pids of its children that live: of a worker, its runners."""
        with suppress(OSError):
            found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()
            return [int(pid) for pid in found if is_alive(int(pid))]
        return []

    def wait(self, limit: float) -> int | None:
        """Wait for its end and return its status, or None when it takes too long."""
        deadline = time.monotonic() + limit
        while self.runs() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.status

    def says(self) -> str:
        """Return all that it has written to its standard streams."""
        return self.errors.read_text("utf-8", "replace")


def _be(main: Callable[[], object], errors: Path, environ: dict[str, str]) -> NoReturn:
    """Be the new process."""
    status = 1
    try:
        descriptor = os.open(errors, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        for name in [name for name in os.environ if name.startswith("BGJOBS_")]:
            del os.environ[name]
        os.environ.update(environ)
        returned = main()
        status = returned if isinstance(returned, int) else 0
    except BaseException:  # noqa: BLE001 - whatever it is, it ends this process, and not a copy of its parent
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def is_alive(pid: int) -> bool:
    """Tell whether a process is more than a number that nobody has asked about yet."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2][0] not in "ZXx"
    return False


def kill(pid: int) -> bool:
    """Kill a process that is not a child of ours; return whether there was one."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def left_behind(spool: Path) -> Iterator[tuple[int, str]]:
    """Go through the processes that were started for this spool: runners, and what their jobs started."""
    wanted = f"BGJOBS_SPOOL={spool}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield (
                        int(entry.name),
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"),
                    )
