"""Start a contestant's worker, and end it together with every process that it started."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
LOG = "worker.log"
PATIENCE_S = 10.0
SOON_S = 0.005


class Worker:
    """A worker in a directory. What it says goes to a log file there."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it, with the benchmarks on its import path, in a session of its own: Ctrl-C is for us to hear."""
        with (directory / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """Return the ids of the processes that it consists of now."""
        return [self._process.pid, *(process.pid for process in self._family())]

    def kill(self) -> None:
        """Kill it and its children, as a crash of all of them would."""
        family = self._family()
        self._process.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        # They are not our children: whoever collects them may take a while, but a zombie does nothing any more.
        give_up = time.monotonic() + PATIENCE_S
        while any(map(_lives, family)) and time.monotonic() < give_up:
            time.sleep(SOON_S)

    def stop(self) -> None:
        """Ask it to end, and kill what is left of it and its children."""
        family = self._family()
        try:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass  # it is killed below
        finally:
            self._process.kill()
            self._process.wait()
            _, alive = psutil.wait_procs(family, timeout=0.5)
            for process in alive:
                process.kill()
            psutil.wait_procs(alive, timeout=PATIENCE_S)

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
