"""Check and restore the file descriptors of a runner: those that it owns, and the three standard ones."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Iterable

IN, OUT, ERR = 0, 1, 2
STANDARD = 3  # the number of standard descriptors


def identity(state: os.stat_result) -> tuple[int, int]:
    """Return what identifies an open file: device and inode."""
    return state.st_dev, state.st_ino


def leads_to(number: int, expected: tuple[int, int]) -> bool:
    """Tell whether the descriptor is the expected file: a job may have closed it, and opened another."""
    try:
        return identity(os.fstat(number)) == expected
    except OSError:
        return False


def above_standard(descriptor: int) -> int:
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


class OwnDescriptors:
    """All descriptors above the standard ones that are open when the first job comes: the channel, the lock, ….

    Those that change by design (`but`) are left out.
    """

    def __init__(self, known: Iterable[int], *, but: Iterable[int]) -> None:
        """Remember the known ones and those that the system lists."""
        numbers = {*known, *system.open_descriptors()} - {*but}
        self._owned: list[tuple[int, tuple[int, int]]] = []
        for number in sorted(numbers):
            with suppress(OSError):
                if number >= STANDARD:
                    self._owned.append((number, identity(os.fstat(number))))

    def are_intact(self) -> bool:
        """Tell whether each is still the same file."""
        try:
            for number, expected in self._owned:
                state = os.fstat(number)
                if (state.st_dev, state.st_ino) != expected:
                    return False
        except OSError:
            return False
        return True


class StandardDescriptors:
    """Descriptors 0, 1 and 2, with a duplicate of each under a number that no job knows."""

    def __init__(self, output: int) -> None:
        """Make input empty, and send output and errors to this open file."""
        self.source = above_standard(os.open(os.devnull, os.O_RDWR))
        self.output = output
        self.restore()

    def restore(self) -> None:
        """Restore all three, whatever a job has put in their places. Call it only while the duplicates are intact."""
        os.dup2(self.source, IN)
        os.dup2(self.output, OUT)
        os.dup2(self.output, ERR)
