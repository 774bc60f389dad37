"""Signal handlers: of the worker's own, and those that a job may have changed."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from bgjobs.system import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# What `signal` is made of, without its enumerations: to make one of each answer takes longer than to ask.
_bare: Any = sys.modules.get("_signal", signal)


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
    with _blocked(handlers):
        for number, handler in handlers.items():
            signal.signal(number, handler)


if sys.platform == "win32":

    def _blocked(_numbers: Iterable[int]) -> AbstractContextManager[None]:
        return nullcontext()  # no signal can be blocked here

else:

    @contextmanager
    def _blocked(numbers: Iterable[int]) -> Iterator[None]:
        """Block these signals for as long as the block runs.

        A signal for which Python has noted that its handler is to run, and that has got another one meanwhile, would be
        an error that it prints. To block it first runs the handlers of those that were noted.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def signal_name(number: int) -> str:
    """Return the signal's name with its number, as in `SIGSEGV (11)`."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


class SignalHandlers:
    """Remembers how signals are handled, and clears what a job left: handlers, timers, a descriptor to be woken by."""

    def __init__(self) -> None:
        never = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}
        self._numbers = [int(number) for number in signal.valid_signals() if number not in never]
        self.remember()

    def remember(self) -> None:
        """From now on, the state as it is now is what has to be brought back."""
        self._handlers = [*map(_bare.getsignal, self._numbers)]
        self._wakeup_fd = _bare.set_wakeup_fd(-1)
        _bare.set_wakeup_fd(self._wakeup_fd)
        if sys.platform != "win32":
            self._mask = _bare.pthread_sigmask(signal.SIG_BLOCK, [])

    def restore(self) -> bool:
        """Bring back what was remembered; return whether all of it is as it was.

        A signal that the job has blocked stays so: it may be waiting, and would now hit another one.
        """
        if sys.platform != "win32":
            for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
                _bare.setitimer(timer, 0)
        handlers = [*map(_bare.getsignal, self._numbers)]
        if handlers != self._handlers:
            for number, before, now in zip(self._numbers, self._handlers, handlers, strict=True):
                if now is not before and before is not None:  # what C code had put there, Python cannot put back
                    signal.signal(number, before)
            handlers = [*map(_bare.getsignal, self._numbers)]
        if _bare.set_wakeup_fd(-1) != self._wakeup_fd or self._wakeup_fd != -1:
            _bare.set_wakeup_fd(self._wakeup_fd)
        unblocked = sys.platform == "win32" or _bare.pthread_sigmask(signal.SIG_BLOCK, []) == self._mask
        return unblocked and handlers == self._handlers
