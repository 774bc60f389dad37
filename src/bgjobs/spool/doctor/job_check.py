"""Check one job file: its content, its events, and whether they fit the directory in which it lies."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from bgjobs import disk, files, locks, system
from bgjobs.ids import LANE, lane_of
from bgjobs.job import State
from bgjobs.slots import Slots
from bgjobs.spool import record
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from bgjobs.store import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.job import Job
    from bgjobs.spool.find import Location
    from bgjobs.spool.layout import Layout


def contradictions(lines: list[bytes]) -> list[str]:
    """Return what cannot have happened, in words, given the lines after the first.

    A line that is torn or full of zeros counts as not written, and what depends on it is accepted. So is an attempt
    without an ending when the next one is of another worker: a power cut takes an unsynced line, but not the rename
    after it.
    """
    history = _History()
    for number, line in enumerate(lines, start=2):
        if line:
            history.add(number, next(iter(record.events_of([line])), None))
    return history.contradictions


class _History:
    """The events so far, and which of them contradict earlier ones."""

    def __init__(self) -> None:
        self.contradictions: list[str] = []
        self._attempts = 0
        self._running = ""  # the worker of the attempt that has no ending yet
        self._has_ended = False
        self._torn = False

    def add(self, number: int, event: record.AnyEvent | None) -> None:
        """Add the event of one line; None stands for a torn line."""
        if event is None:
            self._torn = True
            return
        if self._has_ended:
            self._report(number, "an event after the end")
        match event:
            case record.Start():
                self._add_start(number, event)
            case record.Try() | record.Back():
                if self._running != event.wid and not self._torn:
                    self._report(number, "the ending of an attempt that had not begun")
                self._running = ""
            case record.Lost():
                # It may come without a start: after a power cut an attempt counts as begun, as its line may be lost.
                self._running = ""
            case record.End():
                if event.state is State.DONE and not self._running and not self._torn:
                    self._report(number, "success without an attempt")
                self._running, self._has_ended = "", True

    def _add_start(self, number: int, start: record.Start) -> None:
        expected = self._attempts + 1
        if start.number != expected and not (self._torn and start.number > expected):
            self._report(number, f"attempt {start.number} begins where {expected} should")
        if self._running == start.wid and start.wid and not self._torn:
            self._report(number, "a second attempt of the same worker begins before the first has ended")
        self._attempts, self._running = start.number, start.wid

    def _report(self, number: int, what: str) -> None:
        self.contradictions.append(f"line {number}: {what}")


def inspect(paths: Layout, location: Location, first_with_lane: str) -> Iterator[Finding]:
    """Return what is wrong with the job file at this location; nothing if it has moved on. Raises OSError.

    Ids from `first_with_lane` on should have the lane of the job's class and method.
    """
    try:
        data = files.read(location.path, record.MOST_BYTES)
        job = record.decode(
            data,
            job_id=location.job_id,
            state=location.state,
            priority=location.priority,
            not_before_ms=location.not_before_ms,
        )
    except FileNotFoundError:
        return
    except OSError as error:
        error.filename = location.path  # a read does not say of what
        raise
    except files.StrangeFileError as error:
        yield from _strange(location, str(error))
    except CorruptError as error:
        yield _not_a_job(location, str(error))
    except NewerFormatError:
        yield Finding(
            code="newer-format", message="was written by a newer bgjobs: run a newer worker", path=location.path
        )
    else:
        if location.job_id >= first_with_lane and location.job_id[LANE] != lane_of(job.class_name, job.method):
            yield _wrong_lane(location, job)
        yield from _check_events(paths, location, data)


def _wrong_lane(location: Location, job: Job) -> Finding:
    message = f"has an id that does not tell that it is of {job.name}: was it made by an older bgjobs, or by hand?"
    return Finding(code="wrong-lane", message=message, path=location.path)


def _strange(location: Location, reason: str) -> Iterator[Finding]:
    state = disk.lstat(location.path) if files.exists(location.path) else None
    if state is not None and stat.S_ISREG(state.st_mode) and state.st_nlink > 1:
        message = f"has {state.st_nlink} names (hard links): one job, one name; remove the others"
        yield Finding(
            code="two-names", message=message, path=location.path, rule="I4", repairable=_can_be_moved(location)
        )
    elif state is not None:
        yield _not_a_job(location, reason)


def _not_a_job(location: Location, reason: str) -> Finding:
    message = f"is no valid job file: {reason}"
    return Finding(code="not-a-job", message=message, path=location.path, rule="I2", repairable=_can_be_moved(location))


def _can_be_moved(location: Location) -> bool:
    """Tell whether a worker, or the repair, moves this file to `corrupt/`: files of ended jobs stay as they are."""
    return not location.state.ended


def _check_events(paths: Layout, location: Location, data: bytes) -> Iterator[Finding]:
    lines = data.split(b"\n")[1:]
    for what in contradictions(lines):
        yield Finding(code="wrong-order", message=f"tells what cannot be: {what}", path=location.path, rule="I2")
    last = next(reversed(record.events_of(lines)), None)
    if location.state.ended:
        yield from _ended(location, last)
    elif location.state is State.RUNNING:
        yield from _claimed(paths, location, last)
    elif isinstance(last, record.End):
        message = "has ended, and yet lies where it would run again"
        yield Finding(code="ended-pending", message=message, path=location.path, rule="I6", repairable=True)


def _ended(location: Location, last: record.AnyEvent | None) -> Iterator[Finding]:
    if not isinstance(last, record.End):
        message = f"is {location.state}, but has no end line: a full disk or a power cut took its result"
        yield Finding(code="result-lost", message=message, path=location.path)
    elif last.state is not location.state:
        message = f"says that it ended as {last.state}, but lies among those that are {location.state}"
        yield Finding(code="ended-elsewhere", message=message, path=location.path, rule="I6")


def _claimed(paths: Layout, location: Location, last: record.AnyEvent | None) -> Iterator[Finding]:
    if isinstance(last, record.End):
        message = "has ended, but is not moved yet: a worker does that"
        yield Finding(code="unfinished-move", message=message, path=location.path, repairable=True)
    elif isinstance(last, record.Start) and last.wid == location.holder and _is_at_work(paths, location.holder):
        yield from _running(paths, location, last)


def _is_at_work(paths: Layout, wid: str) -> bool:
    # Without `ready` the worker may be about to take its lock, and must find it free.
    return files.exists(paths.worker(wid, "ready")) and locks.is_held(paths.worker(wid, "alive.lock"))


def _running(paths: Layout, location: Location, start: record.Start) -> Iterator[Finding]:
    # A runner that is gone is asked for first: its lock may be about to be taken by the next one of its slot.
    if start.boot != system.boot_id() or system.birth(start.pid) != start.birth:
        message = f"its runner (pid {start.pid}) is gone, and its worker has not noticed: is the worker stopped?"
        yield Finding(code="runner-gone", message=message, path=location.path)
    elif not locks.is_held(Slots(paths.worker(location.holder)).lock(start.slot)):
        message = f"runs in process {start.pid}, which does not hold its runner lock r{start.slot}.lock"
        if files.exists(location.path):  # else it ended just now
            yield Finding(code="runs-unlocked", message=message, path=location.path, rule="I5")
