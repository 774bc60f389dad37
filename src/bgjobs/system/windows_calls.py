"""The Windows calls that Python does not offer and that answer one question."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_TIME_OF_DAY = 3


class _TimeOfDay(ctypes.Structure):
    _fields_ = (
        ("boot_time", ctypes.c_int64),
        ("current_time", ctypes.c_int64),
        ("zone_bias", ctypes.c_int64),
        ("zone_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("boot_time_bias", ctypes.c_uint64),
        ("sleep_time_bias", ctypes.c_uint64),
    )


def drive_type(root: str) -> int:
    """Return the number that Windows has for the kind of drive whose root directory this is."""
    return int(ctypes.windll.kernel32.GetDriveTypeW(ctypes.c_wchar_p(root)))


def boot_moment() -> int:
    """Return when the machine started, in units of 100 ns; setting the clock does not change it. Raises OSError."""
    answer = _TimeOfDay()
    status = ctypes.windll.ntdll.NtQuerySystemInformation(
        _TIME_OF_DAY, ctypes.byref(answer), ctypes.sizeof(answer), None
    )
    if status != 0:
        raise OSError(f"Windows does not say when it was started (status {status & 0xFFFFFFFF:#x})")
    # Setting the clock moves the start by as much, and the bias by the same.
    return int(answer.boot_time - answer.boot_time_bias)


def is_administrator() -> bool:
    """Tell whether this process has an administrator's rights."""
    return bool(ctypes.windll.shell32.IsUserAnAdmin())
