"""Restore process state after an attempt; report what cannot be restored.

The baseline is the state after the import of the job's module: what a module sets up stays, what a method changes is
undone. `docs/isolation.md` explains it to those who write jobs.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
import threading
import time
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
CHECK_EVERY = 64  # jobs: a check costs a part of a trivial job
LONG_S = 0.01  # after a job that took this long, a check is cheap


class MemoryGrowth:
    """How much the memory of this process has grown since the modules of its jobs were imported."""

    def __init__(self, most: int = 0) -> None:
        """Take the memory as it is now for the baseline, from which it may grow by `most` bytes.

        With 0 it may double, and grow by `LEAST` in any case.
        """
        self._most = most
        self._jobs = 0
        self.set_baseline()

    def set_baseline(self) -> None:
        """Take the memory as it is now for the baseline."""
        self._size = 0
        with suppress(OSError):
            self._size = system.memory()

    def is_too_much(self, took: float) -> bool:
        """Tell whether it has grown by more than it may. `took`: seconds of the last job."""
        self._jobs += 1
        if self._jobs % CHECK_EVERY and took < LONG_S:
            return False
        try:
            return has_grown(system.memory(), self._size, self._most)
        except OSError:
            return False  # the attempt has hidden it, or taken the last descriptor


def has_grown(memory: int, baseline: int, most: int) -> bool:
    """Tell whether so many bytes of memory are too many; see `MemoryGrowth`. A baseline of 0 is unknown."""
    return baseline > 0 and memory > baseline + (most or max(LEAST, baseline))


# The number of registered functions: the only way to tell whether a job has registered one.
_registered: Callable[[], int] | None = getattr(atexit, "_ncallbacks", None)


class ExitCheck:
    """Whether the interpreter has anything to do at its exit; a fresh runner has not."""

    def __init__(self) -> None:
        """Remember the state of a fresh runner."""
        self._functions = _registered() if _registered else -1
        self._descriptors = len(system.open_descriptors())

    def has_work(self) -> bool:
        """Tell whether there is a thread to wait for, an `atexit` function to call, perhaps an open file to flush."""
        if _registered is None or _registered() != self._functions:
            return True
        main = threading.main_thread()
        if any(not thread.daemon and thread is not main for thread in threading.enumerate()):
            return True
        descriptors = len(system.open_descriptors())
        return not descriptors or descriptors > self._descriptors


def end_descendants() -> None:
    """Kill all descendants of this process: from outside, those in sessions of their own would be hard to find."""
    if system.children():
        system.kill_descendants()


class Leftover(Struct, frozen=True):
    """What could not be restored after an attempt, in words; empty for nothing. `runs`: something still runs."""

    what: str
    runs: bool = False


HANDOVER_S = 0.05


class ProcessState:
    """The baseline state of a runner process, and the way back to it after each attempt."""

    def __init__(self) -> None:
        """Take the state as it is now for the baseline. Called before the first attempt."""
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

    def set_variables(self, job: Run) -> None:
        """Set the environment variables that tell an attempt which job it runs."""
        marks = {
            "BGJOBS_ID": job.id,
            "BGJOBS_ATTEMPT": str(job.number),
            "BGJOBS_CLASS": job.class_name,
            "BGJOBS_METHOD": job.method,
        }
        # Those of the job before are still set, and most jobs are like the one before.
        for name, value in marks.items():
            if self._marks.get(name) != value:
                os.environ[name] = value
        self._marks = marks
        self._marked_environment = _environment_as_kept()
        if len(self._threads) > self._ours:
            self._threads = live_threads(
                self._threads
            )  # those of modules come and go: a timer that starts the next one

    def set_baseline(self) -> None:
        """Take the state as it is now for the baseline: a module was imported, and nothing else has run."""
        self._handlers.remember()
        self._children.remember()
        self._remember()

    def fresh_context(self) -> Context:
        """Return a fresh copy of the context variables, for the method to run in."""
        copy = self._context.copy()
        if self._shares_decimal:
            # Otherwise the copy would share the same decimal context object.
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
        self._threads = live_threads({})
        self._context = self._given = self._used = copy_context()
        self._shares_decimal = any(variable.name == "decimal_context" for variable in self._context)
        self._seeded.clear()
        self._state = interpreter.remembered()
        self._modules = frozenset(sys.modules)
        self._unchanged = Unchanged()

    def restore(self) -> Leftover:
        """Put the process back to the baseline; return what cannot be put back."""
        try:
            left = self._put_back()
            running = self._still_running()
        except BaseException as error:  # noqa: BLE001 - a handler, a timer or an object of the job may raise anything
            return Leftover(f"what it left cannot be undone: {type(error).__name__}", runs=True)
        return Leftover(running, runs=True) if running else Leftover(left)

    def _put_back(self) -> str:
        """Put back what can be put back; describe what cannot, in words."""
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
        # The time zone is no part of the state while both names mean the same offset now.
        if changed:
            system.read_time_zone()
        lasting = interpreter.put_back(self._state, differing) if differing else []
        if not is_same and sys.modules.keys() != self._modules:
            changed |= any(not part.by_use for part in differing)
            loaded = self._newly_imported()
            if loaded and (changed or self._used != self._given):
                # The change may come from the import: the next job that needs the module would miss it.
                return f"{loaded} was imported by the method, and the state of the process has changed"
            self._state = interpreter.remembered()
            self._modules = frozenset(sys.modules)
        if not is_same:
            self._unchanged = Unchanged()
        if not intact:
            return "a signal that it has blocked, or whose handler cannot be put back"
        return f"changed for good: {', '.join(part.name for part in lasting)}" if lasting else ""

    def _restore_environment(self) -> bool:
        """Put back all variables if one of them has changed; tell whether one had."""
        if os.environ is not self._variables:
            os.environ = self._variables  # noqa: B003 - another mapping in its place reaches no child process
        if _environment_as_kept() == self._marked_environment:
            return False
        os.environ.clear()
        os.environ.update(self._environment)
        self._marks = {}
        return True

    def _newly_imported(self) -> str:
        """Return a module that was loaded since, beyond the standard library and bgjobs; "" if there is none."""
        for name in sys.modules.keys() - self._modules:
            top = name.partition(".")[0]
            if top != "bgjobs" and top not in sys.stdlib_module_names:
                return name
        return ""

    def _still_running(self) -> str:
        """Describe a thread or process that the attempt has left running; "" if there is none."""
        # Our own threads never end: without others, counting is enough.
        if len(self._threads) > self._ours or threading.active_count() > self._ours:
            for thread in threading.enumerate():
                if thread not in self._threads and not self._is_successor(thread):
                    return f"the thread {thread.name!r} runs on"
        if self._children.have_grown():
            return "a process that it has started runs on"
        return ""

    def _is_successor(self, thread: threading.Thread) -> bool:
        """Tell whether it succeeds a thread of a module, as one timer after another does; remember it if so."""
        work = _work_of(thread)
        for known in [one for one, its_work in self._threads.items() if its_work == work]:
            known.join(HANDOVER_S)  # it may have just started its successor
            if not known.is_alive():
                del self._threads[known]
                self._threads[thread] = work
                return True
        return False


def live_threads(known: dict[threading.Thread, object]) -> dict[threading.Thread, object]:
    """Return the live threads, each with the code that it runs.

    If there are more with the same code than were known, one of them may have just started its successor: it gets a
    moment to end, or what a job starts later could pass for the successor of either.
    """
    give_up = time.monotonic() + HANDOVER_S
    while True:
        found = {thread: _work_of(thread) for thread in threading.enumerate()}
        works, before = [*found.values()], [*known.values()]
        twins = [one for one, work in found.items() if works.count(work) > max(1, before.count(work))]
        left = give_up - time.monotonic()
        if not twins or left <= 0:
            return found
        twins[0].join(left / len(twins))


def _work_of(thread: threading.Thread) -> object:
    function = getattr(thread, "function", None) or getattr(thread, "_target", None)
    return type(thread), getattr(function, "__code__", function)


def _watch_seeds() -> list[bool]:
    """Return a list that gets an item whenever code seeds the random numbers of this process.

    Comparing the state of the generator instead would take as long as some jobs.
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
