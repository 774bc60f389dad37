"""Look at other processes, in the way that this system has for it."""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

if sys.platform == "darwin":
    from bgjobs.system.darwin_processes import birth, descendants, environment, in_session, look, pids
else:
    from bgjobs.system.linux_processes import birth, descendants, environment, in_session, look, pids

__all__ = ["birth", "descendants", "environment", "in_session", "look", "pids"]
