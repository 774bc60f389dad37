"""Listen to the doorbell file through kqueue."""

from __future__ import annotations

import os
import select
import sys

from bgjobs.system.doorbell import PolledDoorbell

assert sys.platform == "darwin"  # noqa: S101 - tells the type checker which names the system has

_LOST = select.KQ_NOTE_DELETE | select.KQ_NOTE_RENAME
_EVENTS = select.KQ_NOTE_ATTRIB | select.KQ_NOTE_WRITE | _LOST
_DEAF = -1


class Doorbell:
    """Listens to a doorbell file. While there is no such file, its name is looked at again and again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._polled = PolledDoorbell(path)
        self._queue = select.kqueue()
        self._file = self._listen()

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while it rings, or None if the file's time has to be looked at."""
        return None if self._file == _DEAF else self._queue.fileno()

    def ringing(self) -> bool:
        """Tell by the file's time whether it rang since the last `rang()`, and leave it ringing."""
        return self._polled.ringing()

    def rang(self) -> bool:
        """Tell whether it rang since the last time, and stop the ringing."""
        events = self._queue.control(None, 1, 0) if self._file != _DEAF else []
        if any(event.fflags & _LOST for event in events):
            self._hang_up()
        if self._file == _DEAF:
            self._file = self._listen()
        by_time = self._polled.rang()
        return bool(events) or by_time

    def close(self) -> None:
        """Stop listening."""
        self._hang_up()
        self._queue.close()

    def _listen(self) -> int:
        try:
            file = os.open(self._path, os.O_EVTONLY | os.O_CLOEXEC)
        except OSError:
            return _DEAF
        flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
        event = select.kevent(file, filter=select.KQ_FILTER_VNODE, flags=flags, fflags=_EVENTS)
        self._queue.control([event], 0, 0)
        return file

    def _hang_up(self) -> None:
        if self._file != _DEAF:
            os.close(self._file)
        self._file = _DEAF
