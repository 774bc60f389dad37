"""Wait for many pipes, a doorbell, signals and other threads in one call."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from bgjobs.system.doorbell import peek_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.system.doorbell import Bell

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# The capacity of a pipe on Linux.
_CHUNK = 65536
# How often to poll a doorbell that the kernel does not watch.
_LOOK_EVERY_S = 0.05
_CLOSED = -1


class _Wakeup:
    """The key of a descriptor that only ends the wait."""


class Poller:
    """Waits for many things at once. For one thread; `wake` alone may be called from everywhere.

    Made in the main thread, it also ends its wait at every signal that has a Python handler.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._fds: dict[object, int] = {}
        self._bells: dict[Bell, Callable[[], bool]] = {}
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._selector.register(self._woken, selectors.EVENT_READ, _Wakeup())
        self._owns_signals = threading.current_thread() is threading.main_thread()
        if self._owns_signals:
            # Without it a signal that comes just before the wait would be noticed only after it.
            self._waker_before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def watch(self, key: object, fd: int) -> None:
        """Wait for data from `fd`, the end of a pipe, from now on, under this `key`.

        An earlier descriptor with this key is forgotten.
        """
        self.forget(key)
        os.set_blocking(fd, False)
        self._selector.register(fd, selectors.EVENT_READ, key)
        self._fds[key] = fd

    def watch_bell(self, bell: Bell) -> None:
        """End the wait at each ring of `bell`, from now on."""
        self._bells[bell] = peek_of(bell)

    def forget(self, key: object) -> None:
        """Stop waiting for this key. Call it before the descriptor is closed; not needed after its end of file."""
        fd = self._fds.pop(key, None)
        if fd is not None:
            self._selector.unregister(fd)

    def wake(self) -> None:
        """End the wait, or the next one. Any thread and any signal handler may call it."""
        # A full pipe wakes just as well; a closed one has nobody left to wake.
        with contextlib.suppress(OSError):
            os.write(self._waker, b"\0")

    def wait(self, timeout: float, *, bells: bool = True) -> list[tuple[object, bytes]]:
        """Wait up to `timeout` seconds for data; return it by key. No bytes mean end of file.

        A ring, a signal and `wake` only end the wait; after it, ask `bell.rang()`. Without `bells` no ring ends it.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 0)
            polled = self._watch_bells() if bells else self._ignore_bells()
            events = self._selector.select(min(left, _LOOK_EVERY_S) if polled else left)
            if events:
                return self._read([event for event, _ in events])
            if left == 0 or any(ringing() for ringing in polled):
                return []

    def close(self) -> None:
        """Release the poller. The watched descriptors stay open."""
        if self._waker == _CLOSED:
            return
        if self._owns_signals:
            signal.set_wakeup_fd(self._waker_before)
        self._selector.close()
        waker, self._waker = self._waker, _CLOSED
        os.close(waker)
        os.close(self._woken)

    def _watch_bells(self) -> list[Callable[[], bool]]:
        # Each time, since a bell whose file vanished has no descriptor until there is a new file.
        polled = []
        for bell, ringing in self._bells.items():
            fd = bell.fileno()
            if fd is None:
                polled.append(ringing)
            elif fd not in self._selector.get_map():
                self._selector.register(fd, selectors.EVENT_READ, _Wakeup())
        return polled

    def _ignore_bells(self) -> list[Callable[[], bool]]:
        for bell in self._bells:
            fd = bell.fileno()
            if fd is not None and fd in self._selector.get_map():
                self._selector.unregister(fd)
        return []

    def _read(self, events: list[selectors.SelectorKey]) -> list[tuple[object, bytes]]:
        arrived: list[tuple[object, bytes]] = []
        for event in events:
            if isinstance(event.data, _Wakeup):
                self._drain_wakeups(event.fd)
                continue
            try:
                data = os.read(event.fd, _CHUNK)
            except BlockingIOError:
                continue
            if not data:
                self.forget(event.data)
            arrived.append((event.data, data))
        return arrived

    def _drain_wakeups(self, fd: int) -> None:
        # Only our own pipe: the doorbell rings until `rang()` resets it.
        if fd == self._woken:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, _CHUNK)
