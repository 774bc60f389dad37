"""Remove directory trees without following links, so that nothing outside of them is removed."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bgjobs import disk, files

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LEVELS = 64  # of directories: none of ours has more than two


@contextmanager
def opened(root: str, *names: str) -> Iterator[int | None]:
    """Hold a directory below `root` open, to remove what is in it and nothing elsewhere.

    Anybody who can write into a directory can replace one in it by a link at any moment. So each is opened relative to
    the open one above it, and none may be a link. None stands for it where that is not possible. Raises OSError.
    """
    path, folder = os.path.realpath(root), None
    with ExitStack() as stack:
        for name in ("", *names):
            path = os.path.join(path, name) if name else path
            folder = disk.open_folder(path, folder=folder)
            if folder is not None:
                stack.callback(disk.close, folder)
        yield folder


def remove_tree(path: str, *, folder: int | None = None, levels: int = MOST_LEVELS) -> Iterator[None]:
    """Remove a directory and all in it, in short steps: one for each name found, and one for each file removed.

    With `folder` it is the one in that open directory. What is nested deeper than so many levels stays.
    """
    inside = disk.open_folder(path, folder=folder)
    try:
        found = []
        for entry in disk.scandir(path, folder=inside):
            found.append(entry)
            yield
        for name, is_directory in found:
            inner = os.path.join(path, name)
            if not is_directory:
                files.remove(inner, folder=inside)
            elif levels:
                yield from remove_tree(inner, folder=inside, levels=levels - 1)
            yield
    finally:
        if inside is not None:
            disk.close(inside)
    files.remove_directory(path, folder=folder)
