"""Set and check which directories of a spool other users may enter: none, or those that a shared spool opens.

Members of the group may pass through the root and make files in `incoming/`. They can list neither, and because
`incoming/` is sticky they can change only their own files. Everything else is closed to them.
"""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, NamedTuple

from bgjobs import disk, files, system
from bgjobs.config import permissions
from bgjobs.errors import SpoolError
from bgjobs.store import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.layout import Layout

ROOT_MODE = 0o710
INCOMING_MODE = 0o3730  # setgid: files get the group, which lets the worker read them; sticky; not to be listed
PRIVATE = 0o700
GROUP_BITS = 0o070


class Access(NamedTuple):
    """The mode that a directory should have, and the group, where that matters."""

    mode: int
    group: int | None = None


def apply(paths: Layout, group: str) -> None:
    """Share a spool with a group, or stop sharing it if none is named. Raises SpoolError."""
    try:
        if group:
            _open(paths, group)
        else:
            _close(paths)
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else paths.root
        raise SpoolError(
            f"cannot change who may enter {where}: {error.strerror}",
            hint="let the owner of the spool run the worker",
            code="cannot-share",
        ) from error


def _open(paths: Layout, group: str) -> None:
    number = system.group_of(group)
    if number is None:
        raise SpoolError(
            f"the spool cannot be shared with {group!a}: there is no such group",
            hint="correct shared_with, or make the group",
            code="cannot-share",
        )
    if not system.may_give(number):
        raise SpoolError(
            f"the spool cannot be shared with group {group!a}: {system.user()} is not in it",
            hint=f"`usermod -a -G {group!a} {system.user()}`, then start the worker anew",
            code="cannot-share",
        )
    # Open nothing if others could have replaced one of the directories.
    for weak in permissions.weaknesses(paths.root, names_matter=True):
        raise SpoolError(f"{weak.path} {weak.what}", hint=weak.cure, code=weak.code)
    files.make_directory(paths.submitters)
    # The root last.
    for path, wanted in _shared(paths, number).items():
        state = disk.lstat(path)
        if not _matches(state, wanted):
            disk.set_access(path, *wanted)


def _close(paths: Layout) -> None:
    """Undo what sharing did, and only that; the root first."""
    for path, mode in ((_root(paths), ROOT_MODE), (paths.incoming, INCOMING_MODE)):
        state = disk.lstat(path)
        if stat.S_IMODE(state.st_mode) == mode and system.is_mine(state):
            disk.set_access(path, PRIVATE, None)


def _shared(paths: Layout, group: int) -> dict[str, Access]:
    return {paths.incoming: Access(INCOMING_MODE, group), _root(paths): Access(ROOT_MODE, group)}


def _root(paths: Layout) -> str:
    """Return the directory that the spool is, where its name is a link."""
    return os.path.realpath(paths.root)


def _matches(state: os.stat_result, wanted: Access) -> bool:
    return stat.S_IMODE(state.st_mode) == wanted.mode and wanted.group in {None, state.st_gid}


# Deviations


def deviations(paths: Layout, group: str) -> Iterator[Finding]:
    """Find directories of a spool that are more, or less, open than they should be."""
    number = system.group_of(group) if group else None
    if group and number is None:
        message = f"should be shared with group {group!a}, which does not exist: correct shared_with"
        yield Finding(code="cannot-share", message=message, path=paths.root, serious=True)
    shared = {} if number is None else _shared(paths, number)
    inside = [paths.submitters, os.path.join(paths.root, "logs")] if shared else []
    for path in [*paths.directories(), *inside]:
        if path not in shared and files.is_directory(path):
            yield from _check_private(path, root_is_open=bool(shared))
    for path, wanted in shared.items():
        if files.is_directory(path):
            yield from _check_shared(path, wanted, group)


def _check_private(path: str, *, root_is_open: bool) -> Iterator[Finding]:
    state = disk.lstat(path)
    if not system.is_mine(state):
        yield _not_ours(path)
    elif not system.is_private(state):
        others_write = permissions.weakness(path, state) is not None
        message = f"is open to other users (mode {stat.S_IMODE(state.st_mode):04o}): chmod 700 it"
        yield Finding(code="open-to-others", message=message, path=path, serious=others_write or root_is_open)


def _check_shared(path: str, wanted: Access, group: str) -> Iterator[Finding]:
    state = disk.lstat(path)
    mode = stat.S_IMODE(state.st_mode)
    if not system.is_mine(state):
        yield _not_ours(path)
    elif mode & ~wanted.mode or (mode & GROUP_BITS and state.st_gid != wanted.group):
        message = (
            f"is open to others than group {group!a} (mode {mode:04o}, group {state.st_gid}): "
            f"chgrp {group!a} and chmod {wanted.mode:04o} it"
        )
        yield Finding(code="open-to-others", message=message, path=path, serious=True)
    elif not _matches(state, wanted):
        message = f"is not shared with group {group!a} yet (mode {mode:04o}): the next worker that starts does that"
        yield Finding(code="not-shared", message=message, path=path)
    elif system.has_access_list(path):
        message = "is open to those on its access list: setfacl -b it"
        yield Finding(code="open-to-others", message=message, path=path, serious=True)


def _not_ours(path: str) -> Finding:
    message = f"belongs to another user, and we are {system.user()}: run all of bgjobs as one user"
    return Finding(code="not-ours", message=message, path=path, serious=True)


def warnings(paths: Layout, group: str) -> Iterator[Finding]:
    """Warn if the system lets one user hand in the file of another one."""
    if group and not system.links_are_guarded():
        message = (
            "is shared, and here users may make links to files of others, which would be taken for theirs: "
            "sysctl fs.protected_hardlinks=1"
        )
        yield Finding(code="loose-links", message=message, path=paths.incoming)


# Other users


def refuse_other_users(paths: Layout, reason: str) -> None:
    """Raise SpoolError if this is the spool of another user; the error names the owner, and what we may do.

    Reading it is refused too: it holds arguments and results of jobs, and its files may be made up.
    """
    try:
        root = disk.lstat(_root(paths))
    except OSError:
        return
    if system.is_mine(root):
        return
    owner = system.user_of(root)
    hint = f"run bgjobs as that user: `sudo -u {shlex.quote(owner)} bgjobs ...`"
    if _is_shared(paths, root):
        hint = f"to submit, put a file into {paths.incoming} (docs/shared.md says how)"
    raise SpoolError(
        f"the spool {paths.root} belongs to user {owner}, who alone can look into it or change it ({reason})",
        hint=hint,
        code="not-your-spool",
    )


def _is_shared(paths: Layout, root: os.stat_result) -> bool:
    try:
        return stat.S_IMODE(root.st_mode) == ROOT_MODE and files.exists(paths.incoming)
    except OSError:
        return False
