"""Watch the doorbell file through inotify."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from bgjobs.system.doorbell import PolledDoorbell

assert sys.platform == "linux"  # noqa: S101 - tells the type checker which names the system has

_MODIFY, _ATTRIB, _DELETE_SELF, _MOVE_SELF, _IGNORED = 0x2, 0x4, 0x400, 0x800, 0x8000
_EVENTS = _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")  # watch, what happened, cookie, length of the name (none, for a file)
_NOT_WATCHED = -1

_system = ctypes.CDLL(None, use_errno=True)


class Doorbell:
    """Watches a doorbell file. If the kernel has no watch left, the file is polled."""

    def __init__(self, path: str) -> None:
        self._path = os.fsencode(path)
        self._polled = PolledDoorbell(path)
        self._fd: int = _system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watch = self._start_watch()

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while it rings, or None if the file has to be polled."""
        return None if self._watch == _NOT_WATCHED else self._fd

    def ringing(self) -> bool:
        """Tell by the modification time whether it rang since the last `rang()`, without resetting it."""
        return self._polled.ringing()

    def rang(self) -> bool:
        """Tell whether it rang since the last call, and reset it."""
        events = self._drain()
        if self._watch == _NOT_WATCHED:
            self._watch = self._start_watch()
        by_time = self._polled.rang()
        return events or by_time

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._watch = _NOT_WATCHED

    def _start_watch(self) -> int:
        if self._fd < 0:
            return _NOT_WATCHED
        return int(_system.inotify_add_watch(self._fd, self._path, ctypes.c_uint32(_EVENTS)))

    def _drain(self) -> bool:
        if self._fd < 0:
            return False
        try:
            # One read: an endless stream of rings must not keep the worker here.
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return False
        for watch, what, _, _ in _EVENT.iter_unpack(events):
            self._forget_lost_file(watch, what)
        return True

    def _forget_lost_file(self, watch: int, what: int) -> None:
        # The watch is on the inode. Another file may get its name, and would not be watched.
        if watch == self._watch and what & (_MOVE_SELF | _IGNORED):
            _system.inotify_rm_watch(self._fd, watch)
            self._watch = _NOT_WATCHED
