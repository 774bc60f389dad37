"""Signal handlers: of the worker's own, and those that a job may have changed."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bgjobs.system import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What `signal` is made of, without its enumerations: to make one of each answer takes longer than to ask.
_bare: Any = sys.modules.get("_signal", signal)

OFTEN_CHANGED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGBREAK")


@contextmanager
def stop_requests(handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler`, in the main thread, for each request to stop that comes while the block runs."""
    before = {number: signal.signal(number, lambda _number, _frame: handler()) for number in stop_signals()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def signal_name(number: int) -> str:
    """Return the signal's name with its number, as in `SIGSEGV (11)`."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


class SignalHandlers:
    """Remembers how signals are handled, and clears what a job left: handlers, a blocked signal, an alarm."""

    def __init__(self) -> None:
        numbers = [getattr(signal, name) for name in OFTEN_CHANGED if hasattr(signal, name)]
        self._before = {number: _bare.getsignal(number) for number in numbers}
        if sys.platform != "win32":
            self._mask = _bare.pthread_sigmask(signal.SIG_BLOCK, [])

    def restore(self) -> None:
        """Bring back what was remembered."""
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)
            _bare.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            if _bare.getsignal(number) is not handler:
                signal.signal(number, handler)
