"""How long a job that is submitted to an idle worker takes to start."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from benchmarks.contestants import PROCESSES
from benchmarks.effects import Effects, fault
from benchmarks.measures import OneByOne, Taken, percentile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

WARM_UP = 50
MOST_WARM_UPS = 20
UNEVENNESS = 0.25


class Latency(OneByOne):
    """Submits a job now and then to a worker that waits for one."""

    name = "latency"
    title = "From the call of submit to the first line of the job, idle worker (ms, less is better)"

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:
        """Wait until every process of the worker has run some jobs, and is idle again; then submit by the clock."""
        effects = Effects(directory)
        contestant.start_worker()
        warm = warm_up(contestant, effects)
        time.sleep(sizes.settle_s)
        called, returned = _submit_now_and_then(contestant, sizes)
        effects.wait_for(warm + sizes.shots)
        contestant.stop_worker()
        found = effects.read()
        wrong = fault(found, range(-warm, sizes.shots))
        if wrong:
            return Taken(fault=wrong)
        started = {effect.number: effect.started_ns for effect in found}
        latencies = tuple((started[number] - before) / 1e6 for number, before in enumerate(called))
        calls = tuple((after - before) / 1e6 for before, after in zip(called, returned, strict=True))
        return Taken(figure=percentile(latencies, 0.5), raw={"latency_ms": latencies, "call_ms": calls})

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Take the percentiles of all latencies together, and say how much of them is the call of submit."""
        every = [latency for sample in samples for latency in sample.raw["latency_ms"]]
        calls = [call for sample in samples for call in sample.raw["call_ms"]]
        return {
            "p50": percentile(every, 0.5),
            "p99": percentile(every, 0.99),
            "min": min(every),
            "max": max(every),
            "submit p50": percentile(calls, 0.5),
        }


def warm_up(contestant: Contestant, effects: Effects) -> int:
    """Submit jobs until each process has run some; return how many: they had the numbers from -1 downwards."""
    count = 0
    for _ in range(MOST_WARM_UPS):
        for _ in range(WARM_UP):
            count += 1
            contestant.submit(-count)
        effects.wait_for(count)
        found = effects.read()
        if len(found) < count or len({effect.pid for effect in found}) >= PROCESSES:
            break
    return count


def _submit_now_and_then(contestant: Contestant, sizes: Sizes) -> tuple[list[int], list[int]]:
    """Return the monotonic moments, in ns, before and after each call of submit."""
    luck = random.Random(0)  # uneven, or we might keep step with somebody's polling; and the same for all
    called, returned = [], []
    due = time.monotonic()
    for number in range(sizes.shots):
        time.sleep(max(0.0, due - time.monotonic()))
        due += sizes.pause_s * luck.uniform(1 - UNEVENNESS, 1 + UNEVENNESS)
        called.append(time.monotonic_ns())
        contestant.submit(number)
        returned.append(time.monotonic_ns())
    return called, returned
