"""What happens to the processes of the soak: kills, stops, polite requests, and a clock that jumps."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.soak import cast
from tests.soak.clocks import set_clock
from tests.soak.troupe import CONTROLLER, INSPECTOR, STRANGER, SUBMITTER, WORKER

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.soak.cast import Actor
    from tests.soak.troupe import Troupe

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
JUMPS = (0, 0, -HOUR_MS, HOUR_MS, -DAY_MS, DAY_MS)
JUMP_EVERY_S, STOP_EVERY_S, ASK_EVERY_S, CROWD_EVERY_S = 4.0, 3.0, 5.0, 10.0
FIRST_S = 1.0
RUNNER, TREE, RECOVERER = "runner", "worker tree", "recoverer"
VICTIMS = {
    RUNNER: 32,
    WORKER: 14,
    TREE: 4,
    RECOVERER: 4,
    SUBMITTER: 26,
    STRANGER: 4,
    CONTROLLER: 12,
    INSPECTOR: 4,
}


class Chaos:
    """Each deed comes at random moments, so often on average."""

    def __init__(self, troupe: Troupe, clock: Path, luck: random.Random, *, kill_every: float) -> None:
        """Begin in a second. `kill_every` is in seconds."""
        self.did: Counter[str] = Counter()
        self._troupe = troupe
        self._clock = clock
        self._luck = luck
        self._recoverers: list[float] = []
        self._stopped: dict[int, tuple[float, Actor]] = {}
        self._deeds: list[tuple[float, Callable[[], None]]] = [
            (kill_every, self._kill),
            (STOP_EVERY_S, self._stop),
            (ASK_EVERY_S, self._ask_to_end),
            (JUMP_EVERY_S, self._jump),
            (CROWD_EVERY_S, self._change_crowd),
        ]
        begin = time.monotonic() + FIRST_S
        self._due = [begin + luck.expovariate(1 / every) for every, _ in self._deeds]

    def strike(self) -> None:
        """Do all that is due."""
        now = time.monotonic()
        for index, (every, deed) in enumerate(self._deeds):
            while self._due[index] <= now:
                deed()
                self._due[index] += self._luck.expovariate(1 / every)
        for _ in [at for at in self._recoverers if at <= now]:
            self.did[f"kill {RECOVERER}"] += self._kill_a(WORKER)
        self._recoverers = [at for at in self._recoverers if at > now]
        for pid, (until, actor) in list(self._stopped.items()):
            if now >= until or not actor.runs():
                actor.send(signal.SIGCONT)
                del self._stopped[pid]

    def kills(self) -> Counter[str]:
        """Return how many processes were killed, by kind."""
        return Counter({kind: self.did[f"kill {kind}"] for kind in VICTIMS})

    def others(self) -> Counter[str]:
        """Return how often something else was done."""
        return Counter({did: count for did, count in self.did.items() if not did.startswith("kill ")})

    def _kill(self) -> None:
        """Kill somebody: a choice that is not there is replaced by another."""
        kinds = dict(VICTIMS)
        while kinds:
            (kind,) = self._luck.choices(list(kinds), list(kinds.values()))
            del kinds[kind]
            if self._kill_a(kind):
                self.did[f"kill {kind}"] += 1
                return

    def _kill_a(self, kind: str) -> bool:
        """Kill one of this kind; return whether there was any."""
        found = self._choice(kind)
        if kind == RUNNER:
            pids = [pid for worker in found for pid in worker.children()]
            return bool(pids) and cast.kill(self._luck.choice(pids))
        if not found:
            return False
        victim = self._luck.choice(found)
        pids = victim.children() if kind == TREE else []
        victim.kill()
        for pid in pids:
            cast.kill(pid)
        if kind == RECOVERER:
            # Somebody is about to take over from it: kill that one in the middle of it.
            self._recoverers.append(time.monotonic() + self._luck.uniform(0.02, 0.35))
        return True

    def _choice(self, kind: str) -> list[Actor]:
        if kind not in {RUNNER, WORKER, TREE, RECOVERER}:
            return self._troupe(kind)
        # As a rule one that has jobs in its hands: another has nothing that it could lose or run twice.
        return self._troupe.busy() if self._luck.random() < 0.8 else self._troupe(WORKER)

    def _stop(self) -> None:
        """Stop a process for a while, as if the machine had forgotten it."""
        kinds = [WORKER] if self._luck.random() < 0.8 else []
        found = [actor for actor in self._troupe(*kinds) if actor.pid not in self._stopped]
        if found:
            actor = self._luck.choice(found)
            actor.send(signal.SIGSTOP)
            self._stopped[actor.pid] = time.monotonic() + self._luck.uniform(0.5, 5), actor
            self.did["stop"] += 1

    def _ask_to_end(self) -> None:
        """Ask a worker to end, as a person does: it puts back what it has."""
        workers = self._troupe(WORKER)
        if workers:
            worker = self._luck.choice(workers)
            worker.expected = True
            worker.send(signal.SIGTERM)
            self.did["ask a worker to end"] += 1

    def _jump(self) -> None:
        self.did["clock jump"] += set_clock(self._clock, self._luck.choice(JUMPS))

    def _change_crowd(self) -> None:
        self._troupe.wanted[WORKER] = self._luck.choice((2, 3, 3, 4))
