"""Retry a file operation while another program holds the file: a race that Windows has and POSIX has not."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Access denied, sharing violation, lock violation: caused by a virus scanner or a reader that has the file open.
HELD_BY_ANOTHER = frozenset({5, 32, 33})
# The same for opening a file, where access denied also means a directory, or a file of another user.
OPEN_ELSEWHERE = frozenset({32, 33})

# Seconds between the tries: doubling from 5 to 200 ms, 1.9 s in all (before the jitter of a quarter up or down).
PAUSES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, *(0.2,) * 8)


def luck() -> float:
    """Return a random number from 0 up to 1 (of 256 values), without the cost of importing `random`."""
    return os.urandom(1)[0] / 256


def retry(
    step: Callable[[], T],
    *,
    codes: frozenset[int] = HELD_BY_ANOTHER,
    sleep: Callable[[float], None] = time.sleep,
    luck: Callable[[], float] = luck,
) -> T:
    """Run `step` and return its result; while another program holds the file, wait a little and run it again.

    Gives up after about two seconds and raises the last error. An error with none of these Windows `codes` is raised at
    once.
    """
    for pause in PAUSES:
        try:
            return step()
        except OSError as error:
            if getattr(error, "winerror", None) not in codes:
                raise
        # Two processes that collided would collide again if they slept for the same time.
        sleep(pause * (0.75 + luck() / 2))
    return step()
