"""A disk on which a scenario plays: the queue on it, workers that come and die, a clock, and what was promised."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.job import Job, milliseconds, moment
from bgjobs.spool import record
from tests.contract import stores
from tests.contract.stores import NO_SELECTION, SpoolKind, info
from tests.crash.enumerator_trace import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session

ONCE, ONE_OF = "once", "one job"
CONFIG = '[bgjobs]\nspool = "disk/spool"\nlog_dir = "logs"\ndurability = "{durability}"\n{settings}\n'


class Stage:
    """A disk on which a scenario plays, and its recording."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *, durability: str, settings: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.disk = folder / "disk"
        self.disk.mkdir()
        (folder / "allowed_jobs.toml").write_text(
            CONFIG.format(durability=durability, settings=settings), encoding="utf-8"
        )
        self._store = SpoolKind(str(folder))
        self._patch = patch
        self._lines: dict[str, bytes] = {}
        self._sessions: list[Session] = []
        self._advance = timedelta(0)
        self._recorder: Recorder | None = None
        patch.setattr(stores, "now", lambda: moment(milliseconds(clock.now())))
        patch.setattr(clock, "now", lambda: datetime.now(UTC) + self._advance)
        patch.setattr(clock, "now_ms", lambda: time.time_ns() // 1_000_000 + self._advance // timedelta(milliseconds=1))

    # For scenarios

    def open(self) -> SpoolStore:
        """Return the queue, as a process of its own has it."""
        return self._store.open()

    def join(self) -> Session:
        """Take a place as a worker."""
        session = self.open().join(info(), NO_SELECTION)
        self._sessions.append(session)
        return session

    def die(self, session: Session) -> None:
        """Let go of a session as a process does that is killed."""
        self._sessions.remove(session)
        self._store.abandon(session)

    def leave(self, session: Session) -> None:
        """Let a worker go in order."""
        self._sessions.remove(session)
        session.leave()

    def submit(self, *jobs: Job, queue: SpoolStore | None = None) -> list[str]:
        """Submit jobs; they are promised once that returns."""
        for job in jobs:
            self._lines[job.id] = record.line_1(job)
        (queue or self.open()).submit(jobs)
        self.promise(*(job.id for job in jobs))
        return [job.id for job in jobs]

    def promise(self, *jobs: str, kept: bool = True) -> None:
        """Say that somebody was told that these jobs are kept, or that they may go from now on."""
        if self._recorder is not None:
            self._recorder.promise(list(jobs), kept=kept)

    def promise_once(self, job_id: str) -> None:
        """Say that the job has run for good: it must not run again."""
        self.promise(f"{job_id} {ONCE}")

    def promise_one_of(self, mark: str) -> None:
        """Say that exactly one job holds this text."""
        self.promise(f"{mark} {ONE_OF}")

    def pass_time(self, length: timedelta) -> None:
        """Set the clock forward."""
        self._advance += length

    def record(self) -> Recorder:
        """Write down what happens from now on. What has happened so far is on the disk, and promised."""
        self._recorder = Recorder(self.disk)
        self._recorder.wrap(self._patch)
        self._recorder.promise(list(self._lines))
        return self._recorder

    def close(self) -> None:
        """Let go of what is left."""
        for session in list(self._sessions):
            self.die(session)

    # For checks

    def line_1(self, job_id: str) -> bytes:
        """Return the first line of a job's file."""
        return self._lines[job_id]
