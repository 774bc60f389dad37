"""Jobs that end their attempt, and perhaps their process, in every bad way."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import sys
import time

from bgjobs import current_job

# A thread reads from 3, the pipe from the worker: Windows lets nobody else do anything with it meanwhile.
FIRST = 4 if sys.platform == "win32" else 3


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Fatal:
    def exit(self, status: int) -> None:
        sys.exit(status)

    def exit_at_once(self, status: int) -> None:
        os._exit(status)

    def segfault(self) -> None:
        ctypes.string_at(0)

    def kill_itself(self) -> None:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", 9))  # Windows kills by any number

    def exhaust_memory(self) -> None:
        bytearray(1 << 62)

    def overflow_stack(self) -> None:
        self.overflow_stack()

    def raise_unprintable(self) -> None:
        raise UnprintableError

    def raise_garbled(self) -> None:
        """Raise an error whose text cannot be written as UTF-8, as one about a file with an old name does."""
        raise ValueError("no file caf\udce9")

    def raise_deep(self) -> None:
        """Raise an error that was caused by another, a hundred times over."""
        error: Exception = ValueError("cause 0")
        for number in range(1, 100):
            later = ValueError(f"cause {number}")
            later.__cause__ = error
            error = later
        raise error

    def close_descriptors(self) -> None:
        os.closerange(0, 256)

    def write_everywhere(self) -> None:
        """Write rubbish to every descriptor there is."""
        for descriptor in range(FIRST, 64):
            try:
                os.write(descriptor, b"\xff\x00{rubbish}\n")
            except OSError:
                continue
        time.sleep(60)

    def leave_unsaid(self) -> None:
        """Print without a line end, and die before anybody flushes."""
        sys.stdout.write("these are my last words")
        sys.stdout.flush()
        os._exit(1)

    def forge(self) -> None:
        """Say on standard output and error what a runner says when a job is done, and end well."""
        outcome = {"type": "Succeeded", "result": "forged"}
        answer = {"type": "Ended", "id": current_job().id, "began_ms": 0, "took": 0.1, "outcome": outcome}
        for descriptor in (1, 2):
            os.write(descriptor, json.dumps(answer).encode() + b"\n")
        os._exit(0)

    def pose(self) -> int:
        """Tell the worker that its runner is another process."""
        for descriptor in range(FIRST, 64):
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.write(descriptor, b'{"type":"Ready","pid":1,"birth":"long ago"}\n')
            except OSError:
                continue
        return os.getpid()

    def fork_and_return(self) -> str:
        """Come back in two processes."""
        return "child" if os.fork() == 0 else "parent"
