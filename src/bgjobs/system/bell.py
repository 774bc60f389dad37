"""What the poller has to know of a bell, which may be a doorbell file or something that a backend brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable


class Bell(Protocol):
    """Something that rings when there may be work."""

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while it rings, or None if somebody has to ask."""

    def rang(self) -> bool:
        """Tell whether it rang since the last time, and stop the ringing."""


@runtime_checkable
class BellToLookAt(Protocol):
    """A bell that can be asked without being silenced."""

    def ringing(self) -> bool:
        """Tell whether it rang since the last `rang()`, and leave it ringing."""


def way_to_look_at(bell: Bell) -> Callable[[], bool]:
    """Return a function that tells whether `bell` may be ringing, and leaves it so for whoever asks `rang()`."""
    return bell.ringing if isinstance(bell, BellToLookAt) else lambda: True
