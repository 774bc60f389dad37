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
CHILDREN_PATIENCE_S = 0.5
LOOK_EVERY_S = 0.01


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
        """Return its id and those of its children and theirs, as far as they run now."""
        running = self._process.poll() is None
        return [self._process.pid, *(process.pid for process in self._children())] if running else []

    def kill(self) -> None:
        """Kill it and its children, as a crash of all of them would."""
        family = self._children()
        self._process.kill()
        for process in _running(family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        _wait_for_the_end(family, PATIENCE_S)

    def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Ask it to end, and after so long kill what is left of it and its children."""
        family = self._children()
        try:
            self._process.terminate()
            self._process.wait(patience_s)
            _wait_for_the_end(family, CHILDREN_PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass  # it is killed below
        finally:
            self._process.kill()
            self._process.wait()
            for process in _running(family):
                process.kill()
            _wait_for_the_end(family, PATIENCE_S)

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _wait_for_the_end(family: Sequence[psutil.Process], patience_s: float) -> None:
    give_up = time.monotonic() + patience_s
    while _running(family) and time.monotonic() < give_up:
        time.sleep(LOOK_EVERY_S)


def _running(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return those that run. Who has ended and lost its parent may keep its id until the system looks after it."""
    return [process for process in family if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
