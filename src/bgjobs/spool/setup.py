"""Open a spool, or set one up where there is none. VERSION is made last: a spool that has it is complete."""

from __future__ import annotations

import os
from contextlib import closing

import msgspec

from bgjobs import files, system
from bgjobs.errors import SpoolError
from bgjobs.ids import new_id
from bgjobs.spool import layout
from bgjobs.spool.layout import Layout
from bgjobs.spool.line1 import FORMAT

SET_UP_S = 10.0
EVER = 0  # all ids hold lanes: no older bgjobs has made one here


def open_or_set_up(paths: Layout) -> None:
    """Check that we know the format of the spool; set one up where there is none. Raises SpoolError."""
    if not open_existing(paths):
        _set_up(paths)


def open_existing(paths: Layout) -> bool:
    """Check that we know the format of the spool; return False where there is none. Raises SpoolError."""
    try:
        data = files.read(paths.version, 1024)
    except FileNotFoundError:
        try:
            _refuse_remains(paths)
            _refuse_other_use(paths)
        except SpoolError:
            if files.exists(paths.version):
                return open_existing(paths)  # another process is setting it up right now
            raise
        return False
    except PermissionError as error:
        _refuse_other_users(paths, error.strerror or "")
        raise
    except files.StrangeFileError as error:
        _refuse_other_users(paths, str(error))
        # Of a copy that was made of links, each file is a file of the other spool as well.
        hint = "use another spool; if it is a copy with hard links (cp -l), copy it with `cp -a` instead"
        raise SpoolError(f"cannot use {paths.version}: {error}", hint=hint) from None
    version = (files.decoded(data, dict[str, object]) or {}).get("format")
    if version != FORMAT:
        raise SpoolError(
            f"the spool {paths.root} has format {version!r}, this bgjobs knows {FORMAT}",
            hint="use the bgjobs that made it, or another --spool",
        )
    return True


def _refuse_other_users(paths: Layout, reason: str) -> None:
    from bgjobs.spool.inbox import group_access  # noqa: PLC0415 - a spool is rarely somebody else's

    group_access.refuse_other_users(paths, reason)


def is_there(root: str) -> bool:
    """Tell whether there is a spool, or what is left of one; opening it reports what is wrong."""
    paths = Layout(root)
    try:
        return files.exists(paths.version) or _is_in_use(paths)
    except OSError:
        return True


def _set_up(paths: Layout) -> None:
    root = paths.root
    if len(root) > system.LONGEST_ROOT:
        raise SpoolError(
            f"the path of the spool is {len(root)} characters long, {root}",
            hint=f"{system.LONGEST_ROOT} is the most on Windows: name a shorter one with --spool",
            code="path-too-long",
        )
    network = system.network_filesystem(_nearest(root))
    if network:
        raise SpoolError(
            f"the spool {root} is on a network file system ({network})",
            hint="locks do not hold there: use a local one",
        )
    files.make_directories(root)
    from bgjobs import locks  # noqa: PLC0415 - slow to import, and a spool is set up once

    files.make_directory(os.path.dirname(paths.claim_lock))
    setting_up = locks.ClaimLock(paths.claim_lock)
    with closing(setting_up), setting_up.held(SET_UP_S):
        if not files.exists(paths.version):  # or somebody else was faster
            _fill(paths)


def _nearest(path: str) -> str:
    """Return the path, or of those above it the first that is there."""
    while not files.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _fill(paths: Layout) -> None:
    _refuse_remains(paths)
    for directory in paths.directories():
        files.make_directory(directory)
    from bgjobs.spool import lanes  # noqa: PLC0415 - a spool is set up once
    from bgjobs.spool.doctor import fitness  # noqa: PLC0415 - as above

    fitness.refuse_unfit(paths)
    lanes.publish(paths, EVER)
    _publish_version(paths)


def _refuse_remains(paths: Layout) -> None:
    if _is_in_use(paths):
        hint = "restore it, or use another --spool"
        raise SpoolError(f"the spool {paths.root} has lost its VERSION file", hint=hint)


def _is_in_use(paths: Layout) -> bool:
    return any(files.names(os.path.join(paths.root, *name.split("/"))) for name in layout.IN_USE)


def _refuse_other_use(paths: Layout) -> None:
    """Refuse a directory that holds other things: a mistyped name must not fill it with our files."""
    # Half a spool is what a crash leaves, a log what a refusal writes; `init` leaves a README, a disk has lost+found.
    ours = {name.partition("/")[0] for name in layout.DIRECTORIES} | {
        "doorbell",
        "lanes",
        "logs",
        "lost+found",
        "README.md",
    }
    others = sorted(name for name in files.names(paths.root) if name not in ours and not name.startswith("."))
    if others:
        raise SpoolError(
            f"{paths.root} is no spool, and holds other things: {others[0][:80]!a}",
            hint="name an empty or a new directory with --spool",
            code="not-empty",
        )
    above = os.path.dirname(os.path.abspath(paths.root))
    while above != os.path.dirname(above):
        if files.exists(os.path.join(above, "VERSION")) and files.exists(Layout(above).claim_lock):
            what = f"{paths.root} lies within the spool {above}"
            raise SpoolError(what, hint="name a directory outside of it with --spool", code="not-empty")
        above = os.path.dirname(above)


def _publish_version(paths: Layout) -> None:
    if not files.exists(paths.doorbell):
        files.create(paths.doorbell, b"\n", sync=False)
    about = msgspec.json.encode({"format": FORMAT, "uuid": new_id()})
    fresh = os.path.join(paths.tmp, f"VERSION.{new_id()}")
    files.create(fresh, about + b"\n", sync=True)
    # Everything must be on the disk before VERSION, because it says that the spool is complete.
    for parent in (paths.pending, paths.tmp, paths.root):
        files.sync_directory(parent)
    files.move(fresh, paths.version)
    files.sync_directory(paths.root)
