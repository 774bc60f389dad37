"""Make again the directories of a spool that somebody has removed: `git clean` takes empty ones, say."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import files

if TYPE_CHECKING:
    from bgjobs.spool.layout import Layout


def restore(paths: Layout) -> list[str]:
    """Make what every spool has and this one lacks; return the paths. Where there is no spool, nothing is made."""
    if not files.exists(paths.version):
        return []  # it was moved away or unmounted, and the directory is not ours any more
    missing = [path for path in paths.directories() if not files.exists(path)]
    for path in missing:
        files.make_directory(path)
    if not files.exists(paths.doorbell):
        with suppress(FileExistsError):  # another worker was faster
            files.create(paths.doorbell, b"\n", sync=False)
        missing.append(paths.doorbell)
    return missing


def restore_for_submit(paths: Layout) -> bool:
    """Make what a submission needs and is missing; return whether anything was."""
    if not files.exists(paths.tmp) or not files.exists(paths.pending):
        return bool(restore(paths))
    missing = [number for number in range(10) if not files.exists(paths.priority(number))]
    for number in missing:
        files.make_directory(paths.priority(number))
    return bool(missing)


def restore_locks(paths: Layout) -> None:
    """Make the directory of the locks, if it is missing."""
    if not files.exists(os.path.dirname(paths.retry_lock)):
        restore(paths)
