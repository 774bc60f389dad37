"""The jobs of the power-cut test. They note each run on a disk whose power stays on."""

from __future__ import annotations

import os
import time

from bgjobs import current_job


class Work:
    """Small jobs."""

    def sign(self, notes: str) -> str:
        """Note that the job runs."""
        _note(notes)
        return "signed"

    def nap(self, notes: str, seconds: float) -> None:
        """Note that the job runs, and take a moment."""
        _note(notes)
        time.sleep(seconds)

    def fail_first(self, notes: str) -> None:
        """Fail the first attempt of which the job knows."""
        if current_job().attempt == 1:
            raise OSError("not yet")


def _note(notes: str) -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{current_job().id}\n".encode())
    finally:
        os.close(descriptor)
