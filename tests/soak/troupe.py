"""All processes of one soak: start them by what chance decides, replace those that died, and look into each death."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from bgjobs.cli.app import run
from bgjobs.worker import runner
from tests.soak import cast, controller, inspector, stranger, submitter
from tests.soak.cast import Actor
from tests.soak.clocks import follow_clock

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

WORKER, SUBMITTER, STRANGER = "worker", "submitter", "stranger"
CONTROLLER, INSPECTOR = "controller", "inspector"
WANTED = {WORKER: 3, SUBMITTER: 4, STRANGER: 1, CONTROLLER: 2, INSPECTOR: 1}
PAUSES_S = {WORKER: 0.8, SUBMITTER: 0.2, STRANGER: 0.5, CONTROLLER: 0.5, INSPECTOR: 1.0}
# Whoever kills its runners often enough before they are ready must not wonder.
NO_RUNNERS = "runners in a row died before they were ready"


def work(clock: Path, words: list[str]) -> int:
    """Be a worker whose runners follow the same clock."""
    follow_clock(clock)
    runner.COMMAND = ("-P", "-X", "utf8", str(cast.HERE / "clocks.py"), str(clock))
    return run(words)


class Troupe:
    """The processes that live, and how many of each kind there should be."""

    def __init__(self, home: Path, luck: random.Random) -> None:
        """Start nothing yet. `home` is the project, with a file that is its clock."""
        self.wanted = dict(WANTED)
        self.troubles: list[str] = []
        self._home = home
        self._spool = home / "spool"
        self._clock = home / "clock"
        self._luck = luck
        self._actors: list[Actor] = []
        self._count = 0
        self._due: list[tuple[float, str]] = []
        self._pids: dict[str, int] = {}  # of workers, by the name of their place in the spool

    def __call__(self, *kinds: str) -> list[Actor]:
        """Return the processes of these kinds, or all, that have not ended."""
        return [actor for actor in self._actors if (not kinds or actor.kind in kinds) and actor.runs()]

    def start(self, kind: str) -> None:
        """Start a process of this kind, with all that chance decides about it."""
        name = f"{kind}-{self._count:05}"
        seed = self._luck.getrandbits(32)
        # Syncing to the disk is what costs most: half of the processes do it, the others leave room for more kills.
        environ = {"BGJOBS_DURABILITY": ("full", "os")[self._count % 2]}
        mains: dict[str, Callable[[], object]] = {
            WORKER: partial(work, self._clock, self._command()),
            SUBMITTER: partial(submitter.main, self._home, name, seed, self._clock),
            STRANGER: partial(stranger.main, self._home, name, seed),
            CONTROLLER: partial(controller.main, self._home, name, seed, self._clock),
            INSPECTOR: partial(inspector.main, self._home, name, seed, self._clock),
        }
        self._actors.append(Actor(kind, mains[kind], self._home / "errors" / name, environ))
        self._count += 1

    def _command(self) -> list[str]:
        """Return the command line of a worker with one to three runners."""
        options = {
            "--concurrency": self._luck.choice((1, 2, 3)),
            "--grace": self._luck.choice((0, 0.2, 5)),
            "--recycle": self._luck.choice((5, 50, 1000)),
            "--config": self._home / "allowed_jobs.toml",
        }
        return ["worker", *(str(word) for option in options.items() for word in option)]

    def replace(self) -> None:
        """Bury the dead, and start others for them, each after a pause of its own."""
        self.bury()
        now = time.monotonic()
        due, self._due = [kind for at, kind in self._due if at <= now], [one for one in self._due if one[0] > now]
        for kind in due:
            self.start(kind)
        there = Counter(actor.kind for actor in self._actors) + Counter(kind for _, kind in self._due)
        for kind, wanted in self.wanted.items():
            for _ in range(wanted - there[kind]):
                self._due.append((now + self._luck.uniform(0, PAUSES_S[kind]), kind))

    def bury(self) -> None:
        """Look into each death, once."""
        for actor in [actor for actor in self._actors if not actor.runs()]:
            self._actors.remove(actor)
            if not actor.expected and NO_RUNNERS not in actor.says():
                self.troubles.append(f"a {actor.kind} ended by itself, {actor.status}: {actor.says()[-2000:]}")
            elif "Traceback" in actor.says():
                self.troubles.append(f"a {actor.kind} had trouble: {actor.says()[-2000:]}")

    def busy(self) -> list[Actor]:
        """Return the workers that have claimed jobs."""
        for place in set(names(self._spool / "workers")) - self._pids.keys():
            with suppress(OSError, ValueError):  # half made, or half gone
                self._pids[place] = json.loads((self._spool / "workers" / place / "info").read_bytes())["worker"]["pid"]
        claiming = [place for place in names(self._spool / "claimed") if names(self._spool / "claimed" / place)]
        pids = {self._pids.get(place) for place in claiming}
        return [worker for worker in self(WORKER) if worker.pid in pids]


def names(directory: Path) -> list[str]:
    """Return the names in a directory, none if it is not there."""
    with suppress(OSError):
        return os.listdir(directory)  # noqa: PTH208 - names are wanted
    return []
