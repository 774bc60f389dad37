"""Try a step again while another program holds the file: the one race that Windows has and POSIX has not."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Access denied, sharing violation, lock violation: what a virus scanner or a reader that has the file open causes.
_HELD_BY_ANOTHER = frozenset({5, 32, 33})

# Seconds between the tries: doubling from 5 to 200 ms, 1.9 s in all (before the jitter of a quarter up or down).
PAUSES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, *(0.2,) * 8)


def luck() -> float:
    """Return a random number from 0 up to 1 (of 256 values), without the cost of importing `random`."""
    return os.urandom(1)[0] / 256


def retry(
    step: Callable[[], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    luck: Callable[[], float] = luck,
) -> None:
    """Run `step`; while it fails because another program holds the file, wait a little and run it again.

    Gives up after about two seconds and raises the last error. Every other error is raised at once.
    """
    for pause in PAUSES:
        try:
            step()
        except OSError as error:
            if not is_held_by_another(error):
                raise
        else:
            return
        # Two processes that met once would meet again and again if they slept for the same time.
        sleep(pause * (0.75 + luck() / 2))
    step()


def is_held_by_another(error: OSError) -> bool:
    """Tell whether Windows refused because some other program has the file open at this moment."""
    return getattr(error, "winerror", None) in _HELD_BY_ANOTHER
