"""What a worker says to the person who started it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bgjobs import system, users
from bgjobs.events import sanitized

if TYPE_CHECKING:
    from bgjobs.queue import Queue
    from bgjobs.worker.options import WorkerOptions


class Voice:
    """Speaks on standard error, or not at all when `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        """Say nothing yet."""
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Say one line."""
        if self._quiet or sys.stderr is None:
            return
        try:
            print(f"bgjobs: {sanitized(text)}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's own voice
        except OSError:
            pass  # a full disk, a terminal that was closed: no reason to leave the jobs alone

    def greet(self, queue: Queue, name: str, options: WorkerOptions) -> None:
        """Say who is at work, with how many runners, and on what."""
        runners = options.concurrency
        targets = users.those_of(queue.allowlist, options.only)
        as_we = sum(not users.other(target.policy) for target in targets)
        if system.is_elevated() and as_we:
            self.say(f"running as root: so do all jobs{' without a user' if as_we < len(targets) else ''}")
        count = len(list(queue.allowlist))
        self.say(
            f"worker {name}: {runners} runner{'s'[: runners != 1]}, "
            f"{count} method{'s'[: count != 1]} may run, spool {queue.settings.spool}"
        )
