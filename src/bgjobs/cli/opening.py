"""Open the queue for a command that only looks, or acts on jobs that are there: a mistyped spool is not made."""

from __future__ import annotations

import os

from bgjobs.errors import SpoolError
from bgjobs.queue import Queue


def existing(config: str | None, spool: str | None, *, strict: bool = True) -> Queue:
    """Return the queue. Raises SpoolError if somebody named a spool, and there is none."""
    queue = Queue.open(config=config, spool=spool, strict=strict)
    if spool or os.environ.get("BGJOBS_SPOOL"):
        from bgjobs.spool import setup  # noqa: PLC0415 - most commands find the spool by themselves

        if not setup.is_there(queue.settings.spool):
            raise SpoolError(
                f"there is no spool at {queue.settings.spool}",
                hint=f"check {'--spool' if spool else 'BGJOBS_SPOOL'}; `bgjobs submit` and `bgjobs worker` make one",
                code="no-spool",
            )
    return queue
