"""Signal handlers: of the worker's own, and those that a job may have changed."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bgjobs.system import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# What `signal` is made of, without its enumerations: to make one of each answer takes longer than to ask.
_bare: Any = sys.modules.get("_signal", signal)

OFTEN_CHANGED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGBREAK")


@contextmanager
def stop_requests(handler: Callable[[], None], *, then_exit: bool = False) -> Iterator[None]:
    """Call `handler`, in the main thread, for each request to stop that comes while the block runs.

    With `then_exit` those that come later are ignored: the process is about to exit, and its status is settled.
    """
    before = {number: signal.signal(number, lambda _number, _frame: handler()) for number in stop_signals()}
    try:
        yield
    finally:
        # To ignore them is all that lasts: at its end the interpreter gives signals with a handler in Python back to
        # the system, and that ends the process with the number of the signal for its status.
        after = dict.fromkeys(before, signal.SIG_IGN) if then_exit else before
        _set_handlers(after)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on: the process is about to exit, and its status is settled."""
    while True:
        try:
            _set_handlers({signal.SIGINT: signal.SIG_IGN})
        except KeyboardInterrupt:
            continue  # it came just before that
        return


def _set_handlers(handlers: Mapping[int, Any]) -> None:
    """Let these signals be handled so. One that comes meanwhile is handled in the old way or in the new one."""
    if sys.platform == "win32":
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return
    # A signal for which Python has noted that its handler is to run, and that has got another one meanwhile, would be
    # an error that it prints. To block it first runs the handlers of those that were noted.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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
