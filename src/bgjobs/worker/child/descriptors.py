"""The descriptors that a runner owns, and its standard ones, as they have to be when the next job begins."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Iterable

IN, OUT, ERR = 0, 1, 2
STANDARD = 3  # so many are there


def identity(state: os.stat_result) -> tuple[int, int]:
    """Return what tells one open file from all others."""
    return state.st_dev, state.st_ino


def is_still(number: int, expected: tuple[int, int]) -> bool:
    """Tell whether the descriptor leads where it should: a job may have closed it, and got the number for a file."""
    try:
        return identity(os.fstat(number)) == expected
    except OSError:
        return False


def lifted(descriptor: int) -> int:
    """Return the same open file under a number above the standard ones, and close the low one.

    Whoever opens a file while a standard descriptor is closed gets that number for it.
    """
    low = []
    while descriptor < STANDARD:
        low.append(descriptor)
        descriptor = os.dup(descriptor)
    for each in low:
        os.close(each)
    return descriptor


class Owned:
    """All descriptors above the standard ones that are open when the first job comes: the channel, the lock, ….

    Those that may change are left out: whoever changes them looks after them.
    """

    def __init__(self, known: Iterable[int], *, but: Iterable[int]) -> None:
        """Remember them: those that are known, and those that the system tells of."""
        numbers = {*known, *system.open_descriptors()} - {*but}
        self._owned: list[tuple[int, tuple[int, int]]] = []
        for number in sorted(numbers):
            with suppress(OSError):
                if number >= STANDARD:
                    self._owned.append((number, identity(os.fstat(number))))

    def are_whole(self) -> bool:
        """Tell whether each still leads where it led."""
        try:
            for number, expected in self._owned:
                state = os.fstat(number)
                if (state.st_dev, state.st_ino) != expected:
                    return False
        except OSError:
            return False
        return True


class Standard:
    """Descriptors 0, 1 and 2, held a second time under numbers that no job knows."""

    def __init__(self, output: int) -> None:
        """Let input be empty, and send what is written to this open file."""
        self.source = lifted(os.open(os.devnull, os.O_RDWR))
        self.output = output
        self.restore()

    def restore(self) -> None:
        """Make all three whole, whatever a job has put in their places. To be asked for while both are still ours."""
        os.dup2(self.source, IN)
        os.dup2(self.output, OUT)
        os.dup2(self.output, ERR)
