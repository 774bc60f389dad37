"""A process that submits jobs of all kinds until it is killed."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from bgjobs import Queue, Request
from tests.soak.clocks import follow_clock
from tests.soak.diary import Diary, Note

CROWD = 250  # so many jobs wait at most, or draining would take as long as the storm
PAUSE_S = 0.08
TOUGH = frozenset({"come_round", "fork_off", "nap", "say", "step"})
WEIGHTS = {
    "step": 30,
    "nap": 30,
    "come_round": 12,
    "back_out": 6,
    "say": 8,
    "fork_off": 4,
    "leave_at_once": 3,
    "shoot_itself": 3,
    "overrun": 1,
}


class Submitter:
    """Writes down what it is about to submit, submits it, and writes down that it was told the ids."""

    def __init__(self, home: Path, name: str, seed: int) -> None:
        """Open the queue and a new diary."""
        self._name = name
        self._luck = random.Random(seed)
        self._queue = Queue.open(config=str(home / "allowed_jobs.toml"))
        self._pending = Path(self._queue.settings.spool) / "pending"
        self._diary = Diary(home / "diaries" / name)
        self._count = 0

    def run(self) -> None:
        """Submit until killed."""
        while True:
            if self._crowded():
                time.sleep(PAUSE_S)
                continue
            many = self._luck.choice((1, 1, 1, 1, 2, 5, 20))
            self._submit([self._request() for _ in range(many)])
            time.sleep(self._luck.expovariate(1 / PAUSE_S))

    def _submit(self, requests: list[Request]) -> None:
        self._diary.write(
            Note(
                did="attempted", key=each.args[0], class_name=each.class_name, method=each.method, args=tuple(each.args)
            )
            for each in requests
        )
        jobs = self._queue.submit_many(requests)
        self._diary.write(Note(did="acknowledged", key=job.args[0], job=job.id) for job in jobs)

    def _request(self) -> Request:
        luck = self._luck
        (method,) = luck.choices(list(WEIGHTS), list(WEIGHTS.values()))
        self._count += 1
        return Request(
            class_name="Tough" if method in TOUGH and luck.random() < 0.5 else "Stormy",
            method=method,
            args=(f"{self._name}-{self._count}", *self._further(method)),
            priority=luck.choice((None, None, "low", "high", luck.randrange(10))),
            delay=luck.choice((None, None, None, luck.uniform(0, 3))),
            retries=luck.randrange(4),
            timeout=0.3 if method == "overrun" else None,
        )

    def _further(self, method: str) -> list[Any]:
        luck = self._luck
        match method:
            case "nap":
                return [round(luck.uniform(0, 0.3), 3)]
            case "come_round":
                return [luck.randrange(1, 4)]
            case "say":
                return [luck.choice((1, 20, 500))]
            case "fork_off":
                return [luck.random() < 0.5]
            case "leave_at_once":
                return [luck.choice((0, 1, 3))]
            case _:
                return []

    def _crowded(self) -> bool:
        count = 0
        for _, _, names in os.walk(self._pending):
            count += len(names)
        return count > CROWD


def main(home: Path, name: str, seed: int, clock: Path) -> None:
    """Be a submitter."""
    follow_clock(clock)
    Submitter(home, name, seed).run()
