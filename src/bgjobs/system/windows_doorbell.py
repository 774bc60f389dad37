"""Listen to the doorbell file by looking at it: the system tells about folders only, and late."""

from __future__ import annotations

import sys

from bgjobs.system.polled_doorbell import PolledDoorbell

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has


class Doorbell(PolledDoorbell):
    """Listens to a doorbell file, which is looked at again and again."""
