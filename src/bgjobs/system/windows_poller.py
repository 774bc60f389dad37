"""Wait for many pipes, a doorbell and other threads in one call; a thread reads each pipe."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from bgjobs.system.doorbell import PolledDoorbell, peek_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.system.doorbell import Bell

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_CHUNK = 65536
# How many chunks of one pipe may wait to be fetched, so that a child that prints without end fills no memory.
_AHEAD = 8
# How often to poll a doorbell, and how often to let Python handle Ctrl-C, which does not end a wait here.
_LOOK_EVERY_S = 0.05
_CTRL_C_EVERY_S = 0.5


class _Reader:
    """Reads one pipe to its end in a thread of its own. Once forgotten, it reads on and drops what it reads."""

    def __init__(self, key: object, fd: int, arrivals: queue.SimpleQueue[tuple[_Reader, bytes] | None]) -> None:
        self.key = key
        self.forgotten = False
        self._fd = fd
        self._arrivals = arrivals
        self._room = threading.Semaphore(_AHEAD)
        threading.Thread(target=self._read_to_the_end, daemon=True).start()

    def fetched(self) -> None:
        """Make room for another chunk."""
        self._room.release()

    def forget(self) -> None:
        """Deliver nothing more, and let the thread go on to the end of the pipe."""
        self.forgotten = True
        self._room.release()

    def _read_to_the_end(self) -> None:
        while True:
            try:
                data = os.read(self._fd, _CHUNK)
            except OSError:
                data = b""
            if not self.forgotten:
                self._room.acquire()
                self._arrivals.put((self, data))
            if not data:
                return


class Doorbell(PolledDoorbell):
    """Watches a doorbell file by polling it: the system reports changes of directories only, and late."""


class Poller:
    """Waits for many things at once. For one thread; `wake` alone may be called from everywhere."""

    def __init__(self) -> None:
        self._arrivals: queue.SimpleQueue[tuple[_Reader, bytes] | None] = queue.SimpleQueue()
        self._readers: dict[object, _Reader] = {}
        self._bells: list[Callable[[], bool]] = []

    def watch(self, key: object, fd: int) -> None:
        """Wait for data from `fd`, the end of a pipe, from now on, under this `key`.

        An earlier descriptor with this key is forgotten. The descriptor can be closed only when the pipe's other end
        is: until then a thread waits in it.
        """
        self.forget(key)
        self._readers[key] = _Reader(key, fd, self._arrivals)

    def watch_bell(self, bell: Bell) -> None:
        """End the wait at each ring of `bell`, from now on."""
        self._bells.append(peek_of(bell))

    def forget(self, key: object) -> None:
        """Stop waiting for this key. Not needed after its end of file."""
        reader = self._readers.pop(key, None)
        if reader:
            reader.forget()

    def wake(self) -> None:
        """End the wait, or the next one. Any thread and any signal handler may call it."""
        self._arrivals.put(None)

    def wait(self, timeout: float, *, bells: bool = True) -> list[tuple[object, bytes]]:
        """Wait up to `timeout` seconds for data; return it by key. No bytes mean end of file.

        A ring and `wake` only end the wait; after it, ask `bell.rang()`. Without `bells` no ring ends it.
        """
        deadline = time.monotonic() + timeout
        watched = self._bells if bells else []
        turn = _LOOK_EVERY_S if watched else _CTRL_C_EVERY_S
        while True:
            left = max(deadline - time.monotonic(), 0)
            try:
                first = self._arrivals.get(timeout=min(left, turn))
            except queue.Empty:
                if left == 0 or any(ringing() for ringing in watched):
                    return []
            else:
                return self._collect(first)

    def close(self) -> None:
        """Release the poller. The watched descriptors stay open."""
        for key in list(self._readers):
            self.forget(key)

    def _collect(self, first: tuple[_Reader, bytes] | None) -> list[tuple[object, bytes]]:
        arrived = []
        for arrival in (first, *self._waiting()):
            if arrival is None or arrival[0].forgotten:
                continue
            reader, data = arrival
            reader.fetched()
            if not data:
                self.forget(reader.key)
            arrived.append((reader.key, data))
        return arrived

    def _waiting(self) -> list[tuple[_Reader, bytes] | None]:
        waiting = []
        while not self._arrivals.empty():
            waiting.append(self._arrivals.get())
        return waiting
