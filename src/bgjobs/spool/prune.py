"""Delete what nobody needs any more: ended jobs past their keep, and leftovers of crashes."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bgjobs.ids import id_ms, new_id
from bgjobs.job import State, moment
from bgjobs.spool import files, layout

if TYPE_CHECKING:
    from bgjobs.spool.layout import Layout

SWEEP_AFTER_S = 24 * 3600


def tidy(paths: Layout, *, keep_done: timedelta, keep_failed: timedelta, now: datetime) -> int:
    """Delete jobs that ended longer ago than this, by whole hours; return how many."""
    keeps = {State.DONE: keep_done, State.FAILED: keep_failed, State.CANCELLED: keep_failed}
    for state, keep in keeps.items():
        # One hour more: an hour's directory holds jobs that ended until its end.
        last = layout.hour(now - keep - timedelta(hours=1))
        for hour in files.names(paths.ended(state)):
            if layout.HOUR_NAME.fullmatch(hour) and hour < last:
                _throw_away(paths, os.path.join(paths.ended(state), hour))
    sweep_tmp(paths)
    return _empty_trash(paths)


def _throw_away(paths: Layout, directory: str) -> None:
    """Take a whole hour out of sight in one step; its files are deleted afterwards, by whoever comes by."""
    try:
        files.move(directory, os.path.join(paths.trash, new_id()))
    except FileNotFoundError:
        return  # another worker was faster


def _empty_trash(paths: Layout) -> int:
    count = 0
    for name in files.names(paths.trash):
        directory = os.path.join(paths.trash, name)
        found = [layout.ENDED_NAME.fullmatch(file) for file in files.names(directory)]
        ids = [match[1] for match in found if match]
        # What they printed first: the files here are the only list of what there is to remove.
        _remove_outputs(paths, ids)
        try:
            for _ in files.remove_tree(directory):
                pass
        except FileNotFoundError:
            continue  # another worker empties it too
        count += len(ids)
    return count


def _remove_outputs(paths: Layout, ids: list[str]) -> None:
    """Delete what these jobs printed. Outputs lie by the hour in which a job was submitted."""
    hours: dict[str, set[str]] = {}
    for job_id in ids:
        hours.setdefault(layout.hour(moment(id_ms(job_id))), set()).add(job_id)
    for hour, gone in hours.items():
        directory = os.path.join(paths.outputs, hour)
        for name in files.names(directory):
            if name.partition(".")[0] in gone:
                files.remove(os.path.join(directory, name))
        files.remove_directory(directory)


def sweep_tmp(paths: Layout) -> None:
    """Remove what submitters that died left half-written. A submitter that lives is done within seconds."""
    for name in files.names(paths.tmp):
        path = os.path.join(paths.tmp, name)
        changed = files.changed_ns(path)
        if path == paths.trash or changed is None or time.time_ns() - changed < SWEEP_AFTER_S * 1_000_000_000:
            continue
        if files.is_directory(path):
            for _ in files.remove_tree(path):
                pass
        else:
            files.remove(path)
