"""Write down every step that the queue takes on its disk, in an order and in terms that say what a power cut can undo.

The steps are recorded while real code runs on a real directory. Files and directories are numbered, so that what a step
did is known even when, in another state of the disk, other things bear the names it used.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from bgjobs import disk
from bgjobs.spool import locks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

ROOT = 0


class Link(NamedTuple):
    """A new file or directory got its first name."""

    folder: int
    name: str
    node: int


class Move(NamedTuple):
    """A file or directory got another name instead of its old one, perhaps that of another file."""

    source: int
    old: str
    target: int
    new: str
    node: int
    replaced: int | None


class Drop(NamedTuple):
    """A file or an empty directory lost its name, and so is gone."""

    folder: int
    name: str
    node: int


class Write(NamedTuple):
    """Data was put at the end of a file."""

    node: int
    data: bytes


class SyncFile(NamedTuple):
    """What is in a file was brought to the disk."""

    node: int


class SyncFolder(NamedTuple):
    """The names in a directory were brought to the disk."""

    node: int


class SyncAll(NamedTuple):
    """Everything was brought to the disk."""


class Promise(NamedTuple):
    """Somebody was told that these jobs are kept (or, for `kept` False, that they may go)."""

    jobs: tuple[str, ...]
    kept: bool


Step = Link | Move | Drop | Write | SyncFile | SyncFolder | SyncAll | Promise
Names = dict[int, dict[str, int]]


class Tree:
    """Directories with their names, and files with their content; number 0 is the directory that holds the spool."""

    def __init__(self, names: Names, contents: dict[int, bytes]) -> None:
        self.names = names
        self.contents = contents

    @classmethod
    def of(cls, root: Path) -> Tree:
        """Return the tree that lies there now."""
        tree, numbers = cls({ROOT: {}}, {}), itertools.count(1)

        def add(folder: int, path: Path) -> None:
            for entry in sorted(path.iterdir()):
                node = tree.names[folder][entry.name] = next(numbers)
                if entry.is_dir():
                    tree.names[node] = {}
                    add(node, entry)
                else:
                    tree.contents[node] = entry.read_bytes()

        add(ROOT, root)
        return tree

    def copy(self) -> Tree:
        """Return a tree that can change without this one."""
        return Tree({node: dict(found) for node, found in self.names.items()}, dict(self.contents))

    def apply(self, step: Step) -> bool:
        """Take a step, if what it needs is there; return whether it was."""
        match step:
            case Link(folder, name, node):
                if folder not in self.names or name in self.names[folder]:
                    return False
                self.names[folder][name] = node
                if node >= 0:
                    self.contents[node] = b""
                else:
                    self.names[node] = {}
            case Move(source, old, target, new, node, replaced):
                if self.names.get(source, {}).get(old) != node or target not in self.names:
                    return False
                if self.names[target].get(new) != replaced:
                    return False
                del self.names[source][old]
                self.names[target][new] = node
            case Drop(folder, name, node):
                if self.names.get(folder, {}).get(name) != node or self.names.get(node):
                    return False
                del self.names[folder][name]
                self.names.pop(node, None)
            case Write(node, data):
                self.contents[node] = self.contents.get(node, b"") + data
        return True

    def paths(self) -> dict[str, bytes | None]:
        """Return all that can be reached: the content of files by their path, and None for directories."""
        found: dict[str, bytes | None] = {}

        def add(folder: int, prefix: str) -> None:
            for name, node in self.names[folder].items():
                path = prefix + name
                if node in self.names:
                    found[path] = None
                    add(node, path + "/")
                else:
                    found[path] = self.contents.get(node, b"")

        add(ROOT, "")
        return found


class Recorder:
    """Records the steps that are taken on the disk below `root` from now on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = Tree.of(root)
        self.steps: list[Step] = []
        self._now = self.base.copy()
        self._numbers = itertools.count(1_000_000)
        self._open: dict[int, int] = {}

    def promise(self, jobs: list[str], *, kept: bool = True) -> None:
        """Write down that somebody was told that these jobs are kept, or that they may go."""
        self._take(Promise(tuple(jobs), kept))

    def wrap(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between the queue and its disk."""
        for name, after in {
            "open_new": self._opened_new,
            "open_append": self._opened,
            "open_create_append": self._opened_or_made,
            "write": self._written,
            "close": self._closed,
            "mkdir": self._directory_made,
            "makedirs": self._directory_made,
            "move": self._moved,
            "replace": self._moved,
            "unlink": self._dropped,
            "rmdir": self._dropped,
            "sync_file": self._file_synced,
            "sync_directory": self._directory_synced,
            "sync_filesystem": self._all_synced,
        }.items():
            patch.setattr(disk, name, _then(getattr(disk, name), after))
        patch.setattr(disk, "truncate", _refused)
        # The one file that is not made by a step of `disk`: filelock makes it.
        patch.setattr(locks, "hold_for_life", _then(locks.hold_for_life, lambda _, path: self._make(path, is_file=True)))

    # What each step was

    def _opened_new(self, fd: int, path: str) -> None:
        self._make(path, is_file=True)
        self._opened(fd, path)

    def _opened_or_made(self, fd: int, path: str) -> None:
        if self._inside(path):
            if self._node(path) is None:
                self._make(path, is_file=True)
            self._opened(fd, path)

    def _opened(self, fd: int, path: str) -> None:
        node = self._node(path)
        if node is not None:
            self._open[fd] = node

    def _closed(self, _: None, fd: int) -> None:
        self._open.pop(fd, None)

    def _written(self, count: int, fd: int, data: bytes) -> None:
        if fd in self._open:
            self._take(Write(self._open[fd], bytes(data[:count])))

    def _directory_made(self, _: None, path: str, *args: object, **options: object) -> None:
        missing = []
        while self._inside(path) and self._node(path) is None:
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            self._make(each, is_file=False)

    def _moved(self, _: None, source: str, target: str) -> None:
        (folder, old), (into, new) = self._place(source), self._place(target)
        names = self._now.names
        self._take(Move(folder, old, into, new, names[folder][old], names[into].get(new)))

    def _dropped(self, _: None, path: str) -> None:
        folder, name = self._place(path)
        self._take(Drop(folder, name, self._now.names[folder][name]))

    def _file_synced(self, _: None, fd: int) -> None:
        self._take(SyncFile(self._open[fd]))

    def _directory_synced(self, _: None, path: str) -> None:
        if os.path.abspath(path) == str(self.root) or self._inside(path):
            node = self._node(path)
            assert node is not None
            self._take(SyncFolder(node))

    def _all_synced(self, done: bool, path: str) -> None:
        if done:
            self._take(SyncAll())

    # Numbers and names

    def _make(self, path: str, *, is_file: bool) -> None:
        folder, name = self._place(path)
        number = next(self._numbers)
        self._take(Link(folder, name, number if is_file else -number))

    def _inside(self, path: str) -> bool:
        return os.path.abspath(path).startswith(f"{self.root}{os.sep}")

    def _place(self, path: str) -> tuple[int, str]:
        folder = self._node(os.path.dirname(path))
        assert folder is not None, path
        return folder, os.path.basename(path)

    def _node(self, path: str) -> int | None:
        node: int | None = ROOT
        relative = os.path.relpath(path, self.root)
        for part in [] if relative == "." else relative.split(os.sep):
            node = self._now.names.get(node, {}).get(part) if node is not None else None
        return node

    def _take(self, step: Step) -> None:
        assert self._now.apply(step), step
        self.steps.append(step)


def _then(step: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
    """Return a function that takes the step and, if that did not fail, writes it down."""

    def both(*args: Any, **options: Any) -> Any:
        result = step(*args, **options)
        after(result, *args, **options)
        return result

    return both


def _refused(path: str, size: int) -> None:
    raise AssertionError(f"{path} is cut: the enumerator does not know what that can lose")
