"""A process that meddles with jobs until it is killed."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from pathlib import Path

from bgjobs import Queue
from bgjobs.errors import NoSuchJobError, NotEndedError, UsageError
from tests.soak import evidence
from tests.soak.clocks import follow_clock, steady
from tests.soak.diary import Diary, Note

PAUSE_S = 0.3
ID_LENGTH = 26
ENDED = ("done", "failed", "cancelled")
WEIGHTS = {"cancel": 6, "run_now": 6, "retry": 6, "delete": 6, "prune": 1}


class Controller:
    """Writes down what it is about to do to which job, does it, and writes down that it was done."""

    def __init__(self, home: Path, name: str, seed: int) -> None:
        """Open the queue and a new diary."""
        self._luck = random.Random(seed)
        self._queue = Queue.open(config=str(home / "allowed_jobs.toml"))
        self._spool = Path(self._queue.settings.spool)
        self._clock = home / "clock"
        self._diary = Diary(home / "diaries" / name)

    def run(self) -> None:
        """Meddle until killed."""
        while True:
            (deed,) = self._luck.choices(list(WEIGHTS), list(WEIGHTS.values()))
            # The job may have ended, or be gone, by the time that it is asked for: that is an answer too.
            with suppress(NoSuchJobError, NotEndedError, UsageError):
                getattr(self, f"_{deed}")()
            time.sleep(self._luck.expovariate(1 / PAUSE_S))

    def _cancel(self) -> None:
        for path in self._some("pending", "claimed"):
            job_id = path.stem[-ID_LENGTH:]
            self._diary.write([Note(did="cancelling", job=job_id)])
            result = self._queue.cancel(job_id)
            self._diary.write([Note(did=f"cancel: {result}", job=job_id)])

    def _run_now(self) -> None:
        for path in self._some("pending"):
            result = self._queue.run_now(path.stem[-ID_LENGTH:])
            self._diary.write([Note(did=f"run-now: {result}")])

    def _retry(self) -> None:
        for path in self._some(*ENDED):
            self._diary.write([Note(did="retrying", job=path.stem)])
            job = self._queue.retry(path.stem)
            self._diary.write([Note(did="acknowledged", key=job.args[0], job=job.id)])

    def _delete(self) -> None:
        for path in self._some(*ENDED):
            note = deleting(path)
            self._diary.write([note])
            self._queue.delete(path.stem)
            self._diary.write([Note(did="deleted", job=path.stem)])

    def _prune(self) -> None:
        """Delete what ended some time ago. Which jobs that will be is only known as long as the clock goes on."""
        state, older_s = self._luck.choice(ENDED), self._luck.uniform(10, 60)
        with steady(self._clock):
            self._diary.write(deleting(path) for path in evidence.files(self._spool / state))
            count = self._queue.prune(older=older_s, state=state)
        self._diary.write([Note(did="pruned")] * count)

    def _some(self, *states: str) -> list[Path]:
        """Return the file of some job in one of these directories, if there is one."""
        found = [path for path in evidence.files(self._spool / self._luck.choice(states)) if path.suffix == ".json"]
        return [self._luck.choice(found)] if found else []


def deleting(path: Path) -> Note:
    """Return the note that the job in this file may be gone from now on."""
    with suppress(FileNotFoundError):
        first, _, _ = path.read_bytes().partition(b"\n")
        return Note(did="deleting", job=path.stem, key=json.loads(first)["args"][0])
    return Note(did="deleting", job=path.stem)


def main(home: Path, name: str, seed: int, clock: Path) -> None:
    """Be a controller."""
    follow_clock(clock)
    Controller(home, name, seed).run()
