"""Hold the spool against its promises (docs/internals/spool.md, "What always holds"), at rest or while workers go on.

Jobs move while we look. What looks wrong is therefore looked at again, a few times, and only told when it stays. All
ids are held in memory, with where they were seen: some 300 bytes for each job.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from bgjobs import disk, files
from bgjobs.ids import ID_PATTERN
from bgjobs.job import State
from bgjobs.spool import lanes, layout, record
from bgjobs.spool.doctor import job_check, process_check, worker_check
from bgjobs.spool.find import Location
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.store import Finding

if TYPE_CHECKING:
    from bgjobs.spool.layout import Layout

PAUSES_S: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
IMPORT = (-1, -1, "")  # a file from incoming/ on its way in: not yet a job
ANY_ID = re.compile(rf"{ID_PATTERN}(?=\.json)", re.ASCII)

Subject = Callable[[], Iterable[Finding]]
Known = TypeVar("Known")


def check(paths: Layout, *, quick: bool = False) -> list[Finding]:
    """Return all that is to be said; `quick` does not read the files of jobs that have ended."""
    processes: Subject = partial(process_check.inspect, paths)
    subjects = chain(Survey(paths, quick=quick).subjects(), [processes])
    return _lasting(subjects, lambda _: True)


def broken(paths: Layout) -> list[Finding]:
    """Return what breaks a rule, and nothing else."""
    return _lasting(Survey(paths, quick=False).subjects(), lambda finding: bool(finding.rule))


def doubles(paths: Layout) -> list[frozenset[str]]:
    """Return the places of each job that has more than one."""
    survey = Survey(paths, quick=True)
    deque(survey.subjects(), maxlen=0)
    places: dict[Subject, frozenset[str]] = {
        partial(_two_places, job_id, where): where for job_id, where in survey.doubled()
    }
    return [places[subject] for subject, _ in _suspects(places, lambda _: True)]


def _lasting(subjects: Iterable[Subject], wanted: Callable[[Finding], bool]) -> list[Finding]:
    return [finding for _, found in _suspects(subjects, wanted) for finding in found]


def _suspects(subjects: Iterable[Subject], wanted: Callable[[Finding], bool]) -> list[tuple[Subject, list[Finding]]]:
    """Return the subjects with findings that stay when they are looked at again."""
    suspects = [(subject, found) for subject in subjects if (found := [f for f in _said(subject) if wanted(f)])]
    for pause in PAUSES_S:
        if suspects:
            time.sleep(pause)
        suspects = [(subject, still) for subject, found in suspects if (still := _still(subject, found))]
    return suspects


def _still(subject: Subject, before: list[Finding]) -> list[Finding]:
    known = {(finding.code, finding.path) for finding in before}
    return [finding for finding in _said(subject) if (finding.code, finding.path) in known]


def _said(subject: Subject) -> list[Finding]:
    """Ask one subject. What cannot be looked at is a finding as well, and holds up no other."""
    try:
        return list(subject())
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else ""
        message = f"cannot be read ({error.strerror}): see its permissions and the disk's health"
        return [Finding(code="unreadable", message=message, path=where, serious=True)]


class Survey:
    """One walk through the spool. What it meets it gives out as subjects: each can be looked at again."""

    def __init__(self, paths: Layout, *, quick: bool) -> None:
        """Know nothing yet."""
        self._paths = paths
        self._quick = quick
        self._seen: dict[str, str] = {}
        self._more: dict[str, set[str]] = {}
        self._odd: dict[str, Subject] = {}
        self._first_telling = lanes.first_telling(paths)

    def subjects(self) -> Iterator[Subject]:
        """Go through the spool, once."""
        yield partial(worker_check.ground, self._paths)
        yield from self._workers()
        yield from self._pending()
        yield from self._waiting()
        yield from self._claimed()
        for state in layout.ENDED_DIRECTORIES:
            yield from self._ended(state)
        yield from self._corrupt()
        for job_id, where in self.doubled():
            yield partial(_two_places, job_id, where)
        yield partial(worker_check.leftovers, self._paths)

    def doubled(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Go through the jobs that were met more than once, perhaps only because they moved."""
        for job_id, found in self._more.items():
            yield job_id, frozenset({self._seen[job_id], *found})

    def _workers(self) -> Iterator[Subject]:
        places = {name: path for path, name in self._inside(self._paths.workers, _worker)}
        claims = {name: path for path, name in self._inside(self._paths.claimed, _worker)}
        for wid in sorted({*places, *claims}):
            yield partial(worker_check.inspect, self._paths, wid)

    def _pending(self) -> Iterator[Subject]:
        for folder, priority in self._inside(self._paths.pending, layout.PRIORITY_OF.get):
            for bucket, _ in self._inside(folder, layout.bucket_start_ms):
                for path, (ms, job_id) in self._inside(bucket, layout.parse_pending):
                    yield self._job(Location(job_id, State.QUEUED, path, priority, ms))

    def _waiting(self) -> Iterator[Subject]:
        for folder, _ in self._inside(self._paths.waiting, layout.WORKER_NAME.fullmatch):
            for path, found in self._inside(folder, layout.ENDED_NAME.fullmatch):
                yield self._job(Location(found[1], State.WAITING, path))

    def _claimed(self) -> Iterator[Subject]:
        for folder, wid in self._inside(self._paths.claimed, _worker):
            for path, parts in self._inside(folder, _claimed_or_import):
                if parts is not IMPORT:
                    priority, ms, job_id = parts
                    yield self._job(Location(job_id, State.RUNNING, path, priority, ms, wid))

    def _ended(self, state: State) -> Iterator[Subject]:
        for folder, _ in self._inside(self._paths.ended(state), layout.HOUR_NAME.fullmatch):
            for path, found in self._inside(folder, layout.ENDED_NAME.fullmatch):
                subject = self._job(Location(found[1], state, path))
                if not self._quick:
                    yield subject

    def _corrupt(self) -> Iterator[Subject]:
        """Look for whole jobs in `corrupt/`: one that is no known duplicate is a place of its job."""
        for path, name in self._inside(self._paths.corrupt, str):
            found = None if name.endswith(".reason") else ANY_ID.search(name)
            if found and found[0] in self._seen and _is_whole(path, found[0]):
                self._more.setdefault(found[0], set()).add(path)
        yield from self._odd.values()

    def _job(self, place: Location) -> Subject:
        first = self._seen.setdefault(place.job_id, place.path)
        if first != place.path:
            self._more.setdefault(place.job_id, set()).add(place.path)
        return partial(job_check.inspect, self._paths, place, self._first_telling)

    def _inside(self, directory: str, parse: Callable[[str], Known | None]) -> Iterator[tuple[str, Known]]:
        """Go through what lies in a directory and has a name that belongs there; note what has not."""
        try:
            if files.exists(directory) and not files.is_directory(directory):
                self._odd[directory] = partial(_strange, directory)
                return
            names = files.names(directory)
        except OSError:
            self._odd[directory] = partial(_closed, directory)
            return
        for name in names:
            path = f"{directory}{os.sep}{name}"
            known = parse(name)
            if known is None:
                self._odd[path] = partial(_strange, path, can_go=self._may_go(directory))
            else:
                yield path, known

    def _may_go(self, directory: str) -> bool:
        """Tell whether workers, or the repair, put aside what does not belong into this directory."""
        return directory.startswith(self._paths.pending) or os.path.dirname(directory) == self._paths.claimed


def _worker(name: str) -> str | None:
    return name if layout.WORKER_NAME.fullmatch(name) else None


def _claimed_or_import(name: str) -> tuple[int, int, str] | None:
    return IMPORT if layout.IMPORTED_NAME.fullmatch(name) else layout.parse_claimed(name)


def _strange(path: str, *, can_go: bool = False) -> Iterator[Finding]:
    if files.exists(path):
        message = "has a name, or is of a kind, that does not belong there"
        if not can_go:
            message += ": move it elsewhere"
        yield Finding(code="strange-name", message=message, path=path, rule="I9", repairable=can_go)


def _closed(directory: str) -> list[Finding]:
    try:
        files.names(directory)
    except OSError as error:
        error.filename = directory
        raise
    return []


def _two_places(job_id: str, where: frozenset[str]) -> Iterator[Finding]:
    """Tell whether a job has several files. One that is just moving is the same file at either place."""
    inodes: dict[str, int] = {}
    linked = False
    for path in sorted(where):
        with suppress(FileNotFoundError, NotADirectoryError):
            state = disk.lstat(path)
            inodes[path] = state.st_ino
            linked = linked or state.st_nlink > 1
    if len(set(inodes.values())) > 1 or (len(inodes) > 1 and linked):
        first, *others = inodes
        message = f"job {job_id} lies here and also at {', '.join(others)}"
        yield Finding(code="two-places", message=message, path=first, rule="I1", repairable=True)


def _is_whole(path: str, job_id: str) -> bool:
    """Tell whether a file in `corrupt/` is a valid job that was not put there as the copy of another."""
    if (files.read_note(f"{path}.reason") or "").startswith("duplicate"):
        return False
    try:
        data = files.read(path, record.MOST_BYTES)
        record.decode(data, job_id=job_id, state=State.CORRUPT, priority=None, not_before_ms=None)
    except (OSError, files.StrangeFileError, CorruptError, NewerFormatError):
        return False
    return True
