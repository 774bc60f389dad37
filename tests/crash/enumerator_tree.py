"""The steps that change a disk, and a tree of directories on which they can be taken again.

Files and directories are numbered, so that what a step did is known even when, in another state of the disk, other
things bear the names it used.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

ROOT = 0


class Link(NamedTuple):
    """A new file (or, with a number below zero, a directory) got its first name."""

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
            case Link():
                return self._link(step)
            case Move():
                return self._move(step)
            case Drop(folder, name, node):
                if self.names.get(folder, {}).get(name) != node or self.names.get(node):
                    return False
                del self.names[folder][name]
                self.names.pop(node, None)
            case Write(node, data):
                self.contents[node] = self.contents.get(node, b"") + data
            case SyncFile() | SyncFolder() | SyncAll() | Promise():
                pass
        return True

    def _link(self, step: Link) -> bool:
        if step.folder not in self.names or step.name in self.names[step.folder]:
            return False
        self.names[step.folder][step.name] = step.node
        if step.node >= 0:
            self.contents[step.node] = b""
        else:
            self.names[step.node] = {}
        return True

    def _move(self, step: Move) -> bool:
        source, target = self.names.get(step.source, {}), self.names.get(step.target)
        if source.get(step.old) != step.node or target is None or target.get(step.new) != step.replaced:
            return False
        del source[step.old]
        target[step.new] = step.node
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
