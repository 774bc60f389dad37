"""Handle signals: requests to stop a worker, interrupts of the main thread, and handlers that jobs have changed."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# The C module below `signal`: making an enumeration of each answer takes longer than asking.
_bare: Any = sys.modules.get("_signal", signal)

if sys.platform == "win32":

    def stop_signals() -> tuple[int, ...]:
        """Return the signals that ask a worker to stop; SIGTERM never arrives here."""
        return (signal.SIGINT, signal.SIGBREAK)

    def install_interrupt(handler: Callable[[], None]) -> Callable[[], None]:
        """Return a function that makes `handler` run in the main thread, as soon as Python code runs there.

        To be called in the main thread (ValueError elsewhere). What `handler` raises is raised in the main thread.
        `time.sleep` is cut short, as by Ctrl-C; other blocking calls are not: the system has no way to do that.
        """
        # SIGINT, raised as the system does it, because Python's own `interrupt_main` does not wake a sleeping thread.
        signal.signal(signal.SIGINT, lambda _number, _frame: handler())
        return lambda: signal.raise_signal(signal.SIGINT)

    def _blocked(_numbers: Iterable[int]) -> AbstractContextManager[None]:
        return nullcontext()  # no signal can be blocked here

else:
    # Not at either end of the real-time signals, where C libraries use some themselves.
    if sys.platform == "darwin":
        _INTERRUPT: int = signal.SIGUSR2
    else:
        _INTERRUPT = signal.SIGRTMIN + 7

    def stop_signals() -> tuple[int, ...]:
        """Return the signals that ask a worker to stop."""
        # Under nohup the end of the terminal must not end the worker.
        hung_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
        return (signal.SIGINT, signal.SIGTERM, *hung_up)

    def install_interrupt(handler: Callable[[], None]) -> Callable[[], None]:
        """Return a function that makes `handler` run in the main thread, also out of a blocking system call.

        To be called in the main thread (ValueError elsewhere). What `handler` raises is raised in the main thread.
        """

        def interrupt() -> None:
            main = threading.main_thread().ident
            if main is not None:
                signal.pthread_kill(main, _INTERRUPT)

        signal.signal(_INTERRUPT, lambda _number, _frame: handler())
        return interrupt

    @contextmanager
    def _blocked(numbers: Iterable[int]) -> Iterator[None]:
        """Block these signals for as long as the block runs.

        Python prints an error for a signal whose handler it has noted to run and that has got another one meanwhile.
        Blocking the signal first runs the handlers that were noted.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def stop_requests(handler: Callable[[], None], *, then_exit: bool = False) -> Iterator[None]:
    """Call `handler`, in the main thread, for each request to stop that comes while the block runs.

    With `then_exit` later requests are ignored: the process is about to exit, and its status is decided.
    """
    before = {number: signal.signal(number, lambda _number, _frame: handler()) for number in stop_signals()}
    try:
        yield
    finally:
        # Only ignoring lasts: at its end the interpreter resets signals with a Python handler to the default, which
        # would end the process with the signal as its status.
        after = dict.fromkeys(before, signal.SIG_IGN) if then_exit else before
        _set_handlers(after)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on: the process is about to exit, and its status is decided."""
    while True:
        try:
            _set_handlers({signal.SIGINT: signal.SIG_IGN})
        except KeyboardInterrupt:
            continue  # a Ctrl-C came just before
        return


def _set_handlers(handlers: Mapping[int, Any]) -> None:
    """Set these handlers. A signal that comes meanwhile is handled by the old handler or by the new one."""
    with _blocked(handlers):
        for number, handler in handlers.items():
            signal.signal(number, handler)


def signal_name(number: int) -> str:
    """Return the signal's name with its number, as in `SIGSEGV (11)`."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


class SignalHandlers:
    """Remembers the signal handlers, and clears what a job left: handlers, timers, a wakeup descriptor."""

    def __init__(self) -> None:
        never = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}
        self._numbers = [int(number) for number in signal.valid_signals() if number not in never]
        self.remember()

    def remember(self) -> None:
        """Take the state as it is now for the one to restore."""
        self._handlers = [*map(_bare.getsignal, self._numbers)]
        self._wakeup_fd = _bare.set_wakeup_fd(-1)
        _bare.set_wakeup_fd(self._wakeup_fd)
        if sys.platform != "win32":
            self._mask = _bare.pthread_sigmask(signal.SIG_BLOCK, [])

    def restore(self) -> bool:
        """Restore what was remembered; return whether all of it is restored.

        A signal that the job has blocked stays blocked: it may be pending, and would hit another job.
        """
        if sys.platform != "win32":
            for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
                _bare.setitimer(timer, 0)
        handlers = [*map(_bare.getsignal, self._numbers)]
        if handlers != self._handlers:
            for number, before, now in zip(self._numbers, self._handlers, handlers, strict=True):
                if now is not before and before is not None:  # Python cannot put back a handler of C code
                    signal.signal(number, before)
            handlers = [*map(_bare.getsignal, self._numbers)]
        if _bare.set_wakeup_fd(-1) != self._wakeup_fd or self._wakeup_fd != -1:
            _bare.set_wakeup_fd(self._wakeup_fd)
        unblocked = sys.platform == "win32" or _bare.pthread_sigmask(signal.SIG_BLOCK, []) == self._mask
        return unblocked and handlers == self._handlers
