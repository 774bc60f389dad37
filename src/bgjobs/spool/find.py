"""Find jobs by id, and tell what is left to do, without a lock, while workers move jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bgjobs import files
from bgjobs.ids import id_ms
from bgjobs.job import State, moment
from bgjobs.spool import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from bgjobs.spool.layout import Layout

PASSES = 4
FEW_HOURS = 48  # testing each of them costs less than listing all hours
ID_BEGINS, ID_ENDS = 14, 40  # in the name of a pending file
ID_IN_NAME = slice(
    -len("01m83kpc7v0008thkc81jqha0v.json"), -len(".json")
)  # in the name of a job's file, wherever it lies
FEW_IDS = 100  # testing each of them costs less than listing a directory


class Location(NamedTuple):
    """Where a job's file lies, and all that its path says. `holder` is the id of the worker that claimed it."""

    job_id: str
    state: State
    path: str
    priority: int | None = None
    not_before_ms: int | None = None
    holder: str = ""


class Access(NamedTuple):
    """How to list directories, and look for files, where one of them may be unreadable."""

    names: Callable[[str], list[str]]
    exists: Callable[[str], bool]


def _exists(path: str) -> bool:
    try:
        return files.exists(path)
    except OSError as error:
        if error.errno in files.UNREADABLE:
            return False
        raise


_names = files.readable_names
TOLERANT = Access(_names, _exists)
STRICT = Access(files.names, files.exists)


def still_waiting(location: Location, now_ms: int) -> Location | None:
    """Return the location of a job that was pending, if it is pending there still."""
    if location.priority is None or not _exists(location.path):
        return None
    directory, name = os.path.split(location.path)
    return pending_location(location.priority, directory, name, now_ms)


def locate(paths: Layout, job_id: str, now_ms: int) -> Location | None:
    """Return where the job is, or None when there is none.

    A job only moves forwards (pending, claimed, ended), but for a retry or a hand-back, which move it from claimed to
    pending, and for `run-now`, which moves it within pending. Looking in the order of the forward moves and, if it was
    nowhere, again, finds it.
    """
    # The last pass is strict: never report "no such job" while a directory was unreadable.
    for access in (*[TOLERANT] * (PASSES - 1), STRICT):
        location = _located(paths, job_id, now_ms, access)
        if location is not None:
            return location
    return None


def _located(paths: Layout, job_id: str, now_ms: int, access: Access) -> Location | None:
    return (
        _submitted(paths, job_id, access)
        or _claimed(paths, job_id, access)
        or _ended(paths, job_id, access)
        or _delayed(paths, job_id, now_ms, access)
    )


def missing(paths: Layout, job_ids: Iterable[str], now_ms: int) -> set[str]:
    """Return those of the ids that no job has: as reliable as `locate`, listing each directory once for all ids."""
    left = set(job_ids)
    for _ in range(PASSES):
        left = {job_id for job_id in left if not (_submitted(paths, job_id, STRICT) or _claimed(paths, job_id, STRICT))}
        left = {job_id for job_id in left if not _ended(paths, job_id, STRICT)}
        for priority, bucket in _buckets(paths, STRICT) if left else ():
            directory = paths.bucket(priority, bucket)
            there = [name for name in files.names(directory) if name[ID_BEGINS:ID_ENDS] in left]
            left -= {
                location.job_id for name in there if (location := pending_location(priority, directory, name, now_ms))
            }
    return left


def present(paths: Layout, job_ids: Collection[str]) -> set[str]:
    """Return those of the ids that a job has, while jobs may move. It lists each directory at most twice for all ids.

    All of them where a directory cannot be read: they may be there.
    """
    left = set(job_ids)
    try:
        for _ in range(2):  # a job may run and end while we look elsewhere
            for search in (_just_submitted, _all_claimed, _all_ended, _all_pending):
                left -= search(paths, left) if left else left
    except OSError as error:
        if error.errno not in files.UNREADABLE:
            raise
        return set(job_ids)
    return set(job_ids) - left


def _just_submitted(paths: Layout, ids: set[str]) -> set[str]:
    """Look where jobs without delay lie right after they were submitted, without listing those buckets."""
    if len(ids) > FEW_IDS:
        return set()  # then all pending jobs are listed
    buckets = [
        (paths.bucket(number, name), name) for number in range(10) for name in files.names(paths.priority(number))
    ]
    return {job_id for job_id in ids if _is_in_its_bucket(job_id, buckets)}


def _is_in_its_bucket(job_id: str, buckets: list[tuple[str, str]]) -> bool:
    ms = id_ms(job_id)
    prefix, name = layout.bucket(ms, at_once=True), layout.pending_name(ms, job_id)
    return any(bucket.startswith(prefix) and files.exists(os.path.join(path, name)) for path, bucket in buckets)


def _all_claimed(paths: Layout, ids: set[str]) -> set[str]:
    return {
        name[ID_IN_NAME]
        for holder in files.names(paths.claimed)
        for name in files.names(paths.claims_of(holder))
        if name[ID_IN_NAME] in ids
    }


def _all_pending(paths: Layout, ids: set[str]) -> set[str]:
    buckets = [paths.bucket(number, bucket) for number, bucket in _buckets(paths, STRICT)]
    return {name[ID_IN_NAME] for path in buckets for name in files.names(path) if name[ID_IN_NAME] in ids}


def _all_ended(paths: Layout, ids: set[str]) -> set[str]:
    # A job cannot have ended before it was submitted, but for clocks that differ by an hour.
    first = layout.hour_at(max(0, id_ms(min(ids)) - layout.HOUR_MS))
    found: set[str] = set()
    for state in layout.ENDED_DIRECTORIES:
        for hour in files.names(paths.ended(state)):
            if hour < first:
                continue
            if len(ids) <= FEW_IDS:
                found |= {job_id for job_id in ids if files.exists(paths.ended_path(state, hour, job_id))}
            else:
                names = files.names(paths.ended_hour(state, hour))
                found |= {name[ID_IN_NAME] for name in names if name[ID_IN_NAME] in ids}
    return found


def _submitted(paths: Layout, job_id: str, access: Access) -> Location | None:
    """Look where a job without delay lies right after it was submitted: its id tells the name."""
    ms = id_ms(job_id)
    prefix, name = layout.bucket(ms, at_once=True), layout.pending_name(ms, job_id)
    for priority in range(9, -1, -1):
        for bucket in access.names(paths.priority(priority)):
            if bucket.startswith(prefix):
                path = os.path.join(paths.bucket(priority, bucket), name)
                if access.exists(path):
                    return Location(job_id, State.QUEUED, path, priority, ms)
    return None


def _claimed(paths: Layout, job_id: str, access: Access) -> Location | None:
    ending = f"-{job_id}.json"
    for holder in access.names(paths.claimed):
        for name in access.names(paths.claims_of(holder)):
            if name.endswith(ending):
                return _claimed_location(paths, holder, name)
    return None


def _claimed_location(paths: Layout, holder: str, name: str) -> Location | None:
    parts = layout.parse_claimed(name)
    if parts is None:
        return None
    priority, not_before_ms, job_id = parts
    path = os.path.join(paths.claims_of(holder), name)
    return Location(job_id, State.RUNNING, path, priority, not_before_ms, holder)


def elsewhere(paths: Layout, job_id: str, now_ms: int, path: str = "") -> Location | None:
    """Return a claimed or ended job of this id that lies elsewhere than at the path, or None. Raises OSError.

    Directories are read in the order in which a job moves, so that none is missed. A worker whose claims cannot be
    read is passed over; hours that cannot be read are an error, because a job that ended must not run again.
    """
    ending = f"-{job_id}.json"
    for holder in files.names(paths.claimed):
        for name in _names(paths.claims_of(holder)):
            location = _claimed_location(paths, holder, name) if name.endswith(ending) else None
            if location is not None and location.path != path:
                return location
    return _ended(paths, job_id, STRICT, _hours_since(job_id, now_ms))


def _hours_since(job_id: str, now_ms: int) -> list[str] | None:
    """Return the hours in which a job can have ended, which is not before its id was made; None if they are many.

    Clocks may differ by an hour.
    """
    first, last = id_ms(job_id) // layout.HOUR_MS - 1, now_ms // layout.HOUR_MS + 1
    if not 0 < last - first <= FEW_HOURS:
        return None
    return [layout.hour(moment(number * layout.HOUR_MS)) for number in range(first, last + 1)]


def _ended(paths: Layout, job_id: str, access: Access, hours: list[str] | None = None) -> Location | None:
    for state in layout.ENDED_DIRECTORIES:
        for hour in access.names(paths.ended(state)) if hours is None else hours:
            path = paths.ended_path(state, hour, job_id)
            if access.exists(path):
                return Location(job_id, state, path)
    return None


def pending_location(priority: int, directory: str, name: str, now_ms: int) -> Location | None:
    """Return the location of a job in a bucket, or None for a name that is no job's."""
    parts = layout.parse_pending(name)
    if parts is None:
        return None
    due = os.path.basename(directory).startswith("now-") or parts.not_before_ms <= now_ms
    state = State.QUEUED if due else State.SCHEDULED
    return Location(parts.job_id, state, os.path.join(directory, name), priority, parts.not_before_ms)


def _buckets(paths: Layout, access: Access) -> list[tuple[int, str]]:
    """Return all buckets with their priorities, those of delayed jobs first.

    In the order in which a job moves among them: `run-now` moves a delayed job.
    """
    found = [(priority, bucket) for priority in range(9, -1, -1) for bucket in access.names(paths.priority(priority))]
    return sorted(found, key=lambda bucket: bucket[1].startswith("now-"))


def _delayed(paths: Layout, job_id: str, now_ms: int, access: Access) -> Location | None:
    """Look through all pending jobs."""
    ending = f"-{job_id}.json"
    for priority, bucket in _buckets(paths, access):
        directory = paths.bucket(priority, bucket)
        for name in access.names(directory):
            if name.endswith(ending):
                location = pending_location(priority, directory, name, now_ms)
                if location is not None:
                    return location
    return None


def claimed(paths: Layout) -> Iterator[Location]:
    """Go through all claimed jobs."""
    for holder in _names(paths.claimed):
        for name in _names(paths.claims_of(holder)):
            location = _claimed_location(paths, holder, name)
            if location is not None:
                yield location


def pending_ids(paths: Layout, now_ms: int) -> Iterator[tuple[str, bool]]:
    """Go through the ids of the pending jobs, and whether each may start now: fast, without checking names."""
    for priority in range(10):
        for bucket in _names(paths.priority(priority)):
            at_once = bucket.startswith("now-")
            for name in _names(paths.bucket(priority, bucket)):
                yield name[ID_BEGINS:ID_ENDS], at_once or name[:ID_BEGINS] <= f"{now_ms:013d}-"


def _due(bucket: str, names: list[str], now_ms: int) -> int:
    start_ms = layout.bucket_start_ms(bucket)
    if start_ms is None or start_ms > now_ms:
        return 0
    if start_ms + layout.MINUTE_MS <= now_ms:
        return len(names)
    return sum(int(name[:13]) <= now_ms for name in names if layout.PENDING_NAME.fullmatch(name))


def has_importable(paths: Layout) -> bool:
    """Tell whether files of other programs wait. Ask this before `is_importing`: the files move that way."""
    return any(layout.is_incoming(name) for name in files.names(paths.incoming))


def is_importing(paths: Layout) -> bool:
    """Tell whether a worker is importing such files. Ask this before `unfinished`, for the same reason."""
    return any(
        layout.parse_imported(name)
        for holder in files.names(paths.claimed)
        for name in files.names(paths.claims_of(holder))
    )


def unfinished(paths: Layout, now_ms: int) -> tuple[bool, bool, bool]:
    """Tell whether jobs may start now, will start later, and are claimed; stop looking as soon as that is known."""
    due, later = _in_pending(paths, now_ms)
    is_claimed = any(
        layout.CLAIMED_NAME.fullmatch(name)
        for holder in _names(paths.claimed)
        for name in _names(paths.claims_of(holder))
    )
    if not (due or later or is_claimed):
        # A job may have gone back from claimed to pending meanwhile.
        due, later = _in_pending(paths, now_ms)
    waiting = any(_names(os.path.join(paths.waiting, parent)) for parent in _names(paths.waiting))
    return due, later or waiting, is_claimed


def _in_pending(paths: Layout, now_ms: int) -> tuple[bool, bool]:
    due = later = False
    for priority in range(10):
        for bucket in _names(paths.priority(priority)):
            if (due and later) or not layout.BUCKET_NAME.fullmatch(bucket):
                continue
            names = [name for name in _names(paths.bucket(priority, bucket)) if layout.PENDING_NAME.fullmatch(name)]
            ready = len(names) if bucket.startswith("now-") else _due(bucket, names, now_ms)
            due, later = due or ready > 0, later or len(names) > ready
    return due, later
