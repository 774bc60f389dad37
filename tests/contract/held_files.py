"""Files as Windows has them while another program holds them open: refused with 5, 32 or 33, and tried again.

This stands between `bgjobs.disk` and the system. What Windows would refuse is refused here, on every system, and then
the real `retry` runs the real step, as `bgjobs.system.windows` does it; only its pauses take no time.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from bgjobs import disk
from bgjobs.system.retrying import HELD_BY_ANOTHER, OPEN_ELSEWHERE, PAUSES, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import pytest

DENIED, SHARING, LOCKED = 5, 32, 33
TEXTS = {
    DENIED: "Access is denied",
    SHARING: "The process cannot access the file because it is being used by another process",
    LOCKED: "The process cannot access the file because another process has locked a portion of the file",
}
# What `bgjobs.system.windows` tries again, and at which errors; a test holds this against its source.
RETRIED = {
    **dict.fromkeys(("move", "replace", "unlink"), HELD_BY_ANOTHER),
    **dict.fromkeys(("open_append", "open_create_append", "open_new", "open_read"), OPEN_ELSEWHERE),
}
# What it does not try again, and Windows may refuse for the same reasons.
ONCE = ("listdir", "mkdir", "open_folder", "read", "rmdir", "scandir", "truncate", "write")
FOR_EVER = 10**9


class RefusedError(PermissionError):
    """What Windows raises, on any system."""

    def __init__(self, code: int, path: str) -> None:
        super().__init__(13, TEXTS[code], *([path] if path else []))  # a read names none
        self.winerror = code


class HeldFiles:
    """Refuses steps on paths that another program holds, and counts what was refused and how long it was waited."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.refused: Counter[str] = Counter()
        self.met: set[str] = set()
        self.pauses: list[float] = []
        self.longest: list[float] = []  # the pauses of each step, added up
        self._code = SHARING
        self._steps: Collection[str] = ()
        self._part = ""
        self._left = 0
        for name in (*RETRIED, *ONCE):
            patch.setattr(disk, name, self._around(name, getattr(disk, name)))

    def hold(self, code: int, *steps: str, part: str = "", times: int = FOR_EVER) -> None:
        """Refuse these steps, or all, so many times, on paths that have this part in them."""
        self.refused.clear()
        self.met.clear()
        self.pauses.clear()
        self.longest.clear()
        self._code, self._steps, self._part, self._left = code, steps or (*RETRIED, *ONCE), part, times

    def free(self) -> None:
        """The other program is done."""
        self._left = 0

    def _around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        codes = RETRIED.get(name)

        def step(*args: Any, **named: Any) -> Any:
            def once() -> Any:
                self._refuse(name, args)
                return real(*args, **named)

            if codes is None:
                return once()
            before = len(self.pauses)
            try:
                return retry(once, codes=codes, sleep=self.pauses.append)
            finally:
                self.longest.append(sum(self.pauses[before:]))

        return step

    def _refuse(self, name: str, args: tuple[Any, ...]) -> None:
        paths = [path for path in args if isinstance(path, str)]
        held = name in self._steps and (any(self._part in path for path in paths) if paths else not self._part)
        self.met.add(name)
        if held and self._left > 0:
            self._left -= 1
            self.refused[name] += 1
            raise RefusedError(self._code, paths[0] if paths else "")


def tries(code: int, step: str) -> int:
    """Return how often a step is tried that is refused for ever."""
    return len(PAUSES) + 1 if code in RETRIED.get(step, ()) else 1


def part_of(path: str) -> str:
    """Return what the paths in a directory begin with."""
    return f"{path}{os.sep}"
