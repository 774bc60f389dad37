"""Hear the doorbell, but not all the time when it rings and rings and there is nothing to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgjobs.backend import Bell
    from bgjobs.system import Poller

PATIENCE = 8  # rings in a row: with several workers all hear each ring, and all but one find nothing
DEAF_S = 0.01


class Hearing:
    """The ears of one worker. A ring that is not heard at once is heard a moment later, never lost."""

    def __init__(self, poller: Poller, bell: Bell) -> None:
        """Listen from now on."""
        self._poller = poller
        self._bell = bell
        self._in_vain = 0
        self._deaf_until = 0.0
        poller.watch_bell(bell)

    def wait(self, patience_s: float) -> list[tuple[object, bytes]]:
        """Wait as the poller does, at most until we listen again."""
        pause = self._deaf_until - time.monotonic()
        if pause > 0:
            return self._poller.wait(min(pause, patience_s), bells=False)
        return self._poller.wait(patience_s)

    def rang(self) -> bool:
        """Tell whether it rang since the last time, as far as we listened."""
        now = time.monotonic()
        if now < self._deaf_until or not self._bell.rang():
            return False
        self._in_vain += 1
        if self._in_vain > PATIENCE:
            self._deaf_until = now + DEAF_S
        return True

    def found(self) -> None:
        """There was something to do: the rings were not in vain."""
        self._in_vain = 0
