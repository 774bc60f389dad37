"""Tell whether the files that a runner has loaded code from have changed since."""

from __future__ import annotations

import os
import sys
import time
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from bgjobs.calls.resolve import names_of_module

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.abc import PathEntryFinder

    from bgjobs.worker.protocol import Run

LOOK_EVERY_S = 1.0
MARGIN_NS = 20_000_000  # the clock of a file system may be a few ms behind
FUTURE_NS = 1_000_000_000
INSTALLED = frozenset({"site-packages", "dist-packages"})
STANDARD = os.path.dirname(os.__file__) + os.sep
SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES, *BYTECODE_SUFFIXES)


class LoadedCode:
    """The files of the modules that this process has imported since it became a runner.

    Watched are the modules that jobs name, with all of their packages, and all others that are neither installed nor
    part of Python. With `reload` the state of a file includes its ctime, and new files count too.
    """

    def __init__(self, import_paths: Iterable[str], cwd: str, *, reload: bool) -> None:
        """Watch none of the modules that are loaded now. The working directory must be `cwd` already."""
        self._reload = reload
        self._import_paths = tuple(import_paths)
        self._cwd = cwd
        self._place = _place(".")
        self._known = set(sys.modules)
        self._from_the_start = frozenset(self._known)
        self._unwatched: set[str] = set()  # modules that a job names, but another one had imported
        self._named: set[str] = set()  # the packages of modules that jobs named
        self._targets: set[tuple[str, str | None, str]] = set()
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._folders: dict[str, tuple[tuple[int, int, int] | None, frozenset[str]]] = {}
        self._began_ns = time.time_ns()
        self._changed = ""
        self._look_at = 0.0

    def begin(self, job: Run) -> bool:
        """Return whether this process may run the job; if not, a fresh one must.

        Without `reload` old code goes on running, but old and new are not mixed: once a file has changed, no method is
        called that was not called here before.
        """
        target = job.module, job.owner, job.method
        if (self._reload or target not in self._targets) and self.changed():
            return False
        if target not in self._targets:
            self._targets.add(target)
            self._named.add(job.module.partition(".")[0])
            imported = job.module in sys.modules and job.module not in self._from_the_start
            if imported and self._file_of(job.module) not in self._stamps:
                self._unwatched.add(job.module)
        if self._reload and not self._stamps:
            self._folders = {path: _folder(path) for path in self._import_paths}
        self._began_ns = time.time_ns()
        return True

    def note(self) -> None:
        """Remember the files of the modules that the attempt has imported since the last call."""
        if len(sys.modules) == len(self._known):
            return
        now = set(sys.modules)  # in one step: a thread of the job may be importing
        for name in now - self._known:
            path = self._file_of(name)
            if path and path not in self._stamps:
                self._stamp(path)
        self._known = now

    def look(self, *, at_once: bool) -> str:
        """Return the first changed file, or ""; files are checked once a second, with `at_once` now."""
        if not self._changed:
            now = time.monotonic()
            if at_once or now >= self._look_at:
                self._look_at = now + LOOK_EVERY_S
                self.changed()
        return self._changed

    def changed(self) -> str:
        """Return the first file that has changed since it was loaded, or ""."""
        if not self._changed:
            self._changed = self._first_changed()
        return self._changed

    def differs(self, module: str) -> bool:
        """Tell whether a fresh process may find other code than this one, and so not refuse this module.

        Never true in a fresh process: what it refuses is refused for good.
        """
        if module in self._unwatched:
            return True
        return any(_state(path, whole=self._reload) != stamp for path, stamp in self._stamps.items())

    def _first_changed(self) -> str:
        for path, stamp in self._stamps.items():
            if _state(path, whole=self._reload) != stamp:
                return self._shown(path)
        if not self._reload:
            return ""
        here = _place(self._cwd)
        if here is not None and here != self._place:
            return self._cwd
        for path, (place, names) in self._folders.items() if self._stamps else ():
            if _place_and_time(path) == place:
                continue
            self._folders[path] = now = _folder(path)
            if now[0] is None or place is None or now[0][:2] != place[:2] or now[1] != names:
                return self._shown(path)
        return ""

    def _stamp(self, path: str) -> None:
        state = _state(path, whole=self._reload)
        if not state:
            return
        self._stamps[path] = state
        if self._reload:
            folder = os.path.dirname(path)
            self._folders.setdefault(folder, _folder(folder))
            # The file was read at some moment since the attempt began. What was written since then, or right before,
            # may be newer than what was read: a fresh process decides. A time in the future proves nothing. Without
            # `reload` this is not checked: mostly the job itself has just written the module.
            if self._began_ns - MARGIN_NS < _written_ns(path) < time.time_ns() + FUTURE_NS and not self._changed:
                self._changed = self._shown(path)

    def _file_of(self, name: str) -> str:
        """Return the file of a module, or of the archive that it is in; "" if it is not watched."""
        top = name.partition(".")[0]
        module: object = sys.modules.get(name)
        if top == "bgjobs" or top in sys.stdlib_module_names or not issubclass(type(module), ModuleType):
            return ""
        path = names_of_module(module).get("__file__")
        if type(path) is not str or not os.path.isabs(path):
            return ""
        if top not in self._named and (not INSTALLED.isdisjoint(path.split(os.sep)) or path.startswith(STANDARD)):
            return ""
        while not os.path.isfile(path):
            above = os.path.dirname(path)
            if above == path or os.path.isdir(above):
                return ""
            path = above
        return path

    def _shown(self, path: str) -> str:
        for root in self._import_paths:
            if path.startswith(root + os.sep):
                path = path[len(root) + 1 :]
                break
        return path.encode("utf-8", "backslashreplace").decode()


class _SourceLoader(SourceFileLoader):
    """Loads modules without reading or writing bytecode."""

    def path_stats(self, path: str) -> NoReturn:  # noqa: ARG002 - Python's importer calls it so
        """Refuse to tell the state of the source: then Python compiles it."""
        raise OSError


def import_from_source_alone(import_paths: Iterable[str]) -> None:
    """Import modules from now on without bytecode, except those that are installed or part of Python.

    Python compares bytecode with its source by size and by mtime in seconds: after an edit within one second that keeps
    the size, a fresh process would run the old code.
    """
    hook = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_SourceLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def for_ours(path: str) -> PathEntryFinder:
        if path.startswith(STANDARD) or not INSTALLED.isdisjoint(path.split(os.sep)):
            raise ImportError
        return hook(path)

    sys.path_hooks.insert(0, for_ours)
    for path in import_paths:
        sys.path_importer_cache.pop(path, None)


def _state(path: str, *, whole: bool) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    state = found.st_mtime_ns, found.st_size, found.st_dev, found.st_ino
    return (*state, found.st_ctime_ns) if whole else state


def _written_ns(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError:
        return 0
    return max(found.st_mtime_ns, found.st_ctime_ns)


def _place(path: str) -> tuple[int, int] | None:
    found = _place_and_time(path)
    return None if found is None else found[:2]


def _place_and_time(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _folder(path: str) -> tuple[tuple[int, int, int] | None, frozenset[str]]:
    """Return the identity of a directory, and the names in it that could be imported."""
    place = _place_and_time(path)  # first: a change after it is seen by the next check
    try:
        with os.scandir(path) as entries:  # noqa: TID251 - where the code of jobs is, not the queue
            return place, frozenset(entry.name for entry in entries if _could_be_imported(entry))
    except OSError:
        return place, frozenset()


def _could_be_imported(entry: os.DirEntry[str]) -> bool:
    if entry.name.endswith(SUFFIXES):
        return True
    return entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir()
