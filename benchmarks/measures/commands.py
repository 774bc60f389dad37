"""How long a command takes, from the start of its process to its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.contestants import on_redis, rq
from benchmarks.measures import Measure, Row, Taken, at_work, below, broken, say
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes

NOTHING, TYPER, IMPORT = (f'python -c "{what}"' for what in ("pass", "import typer", "import bgjobs"))


class Commands(Measure):
    """Starts each command in turn, again and again."""

    name = "commands"
    title = "Whole process of a command (ms, less is better)"

    def run(self, contestants: Sequence[Contestant], directory: Path, sizes: Sizes) -> Iterator[Row]:
        """Start all of them once to warm up, then by the clock."""
        with ExitStack() as stack:
            commands = {**_ours(contestants, directory, stack), **_of_rq(directory, stack)}
            took: dict[str, list[float]] = {name: [] for name in commands}
            faults: dict[str, Taken] = {}
            say(f"{self.name}: {len(commands)} commands")
            for _ in range(sizes.starts + 1):
                for name, command in commands.items():
                    if name not in faults:
                        try:
                            took[name].append(milliseconds(command, directory))
                        except RuntimeError as error:
                            faults[name] = broken(error)
        for name, times in took.items():
            counted = tuple(times[1:])
            yield Row(name=name, taken=faults.get(name) or Taken(figure=median(counted), raw={"ms": counted}))

    def summary(self, samples: Sequence[Taken]) -> dict[str, float]:
        """Take all runs together."""
        every = [took for sample in samples for took in sample.raw["ms"]]
        return {"median": median(every), "min": min(every), "max": max(every)}

    def compared(self, row: str, durability: str) -> dict[str, str]:  # noqa: ARG002 - the interface
        """Compare with what Python itself takes, and with what Typer does."""
        return {"× pass": NOTHING, "× import typer": TYPER}


def milliseconds(command: Sequence[str], directory: Path) -> float:
    """Return how long this command took. Raises RuntimeError when it failed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    took = (time.perf_counter() - before) * 1e3
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
    return took


def installed(name: str) -> list[str]:
    """Return the command of this name that was installed beside Python, or the module of that name."""
    beside = Path(sys.executable).with_name(name)
    return [str(beside)] if beside.exists() else [sys.executable, "-m", name]


def _ours(contestants: Sequence[Contestant], directory: Path, stack: ExitStack) -> Mapping[str, Sequence[str]]:
    [ours] = contestants
    stack.enter_context(at_work(ours, directory))
    ours.submit(0)  # the first one makes the spool
    python, bgjobs = [sys.executable, "-c"], installed("bgjobs")
    return {
        NOTHING: [*python, "pass"],
        TYPER: [*python, "import typer"],
        IMPORT: [*python, "import bgjobs"],
        'python -c "from bgjobs import Queue"': [*python, "from bgjobs import Queue"],
        "bgjobs --version": [*bgjobs, "--version"],
        "bgjobs submit": [*bgjobs, "submit", "Work", "note", "1"],
        "bgjobs status": [*bgjobs, "status"],
        "bgjobs list": [*bgjobs, "list", "--limit", "10"],
    }


def _of_rq(directory: Path, stack: ExitStack) -> Mapping[str, Sequence[str]]:
    if not (on_redis.is_here() and rq.is_here()):
        return {}
    peer = rq.Rq(fork=False)
    stack.enter_context(at_work(peer, below(directory)))
    return {"rq enqueue": [*installed("rq"), "enqueue", "--quiet", "--url", peer.url, "benchmarks.work.note", ":1"]}
