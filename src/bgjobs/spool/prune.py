"""Delete old jobs that have ended, and what crashes leave behind.

An ended job is deleted in two steps. A rename moves it to `tmp/trash/`; then any process that empties the trash removes
first what the jobs there printed and then their files, which are the only list of that.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import disk, files
from bgjobs.ids import new_id
from bgjobs.job import State, milliseconds
from bgjobs.spool import layout, record, retries, safe_remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime, timedelta

    from bgjobs.spool.find import Location
    from bgjobs.spool.layout import Layout

SWEEP_AFTER_S = 24 * 3600
FROM_CORRUPT = "corrupt-"  # in the trash: no job, whatever its name was


def tidy(paths: Layout, *, keep_done: timedelta, keep_failed: timedelta, now: datetime) -> Iterator[int]:
    """Delete jobs that ended longer ago than this, by whole hours, and leftovers, in short steps.

    Each step yields how many jobs it deleted. If this is broken off, the next worker does the rest.
    """
    keeps = {State.DONE: keep_done, State.FAILED: keep_failed, State.CANCELLED: keep_failed}
    hours = [_prune_hours(paths, state, now - keep, dry_run=False) for state, keep in keeps.items()]
    leftovers = itertools.chain(_sweep(paths), _empty_trash(paths), retries.shorten(paths))
    yield from _each_in_turn(*hours, (0 for _ in leftovers))


def prune(paths: Layout, states: Collection[State], before: datetime, *, dry_run: bool) -> int:
    """Delete the jobs in these states that ended before the moment; return how many were, or would be, deleted."""
    count = 0
    for state in states:
        if state is State.CORRUPT:
            count += _prune_corrupt(paths, before, dry_run=dry_run)
        elif state in layout.ENDED_DIRECTORIES:
            count += sum(_prune_hours(paths, state, before, dry_run=dry_run))
            count += _prune_last_hour(paths, state, before, dry_run=dry_run)
    if not dry_run:
        _exhaust(_empty_trash(paths))
        _exhaust(retries.shorten(paths))
    return count


def delete(paths: Layout, location: Location) -> bool:
    """Delete one ended job; return False when it is not there any more."""
    trashed = os.path.join(paths.trash, f"{location.job_id}.json")
    if not _move_to_trash(location.path, trashed):
        return False
    _exhaust(_remove_outputs(paths, [location.job_id]))
    files.remove(trashed)
    return True


def _prune_hours(paths: Layout, state: State, before: datetime, *, dry_run: bool) -> Iterator[int]:
    """Move whole hours before the moment to the trash, each by one rename; yield how many jobs each held."""
    last, above = layout.hour(before), paths.ended(state)
    hours = [hour for hour in files.names(above) if layout.HOUR_NAME.fullmatch(hour) and hour < last]
    yield from _each_in_turn(*(_prune_hour(paths, os.path.join(above, hour), dry_run=dry_run) for hour in hours))


def _prune_hour(paths: Layout, directory: str, *, dry_run: bool) -> Iterator[int]:
    jobs = 0
    for _ in _jobs_in(files.each_name(directory)):
        jobs += 1
        yield 0
    if dry_run or _move_to_trash(directory, os.path.join(paths.trash, new_id())):
        yield jobs


def _each_in_turn(*parts: Iterator[int]) -> Iterator[int]:
    """Go through all of these, also after an unreadable one; raise the first such OSError at the end."""
    # Windows moves no directory while a file in it is open: the others must be pruned all the same.
    first_error: OSError | None = None
    for part in parts:
        try:
            yield from part
        except OSError as error:
            if error.errno not in files.UNREADABLE:
                raise
            first_error = first_error or error
    if first_error is not None:
        raise first_error


def _prune_last_hour(paths: Layout, state: State, before: datetime, *, dry_run: bool) -> int:
    """Move jobs to the trash, one by one, that ended in the hour of the moment but before it."""
    count, directory = 0, os.path.join(paths.ended(state), layout.hour(before))
    for job_id in _jobs_in(files.names(directory)):
        path = os.path.join(directory, f"{job_id}.json")
        if _ended_before(path, milliseconds(before)):
            count += dry_run or _move_to_trash(path, os.path.join(paths.trash, f"{job_id}.json"))
    return count


def _ended_before(path: str, before_ms: int) -> bool:
    """Tell whether the job ended before, by its file. Without an `end` line it is kept until its hour is over."""
    try:
        recorded = record.events(files.read(path, record.MOST_BYTES))
    except (OSError, files.StrangeFileError):
        return False
    return any(isinstance(event, record.End) and event.at < before_ms for event in recorded)


def _prune_corrupt(paths: Layout, before: datetime, *, dry_run: bool) -> int:
    """Move files in `corrupt/` that were last written before the moment to the trash, with their reasons."""
    count, before_ns = 0, milliseconds(before) * 1_000_000
    for name in files.names(paths.corrupt):
        path = os.path.join(paths.corrupt, name)
        if name.endswith(".reason") or not _changed_before(path, before_ns):
            continue
        if not dry_run:
            # The reason first: a file without one is found the next time, a reason without its file never would be.
            trashed = os.path.join(paths.trash, f"{FROM_CORRUPT}{new_id()}")
            _move_to_trash(f"{path}.reason", f"{trashed}.reason")
            if not _move_to_trash(path, trashed):
                continue
        count += 1
    return count


def _changed_before(path: str, before_ns: int) -> bool:
    try:
        return disk.lstat(path).st_mtime_ns < before_ns
    except FileNotFoundError:
        return False


def _move_to_trash(path: str, trashed: str) -> bool:
    """Move a file or a whole hour to the trash in one step; return False when somebody else was faster."""
    try:
        files.move(path, trashed)
    except FileNotFoundError:
        return False
    return True


def _empty_trash(paths: Layout) -> Iterator[None]:
    """Remove what was thrown away, also by a process that died before it could, one file at a time."""
    with safe_remove.opened(paths.root, "tmp", "trash") as trash:
        entries = list(disk.scandir(paths.trash, folder=trash))
        single = list(_jobs_in(name for name, _ in entries))
        yield from _remove_outputs(paths, single)
        for job_id in single:
            files.remove(os.path.join(paths.trash, f"{job_id}.json"), folder=trash)
            yield
        for name, is_directory in entries:
            path = os.path.join(paths.trash, name)
            if not is_directory:
                files.remove(path, folder=trash)
                yield
                continue
            if not name.startswith(FROM_CORRUPT):
                yield from _remove_outputs(paths, _jobs_in(files.each_name(path)))
            yield from _remove_tree(path, trash)


def _jobs_in(names: Iterable[str]) -> Iterator[str]:
    """Go through the ids of the ended jobs whose files have these names."""
    return (found[1] for found in map(layout.ENDED_NAME.fullmatch, names) if found)


def _remove_outputs(paths: Layout, ids: Iterable[str]) -> Iterator[None]:
    """Delete what these jobs printed. Outputs lie by the hour in which a job was submitted."""
    hours: dict[str, set[str]] = {}
    for job_id in ids:
        hours.setdefault(layout.hour_of(job_id), set()).add(job_id)
        yield
    for hour, gone in hours.items():
        directory = os.path.join(paths.outputs, hour)
        with suppress(FileNotFoundError, NotADirectoryError), safe_remove.opened(paths.root, "output", hour) as folder:
            printed = []
            for name, _ in disk.scandir(directory, folder=folder):
                if name.partition(".")[0] in gone:
                    printed.append(name)
                yield
            for name in printed:
                files.remove(os.path.join(directory, name), folder=folder)
                yield
        files.remove_directory(directory)
        yield


def sweep_tmp(paths: Layout) -> None:
    """Remove what submitters that died left half-written. A submitter that lives is done within seconds."""
    _exhaust(_sweep(paths))


def _sweep(paths: Layout) -> Iterator[None]:
    with safe_remove.opened(paths.root, "tmp") as tmp:
        for name, is_directory in list(disk.scandir(paths.tmp, folder=tmp)):
            path = os.path.join(paths.tmp, name)
            changed = files.changed_ns(path)
            if path == paths.trash or changed is None or time.time_ns() - changed < SWEEP_AFTER_S * 1_000_000_000:
                continue
            if is_directory:
                yield from _remove_tree(path, tmp)
            else:
                files.remove(path, folder=tmp)
            yield


def _remove_tree(path: str, folder: int | None) -> Iterator[None]:
    with suppress(FileNotFoundError, NotADirectoryError):  # somebody else removes it too, or puts a link in its place
        yield from safe_remove.remove_tree(path, folder=folder)


def _exhaust(steps: Iterable[None]) -> None:
    for _ in steps:
        pass
