"""Whether the lines of a job file tell a history that can have happened."""

from __future__ import annotations

from bgjobs.job import State
from bgjobs.spool import record


def contradictions(lines: list[bytes]) -> list[str]:
    """Return what cannot have happened, in words, given the lines after the first.

    A line that is torn or full of zeros counts as not written, and what hangs on it is believed. So is an attempt
    without an ending when the next one is of another worker: a power cut takes an unsynced line, but not the rename
    after it.
    """
    told = _Told()
    for number, line in enumerate(lines, start=2):
        if line:
            told.hear(number, next(iter(record.events_of([line])), None))
    return told.contradictions


class _Told:
    """What the lines so far have told."""

    def __init__(self) -> None:
        self.contradictions: list[str] = []
        self._attempts = 0
        self._running = ""  # the worker of the attempt that has no ending yet
        self._has_ended = False
        self._torn = False

    def hear(self, number: int, event: record.AnyEvent | None) -> None:
        """Take the event of one line; None is a torn one."""
        if event is None:
            self._torn = True
            return
        if self._has_ended:
            self._say(number, "an event after the end")
        match event:
            case record.Start():
                self._hear_start(number, event)
            case record.Try() | record.Back():
                if self._running != event.wid and not self._torn:
                    self._say(number, "the ending of an attempt that had not begun")
                self._running = ""
            case record.Lost():
                # May come without a start: after a power cut an attempt counts as begun, for its line may be gone.
                self._running = ""
            case record.End():
                if event.state is State.DONE and not self._running and not self._torn:
                    self._say(number, "success without an attempt")
                self._running, self._has_ended = "", True

    def _hear_start(self, number: int, start: record.Start) -> None:
        expected = self._attempts + 1
        if start.number != expected and not (self._torn and start.number > expected):
            self._say(number, f"attempt {start.number} begins where {expected} should")
        if self._running == start.wid and start.wid and not self._torn:
            self._say(number, "a second attempt of the same worker begins before the first has ended")
        self._attempts, self._running = start.number, start.wid

    def _say(self, number: int, what: str) -> None:
        self.contradictions.append(f"line {number}: {what}")
