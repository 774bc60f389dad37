"""Write down every step that the queue takes on its disk while real code runs on a real directory."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgjobs import disk, locks
from tests.crash.enumerator_tree import (
    ROOT,
    Drop,
    Link,
    Move,
    Promise,
    Step,
    SyncAll,
    SyncFile,
    SyncFolder,
    Tree,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


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
        steps: dict[str, Callable[..., None]] = {
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
        }
        for name, after in steps.items():
            patch.setattr(disk, name, _then(getattr(disk, name), after))
        patch.setattr(disk, "truncate", _refused)
        # The one file that is not made by a step of `disk`: filelock makes it.
        patch.setattr(
            locks, "hold_for_life", _then(locks.hold_for_life, lambda _, path: self._make(path, is_file=True))
        )

    # What each step was

    def _opened_new(self, fd: int, path: str) -> None:
        self._make(path, is_file=True)
        self._opened(fd, path)

    def _opened_or_made(self, fd: int, path: str) -> None:
        if self._inside(path) and self._node(path) is None:
            self._make(path, is_file=True)
        self._opened(fd, path)

    def _opened(self, fd: int, path: str) -> None:
        node = self._node(path)
        if node is not None:
            self._open[fd] = node

    def _closed(self, _: None, fd: int) -> None:
        self._open.pop(fd, None)

    def _lock_made(self, _: object, path: str) -> None:
        self._make(path, is_file=True)

    def _written(self, count: int, fd: int, data: bytes) -> None:
        if fd in self._open:
            self._take(Write(self._open[fd], bytes(data[:count])))

    def _directory_made(self, _: None, path: str, *args: object, **options: object) -> None:
        missing = [
            each for each in (Path(path), *Path(path).parents) if self._inside(each) and self._node(each) is None
        ]
        for each in reversed(missing):
            self._make(each, is_file=False)

    def _moved(self, _: None, source: str, target: str) -> None:
        (folder, old), (into, new) = self._place(source), self._place(target)
        names = self._now.names
        self._take(Move(folder, old, into, new, names[folder][old], names[into].get(new)))

    def _dropped(self, _: None, path: str, **_options: object) -> None:
        folder, name = self._place(path)
        self._take(Drop(folder, name, self._now.names[folder][name]))

    def _file_synced(self, _: None, fd: int) -> None:
        self._take(SyncFile(self._open[fd]))

    def _directory_synced(self, _: None, path: str) -> None:
        node = self._node(path)
        if node is not None:
            self._take(SyncFolder(node))

    def _all_synced(self, done: bool, path: str) -> None:
        if done:
            self._take(SyncAll())

    # Numbers and names

    def _make(self, path: str | Path, *, is_file: bool) -> None:
        folder, name = self._place(path)
        number = next(self._numbers)
        self._take(Link(folder, name, number if is_file else -number))

    def _inside(self, path: str | Path) -> bool:
        return self.root in Path(path).parents

    def _place(self, path: str | Path) -> tuple[int, str]:
        folder = self._node(Path(path).parent)
        assert folder is not None, path
        return folder, Path(path).name

    def _node(self, path: str | Path) -> int | None:
        """Return the number of what lies there; None for nothing, and for what lies elsewhere."""
        if not self._inside(path):
            return ROOT if Path(path) == self.root else None
        node: int | None = ROOT
        for part in Path(path).relative_to(self.root).parts:
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
