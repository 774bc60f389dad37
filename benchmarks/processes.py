"""Start a contestant's worker, and end it together with every process that it started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
LOG = "worker.log"
PATIENCE_S = 10.0


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

    def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Ask it to end, and after so long kill what is left of it and its children."""
        family = self._children()
        try:
            self._process.terminate()
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass  # it is killed below
        finally:
            self._process.kill()
            self._process.wait()
            _, alive = psutil.wait_procs(family, timeout=0.5)
            for process in alive:
                process.kill()
            psutil.wait_procs(alive, timeout=PATIENCE_S)

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
