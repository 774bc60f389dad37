"""Wake a sleeping worker by touching a file: the part that works everywhere, and what a poller asks of any bell."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable


def ring(path: str) -> None:
    """Touch the doorbell file, so that every worker that waits for it looks for work.

    Never fails: after a lost ring a worker finds the job on its next regular look.
    """
    with contextlib.suppress(OSError):
        os.utime(path)


class Bell(Protocol):
    """Something that rings when there may be work: a doorbell file, or what a backend has instead."""

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while it rings, or None if the bell has to be polled."""

    def rang(self) -> bool:
        """Tell whether it rang since the last call, and reset it."""


@runtime_checkable
class PeekableBell(Protocol):
    """A bell that can be asked without being reset."""

    def ringing(self) -> bool:
        """Tell whether it rang since the last `rang()`, without resetting it."""


def peek_of(bell: Bell) -> Callable[[], bool]:
    """Return a function that tells whether `bell` may be ringing, and leaves it so for the next `rang()`."""
    return bell.ringing if isinstance(bell, PeekableBell) else lambda: True


class PolledDoorbell:
    """Watches a doorbell file by its modification time. Two rings within one tick of the clock may count as one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._modified()

    def fileno(self) -> int | None:
        """Return None: there is no descriptor to wait for, the bell has to be polled."""
        return None

    def ringing(self) -> bool:
        """Tell whether it rang since the last `rang()`, without resetting it."""
        return self._modified() != self._seen

    def rang(self) -> bool:
        """Tell whether it rang since the last call, and reset it."""
        now = self._modified()
        rang = now != self._seen
        self._seen = now
        return rang

    def close(self) -> None:
        """Do nothing: it holds nothing open."""

    def _modified(self) -> int | None:
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return None
