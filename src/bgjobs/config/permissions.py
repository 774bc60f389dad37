"""Find out whether another user could change the file or directory at a path, or replace it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from msgspec import Struct

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LINKS = 40


class Weakness(Struct, frozen=True):
    """A file or directory that other users could change: how, and what to do about it. `code` is stable."""

    path: str
    what: str
    cure: str
    code: str

    def __str__(self) -> str:
        """Return it as one line: what, which, what to do."""
        return f"{self.path} {self.what}: {self.cure}"


def weaknesses(path: str, *, names_matter: bool = False) -> Iterator[Weakness]:
    """Go through what other users could change on the way to a path: links, each directory above it, and itself.

    In a sticky directory such as /tmp others can make new files, but change none of ours: it counts as safe, unless it
    is the path itself and `names_matter`, as in a directory that imports are searched in. The search ends at what does
    not exist.
    """
    if not system.CHECKS_WRITERS:
        return
    # Not `abspath`: after a link, `..` is not the directory before it; and the current directory may be deleted.
    place = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    for step, state in _way(place):
        found = weakness(step, state, sticky_is_safe=True)
        if found is not None:
            yield found
    if names_matter:
        yield from _open_to_new_names(place)


def weakness(path: str, state: os.stat_result, *, sticky_is_safe: bool = False) -> Weakness | None:
    """Return how other users could change this one file or directory, or None."""
    if stat.S_ISLNK(state.st_mode) and system.is_trusted(state.st_uid):
        return None  # the mode of a link says nothing
    if sticky_is_safe and system.is_trusted(state.st_uid) and stat.S_ISDIR(state.st_mode) and _is_sticky(state):
        return None
    found = system.weakness(path, state)
    return None if found is None else Weakness(path, *found)


def _open_to_new_names(path: str) -> Iterator[Weakness]:
    """Check a sticky directory at the end of the path, which counted as safe on the way."""
    try:
        state = os.stat(path)
    except OSError:
        return
    found = weakness(path, state) if _is_sticky(state) else None
    if found is not None:
        yield found


def _is_sticky(state: os.stat_result) -> bool:
    return bool(state.st_mode & stat.S_ISVTX)


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Go through every directory and link that resolving an absolute path passes.

    `realpath` would give the last of them only, but the owner of a link on the way decides where it leads.
    """
    at, links = os.sep, 0
    left = path.split(os.sep)[::-1]
    yield at, os.lstat(at)
    while left:
        name = left.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        step = os.path.join(at, name)
        try:
            state = os.lstat(step)
        except OSError:
            return
        yield step, state
        if not stat.S_ISLNK(state.st_mode):
            at = step
            continue
        links += 1
        target = os.readlink(step)
        if links > MOST_LINKS:
            return
        at = os.sep if target.startswith(os.sep) else at
        left += target.split(os.sep)[::-1]
