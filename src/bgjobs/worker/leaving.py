"""How a runner leaves: as Python does, if that does anything, and never with a process of a job left behind."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Callable

# How many functions are registered: only so can it be told whether any of them is a job's.
_registered: Callable[[], int] | None = getattr(atexit, "_ncallbacks", None)


class Exit:
    """What a fresh runner would do at its exit, which is nothing, against what this one would do."""

    def __init__(self) -> None:
        """Remember the fresh one."""
        self._functions = _registered() if _registered else -1
        self._descriptors = len(system.open_descriptors())

    def has_something_to_do(self) -> bool:
        """Tell whether there is a thread to wait for, a function to call, or perhaps an open file to write out."""
        if _registered is None or _registered() != self._functions:
            return True
        main = threading.main_thread()
        if any(not thread.daemon and thread is not main for thread in threading.enumerate()):
            return True
        descriptors = len(system.open_descriptors())
        return not descriptors or descriptors > self._descriptors


def end_descendants() -> None:
    """End what this process has started: from outside, what has a session of its own would be hard to find."""
    if system.children():
        system.kill_descendants()
