"""Count how many modules a flow enters, and how often it goes from one to another: how far a reader has to jump.

`python -m benchmarks.modules [SOURCES]` measures this checkout, or the one whose `src` is named.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED = '[jobs.Mail]\nclass = "mail:Mail"\nmethods = ["send"]\n'
MAIL = "class Mail:\n    def send(self, to: str) -> str:\n        return to\n"
SUBMIT = ["submit", "Mail", "send", "Tony"]


class Walk:
    """The modules that a call goes through. What happens while modules are imported does not count."""

    def __init__(self) -> None:
        self.entered: set[str] = set()
        self.changes = 0
        self._now = ""
        self._stack: list[str] = []

    def through(self, call: Callable[[], object]) -> None:
        """Make the call, and note each module that it goes into, and back to."""
        sys.setprofile(self._note)
        try:
            call()
        finally:
            sys.setprofile(None)

    def _note(self, frame: Any, event: str, _: object) -> None:  # noqa: ANN401 - a frame of the interpreter
        if event not in {"call", "return"}:
            return
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("bgjobs.") or _is_imported(frame):
            return
        if event == "call":
            self._stack.append(name)
            self.entered.add(name)
            self._go(name)
        elif self._stack:
            self._stack.pop()
            if self._stack:
                self._go(self._stack[-1])

    def _go(self, name: str) -> None:
        self.changes += name != self._now
        self._now = name


def _is_imported(frame: Any) -> bool:  # noqa: ANN401 - a frame of the interpreter
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__", "").startswith("bgjobs."):
            return True
        frame = frame.f_back
    return False


def main(words: list[str]) -> int:
    """Measure, and print one line for each flow."""
    if words:
        sys.path.insert(0, str(Path(words[0]).resolve()))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
        (root / "mail.py").write_text(MAIL, encoding="utf-8")
        os.chdir(root)
        _measure()
        os.chdir("/")
    return 0


def _measure() -> None:
    from bgjobs import Queue, system  # noqa: PLC0415 - of the checkout that was named
    from bgjobs.cli.app import run  # noqa: PLC0415 - as above
    from bgjobs.worker import loop  # noqa: PLC0415 - as above
    from bgjobs.worker.options import WorkerOptions  # noqa: PLC0415 - as above

    run(SUBMIT)  # all that it needs is loaded now, and the spool is there
    options = WorkerOptions(concurrency=system.cores(), drain=True, quiet=True)
    for name, call in {
        "bgjobs submit": lambda: run(SUBMIT),
        "a drain of two jobs": lambda: loop.run(Queue.open(), options),
    }.items():
        walk = Walk()
        walk.through(call)
        print(f"{name}: {len(walk.entered)} modules, {walk.changes} changes of module")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
