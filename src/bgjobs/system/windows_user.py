"""Windows has no way to become another user without their password."""

from __future__ import annotations

import errno
import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has


def cannot_become(name: str) -> tuple[str, str] | None:
    """Return what keeps jobs from running as that user, and what to do about it."""
    return f"jobs cannot run as user {name} on Windows", "take the key out, and start the worker as that user"


def become(name: str) -> dict[str, str]:
    """Raise OSError."""
    raise OSError(errno.EPERM, f"cannot become user {name} on Windows")
