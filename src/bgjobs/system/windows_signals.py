"""Signals, as far as Windows has them: which ask a worker to stop, and how a thread interrupts the main thread."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has


def stop_signals() -> tuple[int, ...]:
    """Return the signals that ask a worker to stop; SIGTERM never arrives here."""
    return (signal.SIGINT, signal.SIGBREAK)


def install_interrupt(handler: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes `handler` run in the main thread, as soon as Python code runs there.

    To be called in the main thread (ValueError elsewhere). What `handler` raises is raised in the main thread.
    `time.sleep` is cut short, as by Ctrl-C; other calls that wait there are not: the system has no way to do that.
    """
    # SIGINT, raised as the system does it, because Python's own `interrupt_main` does not wake a sleeping thread.
    signal.signal(signal.SIGINT, lambda _number, _frame: handler())
    return lambda: signal.raise_signal(signal.SIGINT)
