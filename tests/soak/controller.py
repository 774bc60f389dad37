"""A process that meddles with jobs until it is killed."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

from bgjobs import Queue
from bgjobs.errors import NoSuchJobError, UsageError
from tests.soak import evidence
from tests.soak.clocks import follow_clock
from tests.soak.diary import Diary, Note

PAUSE_S = 0.3
ID_LENGTH = 26
ENDED = ("done", "failed", "cancelled")
WEIGHTS = {"cancel": 4, "retry": 3}


class Controller:
    """Writes down what it is about to do to which job, does it, and writes down that it was done."""

    def __init__(self, home: Path, name: str, seed: int) -> None:
        """Open the queue and a new diary."""
        self._luck = random.Random(seed)
        self._queue = Queue.open(config=str(home / "allowed_jobs.toml"))
        self._spool = Path(self._queue.settings.spool)
        self._diary = Diary(home / "diaries" / name)

    def run(self) -> None:
        """Meddle until killed."""
        while True:
            (deed,) = self._luck.choices(list(WEIGHTS), list(WEIGHTS.values()))
            # The job may have ended, or be gone, by the time that it is asked for: that is an answer too.
            with suppress(NoSuchJobError, UsageError):
                getattr(self, f"_{deed}")()
            time.sleep(self._luck.expovariate(1 / PAUSE_S))

    def _cancel(self) -> None:
        for path in self._some("pending", "claimed"):
            job_id = path.stem[-ID_LENGTH:]
            self._diary.write([Note(did="cancelling", job=job_id)])
            result = self._queue.cancel(job_id)
            self._diary.write([Note(did=f"cancel: {result}", job=job_id)])

    def _retry(self) -> None:
        for path in self._some(*ENDED):
            self._diary.write([Note(did="retrying", job=path.stem)])
            job = self._queue.retry(path.stem)
            self._diary.write([Note(did="acknowledged", key=job.args[0], job=job.id)])

    def _some(self, *states: str) -> list[Path]:
        """Return the file of some job in one of these directories, if there is one."""
        found = [path for path in evidence.files(self._spool / self._luck.choice(states)) if path.suffix == ".json"]
        return [self._luck.choice(found)] if found else []


def main(home: Path, name: str, seed: int, clock: Path) -> None:
    """Be a controller."""
    follow_clock(clock)
    Controller(home, name, seed).run()
