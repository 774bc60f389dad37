"""Keep whoever supervises the worker informed: that it is ready, lives, stops, and what it does."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS_EVERY_S = 2.0


class Supervision:
    """Speaks to the supervisor that started the worker, if one did: systemd, or what does as it does."""

    def __init__(self) -> None:
        """Find out who that is; from now on our children cannot."""
        self._supervisor = system.take_supervisor(os.environ)
        watchdog_s = self._supervisor.watchdog_s
        self._ping_every_s = float("inf") if watchdog_s is None else watchdog_s / 2
        self.due_at = 0.0 if watchdog_s else float("inf")  # when to say again that the loop goes round
        self._status_at = 0.0 if self._supervisor.is_there else float("inf")
        self._status = ""
        self._is_stopping = False

    def ready(self, status: str) -> None:
        """The worker has its place."""
        self._status = status
        self._supervisor.tell(READY="1", STATUS=status)

    def alive(self, status: Callable[[], str]) -> None:
        """The loop goes round. Say so in time, and now and then what the worker does."""
        now = time.monotonic()
        if now >= self.due_at:
            self.due_at = now + self._ping_every_s
            self._supervisor.tell(WATCHDOG="1")
        if now >= self._status_at:
            self._status_at = now + STATUS_EVERY_S
            before, self._status = self._status, status()
            if self._status != before:
                self._supervisor.tell(STATUS=self._status)

    def stopping(self) -> None:
        """The worker begins nothing more. May be said more than once."""
        if not self._is_stopping:
            self._is_stopping = True
            self._supervisor.tell(STOPPING="1")
