"""List jobs: all in some states, the newest first, or those whose ids end alike. No lock, no file opened.

Pending and claimed jobs may move at any time, so their names are read first, in the order in which jobs move: one that
moves meanwhile may be named twice, and is not missed. Ended jobs stay where they are: their hours are read one after
another, so that the newest few of a million are found without reading all names.
"""

from __future__ import annotations

import os
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from bgjobs import files
from bgjobs.ids import first_id
from bgjobs.job import State
from bgjobs.spool import find, layout
from bgjobs.spool.find import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgjobs.spool.layout import Layout

OLDEST, NEWEST = "", "~"  # sort before and after all ids
SKEW_MS = layout.HOUR_MS  # clocks may differ by so much
_id_of = itemgetter(0)


class Source(NamedTuple):
    """Some jobs, none newer than the id `newest`."""

    newest: str
    locations: Callable[[], Iterable[Location]]


def newest_first(
    paths: Layout, states: frozenset[State], now_ms: int, since: str = OLDEST, before: str = NEWEST
) -> Iterator[Location]:
    """Go through the jobs in these states, the newest first, whose ids are `since` or later, and earlier than `before`.

    One that moves meanwhile may be named twice. Where clocks differ by hours, an ended job may come too late.
    """
    sources: list[Source] = []
    if states & {State.QUEUED, State.SCHEDULED}:
        sources += _pending(paths, states, now_ms, since, before)
    if State.RUNNING in states:
        sources.append(_known([location for location in find.claimed(paths) if since <= location.job_id < before]))
    for state in layout.ENDED_DIRECTORIES:
        if state in states:
            sources += _ended(paths, state, since, before)
    sources.sort(key=_id_of)
    ready: list[Location] = []  # the newest last
    while sources or ready:
        while sources and not (ready and ready[-1].job_id > sources[-1].newest):
            ready += sources.pop().locations()
            ready.sort(key=_id_of)
        if ready:
            yield ready.pop()


def ids_ending(paths: Layout, suffix: str) -> list[str]:
    """Return the ids that end so, in all states."""
    ending = f"{suffix}.json"
    found = set()
    for directory, parse in _directories(paths):
        for name in files.readable_names(directory):
            if name.endswith(ending):
                found.add(parse(name))
    return sorted(job_id for job_id in found if job_id is not None)


def _known(locations: list[Location]) -> Source:
    return Source(max(map(_id_of, locations), default=OLDEST), lambda: locations)


def _pending(paths: Layout, states: frozenset[State], now_ms: int, since: str, before: str) -> Iterator[Source]:
    for priority in range(9, -1, -1):
        for bucket in files.readable_names(paths.priority(priority)):
            directory = paths.bucket(priority, bucket)
            listed = files.readable_names(directory)
            names = [name for name in listed if since <= name[find.ID_BEGINS : find.ID_ENDS] < before]
            if names:
                newest = max(name[find.ID_BEGINS : find.ID_ENDS] for name in names)
                # As one text they take half as much memory: there may be millions.
                yield Source(newest, partial(_waiting, priority, directory, "/".join(names), states, now_ms))


def _waiting(priority: int, directory: str, names: str, states: frozenset[State], now_ms: int) -> Iterator[Location]:
    locations = (find.pending_location(priority, directory, name, now_ms) for name in names.split("/"))
    return (location for location in locations if location is not None and location.state in states)


def _ended(paths: Layout, state: State, since: str, before: str) -> Iterator[Source]:
    above = paths.ended(state)
    for hour in files.readable_names(above):
        directory = os.path.join(above, hour)
        start_ms = layout.hour_start_ms(hour)
        if start_ms is None:
            yield _known(list(_in_hour(state, directory, since, before)))
        else:
            newest = first_id(start_ms + layout.HOUR_MS + SKEW_MS)
            yield Source(newest, partial(_in_hour, state, directory, since, before))


def _in_hour(state: State, directory: str, since: str, before: str) -> Iterator[Location]:
    for name in files.readable_names(directory):
        if name >= since:
            found = layout.ENDED_NAME.fullmatch(name)
            if found and found[1] < before:
                yield Location(found[1], state, os.path.join(directory, name))


def _directories(paths: Layout) -> Iterator[tuple[str, Callable[[str], str | None]]]:
    """Go through all directories that jobs lie in, as a job moves, each with how to find the id in a name there."""
    for priority in range(10):
        for bucket in files.readable_names(paths.priority(priority)):
            yield paths.bucket(priority, bucket), _pending_id
    for holder in files.readable_names(paths.claimed):
        yield paths.claims_of(holder), _claimed_id
    for state in layout.ENDED_DIRECTORIES:
        for hour in files.readable_names(paths.ended(state)):
            yield os.path.join(paths.ended(state), hour), _ended_id


def _pending_id(name: str) -> str | None:
    parts = layout.parse_pending(name)
    return parts.job_id if parts else None


def _claimed_id(name: str) -> str | None:
    parts = layout.parse_claimed(name)
    return parts[2] if parts else None


def _ended_id(name: str) -> str | None:
    found = layout.ENDED_NAME.fullmatch(name)
    return found[1] if found else None
