"""Append lines to the log files of the example application, safely from several processes at once."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path("app_logs")  # below the working directory of the jobs: `cwd` in allowed_jobs.toml


def append(name: str, event: str, about: str) -> str:
    """Append one line to `app_logs/NAME.log`, and return it."""
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {event}: {about!r}"  # !r: a line break stays within the line
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Opened to append and written at once: on Linux and macOS, lines of jobs that run at the same time do not mix.
    log = os.open(FOLDER / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(log, f"{line}\n".encode())
    finally:
        os.close(log)
    return line
