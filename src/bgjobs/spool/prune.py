"""Delete what nobody needs any more: ended jobs, and leftovers of crashes.

An ended job goes in two steps: a rename to `tmp/trash/` takes it out of sight, then whoever comes by removes what
lies there, first what the jobs printed and then their files, which are the only list of that.
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

    Each step gives how many jobs went by it. To break off is to leave the rest to the next one.
    """
    keeps = {State.DONE: keep_done, State.FAILED: keep_failed, State.CANCELLED: keep_failed}
    hours = [_prune_hours(paths, state, now - keep, dry_run=False) for state, keep in keeps.items()]
    leftovers = itertools.chain(_sweep(paths), _empty_trash(paths), retries.shorten(paths))
    yield from _each(*hours, (0 for _ in leftovers))


def prune(paths: Layout, states: Collection[State], before: datetime, *, dry_run: bool) -> int:
    """Delete the jobs in these states that ended before the moment; return how many went, or would go."""
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


def delete(paths: Layout, place: Location) -> bool:
    """Delete one ended job; return False when it is not there any more."""
    fallen = os.path.join(paths.trash, f"{place.job_id}.json")
    if not _throw_away(place.path, fallen):
        return False
    _exhaust(_remove_outputs(paths, [place.job_id]))
    files.remove(fallen)
    return True


def _prune_hours(paths: Layout, state: State, before: datetime, *, dry_run: bool) -> Iterator[int]:
    """Throw away the hours that lie before the moment as a whole, each by one rename; give how many jobs each had."""
    last, above = layout.hour(before), paths.ended(state)
    hours = [hour for hour in files.names(above) if layout.HOUR_NAME.fullmatch(hour) and hour < last]
    yield from _each(*(_prune_hour(paths, os.path.join(above, hour), dry_run=dry_run) for hour in hours))


def _prune_hour(paths: Layout, directory: str, *, dry_run: bool) -> Iterator[int]:
    jobs = 0
    for _ in _jobs_in(files.each_name(directory)):
        jobs += 1
        yield 0
    if dry_run or _throw_away(directory, os.path.join(paths.trash, new_id())):
        yield jobs


def _each(*parts: Iterator[int]) -> Iterator[int]:
    """Go through all of these, past what cannot be had; raise OSError for the first of that at the end."""
    # Windows moves no directory while somebody has a file in it open: that must not keep all others from being pruned.
    trouble: OSError | None = None
    for part in parts:
        try:
            yield from part
        except OSError as error:
            if error.errno not in files.UNREADABLE:
                raise
            trouble = trouble or error
    if trouble is not None:
        raise trouble


def _prune_last_hour(paths: Layout, state: State, before: datetime, *, dry_run: bool) -> int:
    """Throw away those jobs, one by one, that ended in the hour of the moment but before it."""
    count, directory = 0, os.path.join(paths.ended(state), layout.hour(before))
    for job_id in _jobs_in(files.names(directory)):
        path = os.path.join(directory, f"{job_id}.json")
        if _ended_before(path, milliseconds(before)):
            count += dry_run or _throw_away(path, os.path.join(paths.trash, f"{job_id}.json"))
    return count


def _ended_before(path: str, before_ms: int) -> bool:
    """Tell whether the file says so. One that does not say when the job ended is kept until its hour is over."""
    try:
        recorded = record.events(files.read(path, record.MOST_BYTES))
    except (OSError, files.StrangeFileError):
        return False
    return any(isinstance(event, record.End) and event.at < before_ms for event in recorded)


def _prune_corrupt(paths: Layout, before: datetime, *, dry_run: bool) -> int:
    """Throw away what is no job file and was last written before the moment, with the reasons beside it."""
    count, before_ns = 0, milliseconds(before) * 1_000_000
    for name in files.names(paths.corrupt):
        path = os.path.join(paths.corrupt, name)
        if name.endswith(".reason") or not _changed_before(path, before_ns):
            continue
        if not dry_run:
            # The reason first: a file without one is found the next time, a reason without its file never would be.
            fallen = os.path.join(paths.trash, f"{FROM_CORRUPT}{new_id()}")
            _throw_away(f"{path}.reason", f"{fallen}.reason")
            if not _throw_away(path, fallen):
                continue
        count += 1
    return count


def _changed_before(path: str, before_ns: int) -> bool:
    try:
        return disk.lstat(path).st_mtime_ns < before_ns
    except FileNotFoundError:
        return False


def _throw_away(path: str, fallen: str) -> bool:
    """Take a file or a whole hour out of sight in one step; return False when somebody else was faster."""
    try:
        files.move(path, fallen)
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
