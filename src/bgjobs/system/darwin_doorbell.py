"""Watch the doorbell file through kqueue."""

from __future__ import annotations

import os
import select
import sys

from bgjobs.system.doorbell import PolledDoorbell

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

_LOST = select.KQ_NOTE_DELETE | select.KQ_NOTE_RENAME
_EVENTS = select.KQ_NOTE_ATTRIB | select.KQ_NOTE_WRITE | _LOST
_NOT_WATCHED = -1


class Doorbell:
    """Watches a doorbell file. While there is no such file, its name is polled."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._polled = PolledDoorbell(path)
        self._queue = select.kqueue()
        self._file = self._start_watch()

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while it rings, or None if the file has to be polled."""
        return None if self._file == _NOT_WATCHED else self._queue.fileno()

    def ringing(self) -> bool:
        """Tell by the modification time whether it rang since the last `rang()`, without resetting it."""
        return self._polled.ringing()

    def rang(self) -> bool:
        """Tell whether it rang since the last call, and reset it."""
        events = self._queue.control(None, 1, 0) if self._file != _NOT_WATCHED else []
        if any(event.fflags & _LOST for event in events):
            self._stop_watch()
        if self._file == _NOT_WATCHED:
            self._file = self._start_watch()
        by_time = self._polled.rang()
        return bool(events) or by_time

    def close(self) -> None:
        """Stop watching."""
        self._stop_watch()
        self._queue.close()

    def _start_watch(self) -> int:
        try:
            file = os.open(self._path, os.O_EVTONLY | os.O_CLOEXEC)
        except OSError:
            return _NOT_WATCHED
        flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
        event = select.kevent(file, filter=select.KQ_FILTER_VNODE, flags=flags, fflags=_EVENTS)
        self._queue.control([event], 0, 0)
        return file

    def _stop_watch(self) -> None:
        if self._file != _NOT_WATCHED:
            os.close(self._file)
        self._file = _NOT_WATCHED
