"""Signals: which ask a worker to stop, and how a thread interrupts the main thread."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

# Far from the real-time signals at both ends, which C libraries like to take for themselves.
if sys.platform == "darwin":
    _INTERRUPT: int = signal.SIGUSR2
else:
    _INTERRUPT = signal.SIGRTMIN + 7


def stop_signals() -> tuple[int, ...]:
    """Return the signals that ask a worker to stop."""
    # Whoever started us with nohup does not want the end of the terminal to be the end of us.
    hung_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hung_up)


def install_interrupt(handler: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes `handler` run in the main thread, also out of a system call that waits there.

    To be called in the main thread (ValueError elsewhere). What `handler` raises is raised in the main thread.
    """

    def interrupt() -> None:
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, _INTERRUPT)

    signal.signal(_INTERRUPT, lambda _number, _frame: handler())
    return interrupt
