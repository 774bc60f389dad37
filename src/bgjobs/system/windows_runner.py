"""What a runner would have to ask of its own process, if its job object did not see to it."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has


def die_with_parent() -> None:
    """Do nothing: the job object that `start_child` made kills this process when its maker dies."""


def children() -> bool:
    """Return False: processes have no children here, and the job object ends whatever this one started."""
    return False
