"""The job that every contestant runs. Imported by all their processes, so it imports next to nothing."""

from __future__ import annotations

import os
import struct
import time

EFFECTS = "effects"
LONG = 10**12  # a job with at least this number takes a while
LONG_S = 60.0
RECORD = struct.Struct("<qqq")  # number of the job, process id, monotonic moment in ns


def note(number: int) -> int:
    """Append one record to the effects in the current directory, in one write, and return the number.

    Those from LONG on then sleep.
    """
    # First of all: the monotonic clock is one for all processes, so this is the moment at which the job started.
    started = time.monotonic_ns()
    descriptor = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, RECORD.pack(number, os.getpid(), started))
    finally:
        os.close(descriptor)
    if number >= LONG:
        time.sleep(LONG_S)
    return number
