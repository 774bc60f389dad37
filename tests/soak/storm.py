"""One soak from the first process to the last: storm for a while, then let workers run all that is left."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING

from tests.soak import cast
from tests.soak.chaos import DAY_MS, Chaos
from tests.soak.clocks import make_clock, set_clock
from tests.soak.troupe import WORKER, Troupe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TICK_S, TELL_S = 0.01, 10.0
QUIET_S = 3.0  # longer than any wait between two attempts
STOP_S = 30.0
LAST_WORKERS = 2


class Storm:
    """One run, in a project of its own at `home`."""

    def __init__(self, home: Path, seed: int, *, kill_every: float) -> None:
        """Make the project. `kill_every` is in seconds, on average."""
        shutil.copytree(cast.HERE / "project", home, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        for name in ("diaries", "records", "errors"):
            (home / name).mkdir()
        self.home = home
        self.spool = home / "spool"
        self._clock = home / "clock"
        make_clock(self._clock)
        luck = random.Random(seed)
        self.troupe = Troupe(home, luck)
        self.troubles = self.troupe.troubles
        self.chaos = Chaos(self.troupe, self._clock, luck, kill_every=kill_every)

    def rage(self, seconds: float, say: Callable[[str], None]) -> None:
        """Let it blow for so long."""
        now = told = time.monotonic()
        end = now + seconds
        while now < end:
            self.troupe.replace()
            self.chaos.strike()
            if now - told > TELL_S:
                told = now
                say(f"{end - now:.0f} s to go: {self.chaos.kills().total()} kills")
            time.sleep(TICK_S)
            now = time.monotonic()

    def calm(self, limit: float) -> None:
        """Stop meddling, and let workers run all that is left, for so many seconds at most."""
        for actor in self.troupe():
            actor.send(signal.SIGCONT)
            if actor.kind != WORKER:
                actor.kill()
        set_clock(self._clock, 0)
        for _ in range(LAST_WORKERS):
            self.troupe.start(WORKER)
        self._wait_for_the_last(limit, quiet_s=QUIET_S)
        # What was put off by a clock that ran ahead waits for that time to come.
        set_clock(self._clock, 2 * DAY_MS)
        self._wait_for_the_last(limit)
        if self._unended():
            self.troubles.append(f"{self._unended()} jobs have not ended within {limit:.0f} s")
        self._end_workers()
        self.troubles += [f"process {pid} is left: {words}" for pid, words in cast.left_behind(self.spool)]

    def _wait_for_the_last(self, limit: float, *, quiet_s: float = math.inf) -> None:
        """Wait until every job has ended, or for so long; or until their number has not changed for a while."""
        left, changed, end = -1, 0.0, time.monotonic() + limit
        while (now := time.monotonic()) < end:
            self.troupe.bury()
            before, left = left, self._unended()
            changed = now if left != before else changed
            if not left or now - changed > quiet_s:
                break
            time.sleep(0.1)

    def _unended(self) -> int:
        places = ("incoming", "pending", "claimed")
        found = (name for place in places for _, _, names in os.walk(self.spool / place) for name in names)
        return sum(not name.startswith(".") for name in found)  # such a name has what was never handed in

    def _end_workers(self) -> None:
        workers = self.troupe(WORKER)
        for worker in workers:
            worker.expected = True
            worker.send(signal.SIGTERM)
        for worker in workers:
            if worker.wait(STOP_S) != 0:
                self.troubles.append(f"a worker ended with {worker.status} when asked to: {worker.says()[-2000:]}")
        self.troupe.bury()

    def close(self) -> None:
        """Kill what is left, whatever happened."""
        for actor in self.troupe():
            actor.kill()
            actor.wait(STOP_S)
        for pid, _ in cast.left_behind(self.spool):
            cast.kill(pid)
