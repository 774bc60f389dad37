"""What uWSGI is told to import. It runs inside its processes, where there is a module of its own."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contestants.uwsgi import AWAKE
from benchmarks.work import note

if TYPE_CHECKING:
    from collections.abc import Mapping

uwsgi: Any = importlib.import_module("uwsgi")


def run(job: Mapping[bytes, bytes]) -> Any:  # noqa: ANN401 - uWSGI has no types
    """Run a job, and let its file be deleted."""
    note(int(job[b"number"]))
    return uwsgi.SPOOL_OK


def forked() -> None:
    """Let a spooler say that it can be woken: one that cannot yet would be killed by the signal."""
    if uwsgi.i_am_the_spooler():
        Path(f"{AWAKE}{os.getpid()}").touch()


uwsgi.spooler = run
uwsgi.post_fork_hook = forked
