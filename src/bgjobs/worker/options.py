"""The options of one worker."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

RECYCLE = 10_000  # jobs. A runner whose memory has grown is replaced sooner: see `growth`


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """The options of `bgjobs worker`. `recycle` is how many jobs a runner process serves before a fresh one does."""

    concurrency: int
    drain: bool = False
    once: bool = False
    max_jobs: int | None = None
    max_time: timedelta | None = None
    grace: timedelta = timedelta(seconds=30)
    recycle: int = RECYCLE
    only: frozenset[str] = frozenset()
    min_priority: int = 0
    reload: bool = False
    quiet: bool = False
