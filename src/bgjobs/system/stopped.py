"""Tell whether a process stands still: stopped by a signal, by a terminal, or by a debugger."""

from __future__ import annotations

import psutil

from bgjobs.system import birth

_STILL = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}


def is_stopped(pid: int, born: str) -> bool:
    """Tell whether the process with this pid that was born then lives, and does nothing until it is continued."""
    try:
        return psutil.Process(pid).status() in _STILL and birth(pid) == born
    except psutil.Error:
        return False
