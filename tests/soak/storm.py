"""The storm: keep submitters, workers and controllers running, and kill, stop and mislead them at random moments."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from bgjobs.cli.app import run
from bgjobs.worker import runners
from tests.soak import cast, controller, inspector, submitter
from tests.soak.cast import Actor
from tests.soak.clocks import follow_clock, make_clock, set_clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TICK_S = 0.01
QUIET_S = 3.0  # longer than any wait between two attempts
SUBMITTERS, CONTROLLERS, INSPECTORS = 4, 2, 1
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
JUMPS = (0, 0, -HOUR_MS, HOUR_MS, -DAY_MS, DAY_MS)
JUMP_EVERY_S, STOP_EVERY_S, ASK_EVERY_S, CROWD_EVERY_S = 4.0, 3.0, 5.0, 10.0
RUNNER, WORKER, TREE, RECOVERER = "runner", "worker", "worker tree", "recoverer"
SUBMITTER, CONTROLLER, INSPECTOR = "submitter", "controller", "inspector"
VICTIMS = {RUNNER: 32, WORKER: 14, TREE: 4, RECOVERER: 4, SUBMITTER: 28, CONTROLLER: 14, INSPECTOR: 4}
PAUSES_S = {WORKER: 0.8, SUBMITTER: 0.2, CONTROLLER: 0.5, INSPECTOR: 1.0}


def _work(clock: Path, words: list[str]) -> int:
    """Be a worker whose runners follow the same clock."""
    follow_clock(clock)
    runners.COMMAND = ("-P", "-X", "utf8", str(cast.HERE / "clocks.py"), str(clock))
    return run(words)


class Storm:
    """One run, from the first process to the last kill."""

    def __init__(self, home: Path, seed: int, *, kill_every: float, say: Callable[[str], None]) -> None:
        """Make the project at `home`, which does not exist yet. `kill_every` is in seconds, on average."""
        shutil.copytree(cast.HERE / "project", home, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        for name in ("diaries", "records", "errors"):
            (home / name).mkdir()
        self.home = home
        self.spool = home / "spool"
        self.clock = home / "clock"
        make_clock(self.clock)
        self.did: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.luck = random.Random(seed)
        self._say = say
        self._kill_every = kill_every
        self._actors: list[Actor] = []
        self._count = 0
        self._starts: list[tuple[float, Callable[[], None]]] = []
        self._stopped: dict[int, tuple[float, Actor]] = {}
        self._wanted = {WORKER: 3, SUBMITTER: SUBMITTERS, CONTROLLER: CONTROLLERS, INSPECTOR: INSPECTORS}
        self._coming: Counter[str] = Counter()

    # What runs

    def start(self, kind: str) -> None:
        """Start a process of this kind, with all that chance decides about it."""
        name = f"{kind}-{self._count:05}"
        seed = self.luck.getrandbits(32)
        # Syncing to the disk is what costs most: half of the processes do it, the others leave room for more kills.
        environ = {"BGJOBS_DURABILITY": ("full", "os")[self._count % 2]}
        mains: dict[str, Callable[[], object]] = {
            WORKER: partial(_work, self.clock, self._command()),
            SUBMITTER: partial(submitter.main, self.home, name, seed, self.clock),
            CONTROLLER: partial(controller.main, self.home, name, seed, self.clock),
            INSPECTOR: partial(inspector.main, self.home, name, seed, self.clock),
        }
        self._actors.append(Actor(kind, mains[kind], self.home / "errors" / name, environ))
        self._count += 1

    def _command(self) -> list[str]:
        """Return the command line of a worker with one to three runners."""
        options = {
            "--concurrency": self.luck.choice((1, 2, 3)),
            "--grace": self.luck.choice((0, 0.2, 5)),
            "--recycle": self.luck.choice((5, 50, 1000)),
            "--config": self.home / "allowed_jobs.toml",
        }
        return ["worker", *(str(word) for option in options.items() for word in option)]

    def _start_another(self, kind: str) -> None:
        self._coming[kind] -= 1
        self.start(kind)

    def actors(self, kind: str) -> list[Actor]:
        """Return the processes of a kind that have not ended."""
        return [actor for actor in self._actors if actor.kind == kind and actor.runs()]

    # What happens to it

    def rage(self, seconds: float) -> None:
        """Let it blow for so long."""
        now = time.monotonic()
        end, told = now + seconds, now
        deeds = [
            (self._kill_every, self._kill),
            (STOP_EVERY_S, self._stop),
            (ASK_EVERY_S, self._ask_to_end),
            (JUMP_EVERY_S, self._jump),
            (CROWD_EVERY_S, self._change_crowd),
        ]
        due = [now + 1.0 + self.luck.expovariate(1 / every) for every, _ in deeds]
        while (now := time.monotonic()) < end:
            self._bury()
            self._replace()
            self._wake(now)
            for index, (every, deed) in enumerate(deeds):
                while due[index] <= now:
                    deed()
                    due[index] += self.luck.expovariate(1 / every)
            if now - told > 10:
                told = now
                self._say(f"{end - now:.0f} s to go: {sum(self.kills().values())} kills")
            time.sleep(TICK_S)

    def kills(self) -> dict[str, int]:
        """Return how many processes were killed, by kind."""
        return {kind: self.did[f"kill {kind}"] for kind in VICTIMS}

    def _kill(self) -> None:
        """Kill somebody: who is chosen and not there is replaced by another choice."""
        kinds = dict(VICTIMS)
        while kinds:
            (kind,) = self.luck.choices(list(kinds), list(kinds.values()))
            del kinds[kind]
            if self._kill_a(kind):
                self.did[f"kill {kind}"] += 1
                return

    def _kill_a(self, kind: str) -> bool:
        if kind == RUNNER:
            runners = [pid for worker in self.actors(WORKER) for pid in worker.children()]
            return bool(runners) and cast.kill(self.luck.choice(runners))
        found = self.actors(WORKER if kind in {TREE, RECOVERER} else kind)
        if not found:
            return False
        # The older one of two, as a rule: one that has just begun has nothing yet that it could lose.
        victim = found[min(self.luck.randrange(len(found)), self.luck.randrange(len(found)))]
        runners = victim.children() if kind == TREE else []
        victim.kill()
        for pid in runners:
            cast.kill(pid)
        if kind == RECOVERER:
            # Somebody is about to take over from it: kill that one in the middle of it.
            self._starts.append((time.monotonic() + self.luck.uniform(0.02, 0.35), self._kill_recoverer))
        return True

    def _kill_recoverer(self) -> None:
        if self._kill_a(WORKER):
            self.did[f"kill {RECOVERER}"] += 1

    def _stop(self) -> None:
        """Stop a process for a while, as if the machine had forgotten it."""
        choice = [actor for actor in self._actors if actor.runs() and actor.pid not in self._stopped]
        workers = [actor for actor in choice if actor.kind == WORKER]
        if choice:
            actor = self.luck.choice(workers if workers and self.luck.random() < 0.8 else choice)
            actor.send(signal.SIGSTOP)
            self._stopped[actor.pid] = time.monotonic() + self.luck.uniform(0.5, 5), actor
            self.did["stop"] += 1

    def _wake(self, now: float) -> None:
        for pid, (until, actor) in list(self._stopped.items()):
            if now >= until or not actor.runs():
                actor.send(signal.SIGCONT)
                del self._stopped[pid]

    def _ask_to_end(self) -> None:
        """Ask a worker to end, as a person does: it puts back what it has."""
        workers = self.actors(WORKER)
        if workers:
            worker = self.luck.choice(workers)
            worker.expected = True
            worker.send(signal.SIGTERM)
            self.did["ask a worker to end"] += 1

    def _jump(self) -> None:
        set_clock(self.clock, self.luck.choice(JUMPS))
        self.did["clock jump"] += 1

    def _change_crowd(self) -> None:
        self._wanted[WORKER] = self.luck.choice((2, 3, 3, 4))

    # Life and death

    def _bury(self) -> None:
        for actor in [actor for actor in self._actors if not actor.runs()]:
            self._actors.remove(actor)
            self._look_into(actor)

    def _look_into(self, actor: Actor) -> None:
        """Note a process that ended by itself, or that had something strange to say."""
        if not actor.expected:
            self.troubles.append(f"a {actor.kind} ended by itself with status {actor.status}: {actor.says()[-2000:]}")
        elif "Traceback" in actor.says():
            self.troubles.append(f"a {actor.kind} had trouble: {actor.says()[-2000:]}")

    def _replace(self) -> None:
        now = time.monotonic()
        due, self._starts = [do for at, do in self._starts if at <= now], [one for one in self._starts if one[0] > now]
        for do in due:
            do()
        for kind, wanted in self._wanted.items():
            for _ in range(wanted - len(self.actors(kind)) - self._coming[kind]):
                self._coming[kind] += 1
                self._starts.append((now + self.luck.uniform(0, PAUSES_S[kind]), partial(self._start_another, kind)))

    # After it

    def calm(self, limit: float) -> None:
        """Stop meddling, and let workers run all that is left, for so many seconds at most."""
        for actor in self._actors:
            actor.send(signal.SIGCONT)
            if actor.kind != WORKER:
                actor.kill()
        self._starts.clear()
        set_clock(self.clock, 0)
        for _ in range(2):
            self.start(WORKER)
        self._wait_for_the_last(limit, quiet_s=QUIET_S)
        # What was put off by a clock that ran ahead waits for that time to come.
        set_clock(self.clock, 2 * DAY_MS)
        self._wait_for_the_last(limit)
        if self._unended():
            self.troubles.append(f"{self._unended()} jobs have not ended within {limit:.0f} s")
        self._end_workers()

    def _wait_for_the_last(self, limit: float, *, quiet_s: float = math.inf) -> None:
        """Wait until every job has ended, or for so long; or until their number has not changed for a while."""
        left, changed, end = -1, 0.0, time.monotonic() + limit
        while (now := time.monotonic()) < end:
            self._bury()
            before, left = left, self._unended()
            changed = now if left != before else changed
            if not left or now - changed > quiet_s:
                break
            time.sleep(0.1)

    def _unended(self) -> int:
        return sum(len(names) for place in ("pending", "claimed") for _, _, names in os.walk(self.spool / place))

    def _end_workers(self) -> None:
        workers = self.actors(WORKER)
        for worker in workers:
            worker.expected = True
            worker.send(signal.SIGTERM)
        for worker in workers:
            if worker.wait(30) != 0:
                self.troubles.append(f"a worker ended with {worker.status} when asked to: {worker.says()[-2000:]}")
        self._bury()
        for pid, words in cast.left_behind(self.spool):
            self.troubles.append(f"process {pid} is left: {words}")
        self.troubles += [f"the spool at rest: {found}" for found in inspector.look(self.spool)]

    def close(self) -> None:
        """Kill what is left, whatever happened."""
        for actor in self._actors:
            if actor.runs():
                actor.kill()
                actor.wait(10)
        for pid, _ in cast.left_behind(self.spool):
            cast.kill(pid)
