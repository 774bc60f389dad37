"""Windows has no limits that a process could set for a while and put back: none is enforced there."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

UNENFORCED = frozenset({"max_memory", "max_cpu", "max_files", "max_file_size"})
CPU_SIGNAL = 0  # no process ends by a signal


class ResourceLimits:
    """The limits of this process: none."""

    intact = True

    def is_crowded(self, memory: int) -> bool:
        """Return False: no attempt has a limit that earlier ones could have used up."""
        del memory
        return False

    def impose(self, *, memory: int, cpu: float, files: int, file_size: int) -> None:
        """Do nothing: `UNENFORCED` says so to whoever asks."""

    def lift(self) -> None:
        """Do nothing."""
