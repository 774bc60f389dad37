"""Read jobs and what they have printed, wherever they lie: without a lock, while workers move them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, files
from bgjobs.errors import SpoolError
from bgjobs.ids import first_id, id_ms
from bgjobs.job import Job, Progress, State, milliseconds, moment
from bgjobs.plain_files import open_plain
from bgjobs.slots import Slots
from bgjobs.spool import find, layout, listing, record
from bgjobs.spool.counts import Counts
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.spool.retries import Retries
from bgjobs.store import Unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from bgjobs.spool.find import Location
    from bgjobs.spool.layout import Layout
    from bgjobs.store import Filter

TRIES = 100
PIECE = 65_536  # bytes of output in one read
MOST_REMEMBERED = 10_000  # locations of pending jobs
WAITING = {State.QUEUED, State.SCHEDULED}


class Reader:
    """Reads the jobs of one spool."""

    def __init__(self, paths: Layout) -> None:
        """Read nothing yet."""
        self._paths = paths
        self._counts = Counts(paths)
        self._retries = Retries(paths)
        self._last_waiting: dict[str, Location] = {}

    def get(self, job_id: str, check: Callable[[bytes], None] | None = None) -> Job | None:
        """Return the job, or None when there is none; `check` may raise over what its file holds."""
        for _ in range(TRIES):
            location = self._located(job_id)
            if location is None:
                return None
            job = self.read(location, check)
            if job is not None:
                return job
            reason = self._unreadable(location)
            if reason:
                raise SpoolError(
                    f"the file of job {job_id} is no valid job file: {reason}", hint=f"see {location.path}"
                )
        raise SpoolError(f"job {job_id} keeps changing state", hint="try again")

    def _located(self, job_id: str) -> Location | None:
        """Find the job, at first where it was last seen pending: whoever waits for a job asks again and again."""
        now_ms, last = clock.now_ms(), self._last_waiting.pop(job_id, None)
        location = find.still_waiting(last, now_ms) if last is not None else None
        location = location or find.locate(self._paths, job_id, now_ms)
        if location is not None and location.state in WAITING:
            if len(self._last_waiting) >= MOST_REMEMBERED:
                self._last_waiting.clear()
            self._last_waiting[job_id] = location
        return location

    def jobs(self, where: Filter, before: str | None = None) -> Iterator[Job]:
        """Go through the jobs that meet the conditions, newest first; only those older than the id `before`."""
        since = listing.OLDEST if where.since is None else first_id(max(0, milliseconds(where.since) - 1))
        seen: set[str] = set()
        for location in listing.newest_first(
            self._paths, where.states, clock.now_ms(), since, before or listing.NEWEST
        ):
            if location.job_id in seen or not _may_match(location, where):
                continue
            try:
                job = self.read(location) or self._moved(location)
            except OSError as error:
                if error.errno not in files.UNREADABLE:
                    raise
                continue  # the worker that meets it names it in the error log
            if job is not None and where.admits(job):
                seen.add(location.job_id)
                yield job

    def retried(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return which of these jobs a later job retries, each with the latest that does."""
        noted = self._retries.of(job_ids)
        later = {new for ids in noted.values() for new in ids}
        there = find.present(self._paths, later) if later else later
        return {old: max(left) for old, ids in noted.items() if (left := there.intersection(ids))}

    def ids(self, suffix: str) -> list[str]:
        """Return the ids that end so."""
        return listing.ids_ending(self._paths, suffix)

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        return self._counts.by_state(clock.now_ms())

    def oldest_queued(self) -> datetime | None:
        """Return since when the oldest job that may start now has been able to, or None."""
        buckets = self._counts.pending(clock.now_ms())
        moments = [bucket.first_ms for bucket in buckets if bucket.due and bucket.first_ms is not None]
        return moment(min(moments)) if moments else None

    def unfinished(self, now_ms: int, has_importable: Callable[[], bool] | None = None) -> Unfinished:
        """Return whether there is work. `has_importable` tells whether files wait that can be imported."""
        arriving = find.has_importable(self._paths) if has_importable is None else has_importable()
        incoming = arriving or find.is_importing(self._paths)
        return Unfinished(*find.unfinished(self._paths, now_ms), incoming=incoming)

    def _moved(self, location: Location) -> Job | None:
        return None if files.exists(location.path) else self.get(location.job_id)

    def read_output(self, job: Job, attempt: int, offset: int) -> bytes:
        """Return what an attempt has printed so far, from this byte on. Raises SpoolError."""
        path = self.output_file(job, attempt)
        if path is None:
            return b""
        try:
            descriptor, state = open_plain(os.fspath(path), "the output")
        except FileNotFoundError:
            return b""  # moved to its own name just now: the next read finds it there
        try:  # open no longer than for this: the runner may have to move it
            if state.st_nlink > 1:
                # Somebody may have linked what they may not read, for us to show it.
                raise SpoolError(f"{path} is not what a job printed", hint="it has a second name")
            os.lseek(descriptor, offset, os.SEEK_SET)
            return b"".join(iter(lambda: os.read(descriptor, PIECE), b""))
        finally:
            os.close(descriptor)

    def output_file(self, job: Job, attempt: int) -> Path | None:
        """Return the file with what an attempt has printed so far, or None when it printed nothing."""
        kept = Path(self._paths.output(layout.hour_of(job.id), job.id, attempt))
        if kept.exists():
            return kept
        location = find.locate(self._paths, job.id, clock.now_ms())
        if location is None or location.state is not State.RUNNING:
            return kept if kept.exists() else None
        return self._output_so_far(location, attempt)

    def _output_so_far(self, location: Location, attempt: int) -> Path | None:
        """Return where the runner that runs the job right now collects what it prints."""
        try:
            recorded = record.events(files.read(location.path, record.MOST_BYTES))
        except (OSError, files.StrangeFileError):
            return None
        last = next(reversed(recorded), None)
        if not isinstance(last, record.Start) or last.number != attempt or last.wid != location.holder:
            return None
        path = Path(Slots(self._paths.worker(last.wid)).output(last.slot))
        return path if path.exists() else None

    def read(self, location: Location, check: Callable[[bytes], None] | None = None) -> Job | None:
        """Read a job, or return None when it has moved or is not a valid job file."""
        try:
            job = _decoded(location, check)
        except (FileNotFoundError, files.StrangeFileError, CorruptError, NewerFormatError):
            return None
        return self._with_progress(job, location) if location.holder else job

    def _unreadable(self, location: Location) -> str:
        """Return why the file that lies there cannot be a job, or nothing if it has only moved."""
        try:
            _decoded(location)
        except FileNotFoundError:
            return ""
        except (files.StrangeFileError, CorruptError) as error:
            return str(error)
        except NewerFormatError:
            return "it was written by a newer bgjobs"
        return ""

    def _with_progress(self, job: Job, location: Location) -> Job:
        try:
            data = files.read(self._paths.worker(location.holder, f"progress-{job.id}"), 65_536)
        except (OSError, files.StrangeFileError):
            return job
        found = files.decoded(data, Progress)
        return job if found is None else msgspec.structs.replace(job, progress=found)


def _decoded(location: Location, check: Callable[[bytes], None] | None = None) -> Job:
    data = files.read(location.path, record.MOST_BYTES)
    if check is not None:
        check(data)
    return record.decode(
        data,
        job_id=location.job_id,
        state=location.state,
        priority=location.priority,
        not_before_ms=location.not_before_ms,
    )


def _may_match(location: Location, where: Filter) -> bool:
    """Leave out by name alone what need not be opened."""
    submitted = moment(id_ms(location.job_id))
    slack = 1  # ms: the id holds whole ones
    return (
        (where.priority is None or location.priority in {None, where.priority})
        and (where.since is None or milliseconds(submitted) + slack >= milliseconds(where.since))
        and (where.until is None or submitted < where.until)
    )
