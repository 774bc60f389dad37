"""What an attempt leaves behind in its runner: wipe off what can be wiped off, and tell what cannot."""

from __future__ import annotations

import os
import sys
import threading
from _locale import LC_ALL, setlocale  # what `locale` is made of: that one takes milliseconds to import
from typing import TYPE_CHECKING, Any

from bgjobs import system

if TYPE_CHECKING:
    from bgjobs.worker.messages import Run


class Traces:
    """Remembers how a fresh runner is, and brings it back to that after each attempt."""

    def __init__(self) -> None:
        """Remember the state of this process. Called before the first attempt."""
        self._environment = dict(os.environ)
        self._marks: dict[str, str] = {}
        self._marked_environment = _environment_as_kept()
        self._cwd = os.getcwd()
        self._path = list(sys.path)
        self._threads = threading.active_count()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._recursion = sys.getrecursionlimit()
        self._locale = setlocale(LC_ALL)
        self._handlers = system.SignalHandlers()

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

    def wipe(self) -> bool:
        """Wipe off what the attempt left; return whether the runner is as good as new."""
        try:
            self._restore()
        except (OSError, ValueError, TypeError):
            return False
        # Threads and children cannot be undone: the worker replaces this process.
        return threading.active_count() <= self._threads and not system.children()

    def _restore(self) -> None:
        if _environment_as_kept() != self._marked_environment:
            os.environ.clear()
            os.environ.update(self._environment)
            self._marks = {}
        if _current_directory() != self._cwd:
            os.chdir(self._cwd)
        os.umask(self._umask)
        if sys.path != self._path:
            sys.path[:] = self._path
        sys.setrecursionlimit(self._recursion)
        if setlocale(LC_ALL) != self._locale:
            _bring_back_locale(self._locale)
        self._handlers.restore()


def _current_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # the attempt has removed it, or locked itself out


def _bring_back_locale(before: str) -> None:
    import locale  # noqa: PLC0415 - whoever changed it has paid for the import

    try:
        setlocale(LC_ALL, before)
    except locale.Error as error:
        raise ValueError(str(error)) from error


def _environment_as_kept() -> dict[Any, Any]:
    """Return a copy of the environment in the form in which Python keeps it.

    Comparing `os.environ` itself decodes every variable, which would take longer than many a job.
    """
    kept = getattr(os.environ, "_data", None)
    return dict(kept) if isinstance(kept, dict) else dict(os.environ)
