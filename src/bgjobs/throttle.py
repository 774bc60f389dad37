"""Limit how often something happens: a costly step to a share of the time, a message to once for each subject."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Throttle:
    """Tells when a costly step may run again: after a pause of `times` as long as it took.

    The pause is at least `least_s` and at most `most_s` seconds. All moments are seconds on one monotonic clock, which
    the caller reads. The first run is due at once.
    """

    __slots__ = ("_least_s", "_most_s", "_times", "next_at")

    def __init__(self, times: float, *, least_s: float = 0.0, most_s: float = math.inf) -> None:
        self._times = times
        self._least_s = least_s
        self._most_s = most_s
        self.next_at = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether the step may run now."""
        return now >= self.next_at

    def ran(self, now: float, cost_s: float) -> None:
        """Begin the pause after a run that ended at `now` and took `cost_s` seconds."""
        self.next_at = now + self.pause_s(cost_s)

    def pause_s(self, cost_s: float) -> float:
        """Return how many seconds the pause after a run of `cost_s` seconds is."""
        return min(max(self._times * cost_s, self._least_s), self._most_s)


class Once:
    """Remembers which subjects have been reported, so that each is reported once, and `most` of them in all."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int | None = None) -> None:
        self._known: set[Hashable] = set()
        self._most = most

    def __len__(self) -> int:
        return len(self._known)

    def first(self, subject: Hashable) -> bool:
        """Tell whether to report this subject now, and remember it: True once, and never beyond the first `most`."""
        if subject in self._known or (self._most is not None and len(self._known) >= self._most):
            return False
        self._known.add(subject)
        return True

    def forget(self, subject: Hashable) -> None:
        """Let this subject be reported again, if it was."""
        self._known.discard(subject)
