"""Check the spool against its rules (docs/internals/spool.md, "What always holds"), while workers may go on.

Jobs move meanwhile. A check that fails is therefore repeated a few times, and reported only if it fails each time. All
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

Check = Callable[[], Iterable[Finding]]
Known = TypeVar("Known")


def check(paths: Layout, *, quick: bool = False) -> list[Finding]:
    """Return all findings; `quick` does not read the files of jobs that have ended."""
    processes: Check = partial(process_check.inspect, paths)
    checks = chain(Survey(paths, quick=quick).checks(), [processes])
    return _lasting(checks, lambda _: True)


def broken(paths: Layout) -> list[Finding]:
    """Return only the findings that break a rule."""
    return _lasting(Survey(paths, quick=False).checks(), lambda finding: bool(finding.rule))


def duplicates(paths: Layout) -> list[frozenset[str]]:
    """Return the paths of each job that has more than one."""
    survey = Survey(paths, quick=True)
    deque(survey.checks(), maxlen=0)
    paths_of: dict[Check, frozenset[str]] = {
        partial(_two_places, job_id, where): where for job_id, where in survey.duplicated()
    }
    return [paths_of[one] for one, _ in _failing(paths_of, lambda _: True)]


def _lasting(checks: Iterable[Check], wanted: Callable[[Finding], bool]) -> list[Finding]:
    return [finding for _, found in _failing(checks, wanted) for finding in found]


def _failing(checks: Iterable[Check], wanted: Callable[[Finding], bool]) -> list[tuple[Check, list[Finding]]]:
    """Return the checks that fail each time that they are repeated, with their findings."""
    failing = [(one, found) for one in checks if (found := [f for f in _run(one) if wanted(f)])]
    for pause in PAUSES_S:
        if failing:
            time.sleep(pause)
        failing = [(one, still) for one, found in failing if (still := _still(one, found))]
    return failing


def _still(one: Check, before: list[Finding]) -> list[Finding]:
    known = {(finding.code, finding.path) for finding in before}
    return [finding for finding in _run(one) if (finding.code, finding.path) in known]


def _run(one: Check) -> list[Finding]:
    """Run one check. If it cannot read something, that is a finding as well."""
    try:
        return list(one())
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else ""
        message = f"cannot be read ({error.strerror}): see its permissions and the disk's health"
        return [Finding(code="unreadable", message=message, path=where, serious=True)]


class Survey:
    """One walk through the spool, which yields a check for each thing that it meets. A check can be repeated."""

    def __init__(self, paths: Layout, *, quick: bool) -> None:
        """See nothing yet."""
        self._paths = paths
        self._quick = quick
        self._seen: dict[str, str] = {}
        self._duplicates: dict[str, set[str]] = {}
        self._unexpected: dict[str, Check] = {}
        self._first_with_lane = lanes.first_with_lane(paths)

    def checks(self) -> Iterator[Check]:
        """Go through the spool once."""
        yield partial(worker_check.directories, self._paths)
        yield from self._workers()
        yield from self._pending()
        yield from self._waiting()
        yield from self._claimed()
        for state in layout.ENDED_DIRECTORIES:
            yield from self._ended(state)
        yield from self._corrupt()
        for job_id, where in self.duplicated():
            yield partial(_two_places, job_id, where)
        yield partial(worker_check.leftovers, self._paths)

    def duplicated(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Go through the jobs that were seen more than once, perhaps only because they moved."""
        for job_id, found in self._duplicates.items():
            yield job_id, frozenset({self._seen[job_id], *found})

    def _workers(self) -> Iterator[Check]:
        own = {name for _, name in self._inside(self._paths.workers, _worker)}
        claims = {name for _, name in self._inside(self._paths.claimed, _worker)}
        for wid in sorted(own | claims):
            yield partial(worker_check.inspect, self._paths, wid)

    def _pending(self) -> Iterator[Check]:
        for folder, priority in self._inside(self._paths.pending, layout.PRIORITY_OF.get):
            for bucket, _ in self._inside(folder, layout.bucket_start_ms):
                for path, (ms, job_id) in self._inside(bucket, layout.parse_pending):
                    yield self._job(Location(job_id, State.QUEUED, path, priority, ms))

    def _waiting(self) -> Iterator[Check]:
        for folder, _ in self._inside(self._paths.waiting, layout.WORKER_NAME.fullmatch):
            for path, found in self._inside(folder, layout.ENDED_NAME.fullmatch):
                yield self._job(Location(found[1], State.WAITING, path))

    def _claimed(self) -> Iterator[Check]:
        for folder, wid in self._inside(self._paths.claimed, _worker):
            for path, parts in self._inside(folder, _claimed_or_import):
                if parts is not IMPORT:
                    priority, ms, job_id = parts
                    yield self._job(Location(job_id, State.RUNNING, path, priority, ms, wid))

    def _ended(self, state: State) -> Iterator[Check]:
        for folder, _ in self._inside(self._paths.ended(state), layout.HOUR_NAME.fullmatch):
            for path, found in self._inside(folder, layout.ENDED_NAME.fullmatch):
                one = self._job(Location(found[1], state, path))
                if not self._quick:
                    yield one

    def _corrupt(self) -> Iterator[Check]:
        """Look for valid jobs in `corrupt/`: one that is no known duplicate counts as a file of its job."""
        for path, name in self._inside(self._paths.corrupt, str):
            found = None if name.endswith(".reason") else ANY_ID.search(name)
            if found and found[0] in self._seen and _is_whole(path, found[0]):
                self._duplicates.setdefault(found[0], set()).add(path)
        yield from self._unexpected.values()

    def _job(self, location: Location) -> Check:
        first = self._seen.setdefault(location.job_id, location.path)
        if first != location.path:
            self._duplicates.setdefault(location.job_id, set()).add(location.path)
        return partial(job_check.inspect, self._paths, location, self._first_with_lane)

    def _inside(self, directory: str, parse: Callable[[str], Known | None]) -> Iterator[tuple[str, Known]]:
        """Go through the names in a directory that belong there; note those that do not."""
        try:
            if files.exists(directory) and not files.is_directory(directory):
                self._unexpected[directory] = partial(_strange, directory)
                return
            names = files.names(directory)
        except OSError:
            self._unexpected[directory] = partial(_unreadable, directory)
            return
        for name in names:
            path = f"{directory}{os.sep}{name}"
            known = parse(name)
            if known is None:
                self._unexpected[path] = partial(_strange, path, can_be_moved=self._can_be_moved(directory))
            else:
                yield path, known

    def _can_be_moved(self, directory: str) -> bool:
        """Tell whether workers, or the repair, move away what does not belong into this directory."""
        return directory.startswith(self._paths.pending) or os.path.dirname(directory) == self._paths.claimed


def _worker(name: str) -> str | None:
    return name if layout.WORKER_NAME.fullmatch(name) else None


def _claimed_or_import(name: str) -> tuple[int, int, str] | None:
    return IMPORT if layout.IMPORTED_NAME.fullmatch(name) else layout.parse_claimed(name)


def _strange(path: str, *, can_be_moved: bool = False) -> Iterator[Finding]:
    if files.exists(path):
        message = "has a name, or is of a kind, that does not belong there"
        if not can_be_moved:
            message += ": move it elsewhere"
        yield Finding(code="strange-name", message=message, path=path, rule="I9", repairable=can_be_moved)


def _unreadable(directory: str) -> list[Finding]:
    try:
        files.names(directory)
    except OSError as error:
        error.filename = directory
        raise
    return []


def _two_places(job_id: str, where: frozenset[str]) -> Iterator[Finding]:
    """Tell whether a job has several files. While a job is moved, it is the same file in both directories."""
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
