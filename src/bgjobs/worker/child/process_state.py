"""Restore process state after an attempt; report what cannot be restored.

The base line is the state after the import of the job's module: what a module sets up stays, what a method changes is
undone. `docs/isolation.md` says it to those who write jobs.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
import threading
from contextlib import suppress
from contextvars import Context, copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bgjobs import system
from bgjobs.worker.child import interpreter
from bgjobs.worker.child.unchanged import Unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.worker.protocol import Run


LEAST = 128 * 1024 * 1024  # bytes: less than that is no growth
LOOK_EVERY = 64  # jobs; to look takes as long as a part of a trivial one
LONG_S = 0.01  # after a job that took so long, each look is cheap


class Growth:
    """The memory of this process against what it was when the modules of its jobs had been imported."""

    def __init__(self) -> None:
        """Begin with what it has now."""
        self._jobs = 0
        self.remember()

    def remember(self) -> None:
        """Take the memory as it is now for what this process needs."""
        self._size = 0
        with suppress(OSError):
            self._size = system.memory()

    def is_too_much(self, took: float) -> bool:
        """Tell whether it has more than doubled, and by `LEAST` at least, after a job that took so many seconds."""
        self._jobs += 1
        if self._jobs % LOOK_EVERY and took < LONG_S:
            return False
        try:
            return system.memory() > self._size + max(LEAST, self._size) and self._size > 0
        except OSError:
            return False  # the attempt has hidden it, or taken the last descriptor


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


class Left(Struct, frozen=True):
    """What cannot be undone, in words. `runs` tells that something of the attempt still runs."""

    what: str
    runs: bool = False


NOTHING = Left("")
HANDOVER_S = 0.05


class Traces:
    """Remembers how a runner is, and brings it back to that after each attempt."""

    def __init__(self) -> None:
        """Remember the state of this process. Called before the first attempt."""
        self._marks: dict[str, str] = {}
        self._context = self._given = self._used = copy_context()
        self._shares_decimal = False
        self._handlers = system.SignalHandlers()
        self._seeded = _watch_seeds()
        self._children = system.ChildProcesses()
        self._ours = threading.active_count()
        self._threads: dict[threading.Thread, object] = {}
        self._remember()

    @property
    def keeps_processes(self) -> bool:
        """Whether modules have started processes that belong to this one."""
        return self._children.any

    def mark(self, job: Run) -> None:
        """Tell the attempt by its environment which job it is."""
        marks = {
            "BGJOBS_ID": job.id,
            "BGJOBS_ATTEMPT": str(job.number),
            "BGJOBS_CLASS": job.class_name,
            "BGJOBS_METHOD": job.method,
        }
        # Those of the job before stay until here, and most jobs are like the one before.
        for name, value in marks.items():
            if self._marks.get(name) != value:
                os.environ[name] = value
        self._marks = marks
        self._marked_environment = _environment_as_kept()
        if len(self._threads) > self._ours:
            self._threads = _threads()  # those of modules come and go: a timer that starts the next one, a pool

    def adopt(self) -> None:
        """Take the state as it is now for the base line: a module was imported, and nothing else has run."""
        self._handlers.remember()
        self._children.remember()
        self._remember()

    def context(self) -> Context:
        """Return a fresh copy of the context variables, for the method to run in."""
        copy = self._context.copy()
        if self._shares_decimal:
            # Else the copy would lead to the same object, with the precision in it.
            copy.run(_copy_decimal_context)
        self._given = copy.copy()
        self._used = copy
        return copy

    def _remember(self) -> None:
        self._variables = os.environ
        self._environment = {name: value for name, value in os.environ.items() if name not in self._marks}
        self._marked_environment = _environment_as_kept()
        self._cwd = os.getcwd()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._threads = _threads()
        self._context = self._given = self._used = copy_context()
        self._shares_decimal = any(variable.name == "decimal_context" for variable in self._context)
        self._seeded.clear()
        self._state = interpreter.remembered()
        self._modules = frozenset(sys.modules)
        self._unchanged = Unchanged()

    def wipe(self) -> Left:
        """Wipe off what the attempt left; return what cannot be."""
        try:
            left = self._restore()
            running = self._running()
        except BaseException as error:  # noqa: BLE001 - a handler, a timer or an object of the job may raise anything
            return Left(f"what it left cannot be undone: {type(error).__name__}", runs=True)
        return Left(running, runs=True) if running else Left(left)

    def _restore(self) -> str:
        """Put back what can be; return what cannot, in words."""
        intact = self._handlers.restore()
        if "faulthandler" in sys.modules:
            sys.modules["faulthandler"].cancel_dump_traceback_later()  # it might end the process of another job
        changed = self._restore_environment()
        moved = _current_directory() != self._cwd
        if moved:
            os.chdir(self._cwd)
        changed |= moved
        os.umask(self._umask)
        if self._seeded:
            random.seed()
            self._seeded.clear()
        is_same = self._unchanged.holds()
        differing = [] if is_same else interpreter.differing(self._state, interpreter.state())
        # It is not in the state as long as both names stand for the same hours now.
        if changed:
            system.read_time_zone()
        lasting = interpreter.put_back(self._state, differing) if differing else []
        if not is_same and sys.modules.keys() != self._modules:
            changed |= any(not part.by_use for part in differing)
            loaded = self._loaded()
            if loaded and (changed or self._used != self._given):
                # Perhaps it was the import: then the next job that needs the module would miss what it had set.
                return f"{loaded} was imported by the method, and the state of the process has changed"
            self._state = interpreter.remembered()
            self._modules = frozenset(sys.modules)
        if not is_same:
            self._unchanged = Unchanged()
        if not intact:
            return "a signal that it has blocked, or whose handler cannot be put back"
        return f"changed for good: {', '.join(part.name for part in lasting)}" if lasting else ""

    def _restore_environment(self) -> bool:
        """Put back all variables if one of them has changed; tell whether that was so."""
        if os.environ is not self._variables:
            os.environ = self._variables  # noqa: B003 - another mapping in its place reaches no child process
        if _environment_as_kept() == self._marked_environment:
            return False
        os.environ.clear()
        os.environ.update(self._environment)
        self._marks = {}
        return True

    def _loaded(self) -> str:
        """Return the first module beyond the standard library and bgjobs that was loaded since, or nothing."""
        for name in sys.modules.keys() - self._modules:
            top = name.partition(".")[0]
            if top != "bgjobs" and top not in sys.stdlib_module_names:
                return name
        return ""

    def _running(self) -> str:
        """Return what the attempt has left running, in words."""
        # Our own threads never end: where there are no others, it is enough to count.
        if len(self._threads) > self._ours or threading.active_count() > self._ours:
            for thread in threading.enumerate():
                if thread not in self._threads and not self._is_next(thread):
                    return f"the thread {thread.name!r} runs on"
        if self._children.have_grown():
            return "a process that it has started runs on"
        return ""

    def _is_next(self, thread: threading.Thread) -> bool:
        """Tell whether it took the place of a thread of a module, as one timer after another does; note that it has."""
        work = _work_of(thread)
        for known in [one for one, its_work in self._threads.items() if its_work == work]:
            known.join(HANDOVER_S)  # it may have just started its successor
            if not known.is_alive():
                del self._threads[known]
                self._threads[thread] = work
                return True
        return False


def _threads() -> dict[threading.Thread, object]:
    """Return the threads that live, each with what it does."""
    return {thread: _work_of(thread) for thread in threading.enumerate()}


def _work_of(thread: threading.Thread) -> object:
    function = getattr(thread, "function", None) or getattr(thread, "_target", None)
    return type(thread), getattr(function, "__code__", function)


def _watch_seeds() -> list[bool]:
    """Have a list filled whenever somebody makes the random numbers of this process predictable.

    To look at the state of the generator instead would take as long as some jobs.
    """
    seeded: list[bool] = []

    def noting(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def noted(*args: object, **kwargs: object) -> None:
            seeded.append(True)
            function(*args, **kwargs)

        return noted

    random.seed, random.setstate = noting(random.seed), noting(random.setstate)
    return seeded


def _copy_decimal_context() -> None:
    import decimal  # noqa: PLC0415 - it is loaded, or nothing would be shared

    decimal.setcontext(decimal.getcontext().copy())


def _current_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # the attempt has removed it, or locked itself out


def _environment_as_kept() -> dict[Any, Any]:
    """Return a copy of the environment in the form in which Python keeps it.

    Comparing `os.environ` itself decodes every variable, which would take longer than many a job.
    """
    kept = getattr(os.environ, "_data", None)
    return dict(kept) if isinstance(kept, dict) else dict(os.environ)
