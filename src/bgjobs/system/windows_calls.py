"""The Windows calls that Python does not offer and that answer one question."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_TIME_OF_DAY = 3
_MOST_NAME = 256
_REPLACE_EXISTING = 0x1
_WRITE_THROUGH = 0x8

_move_file = ctypes.WinDLL("kernel32", use_last_error=True).MoveFileExW
_move_file.argtypes = (wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD)


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


def move_file(source: str, target: str, *, instead: bool) -> None:
    """Rename a file or directory, `instead` of what is at the target, and return when that is on the disk.

    Raises OSError. Python's own renaming returns when the new name is in the memory of the system.
    """
    if "\0" in source + target:
        raise ValueError("embedded null character")  # the system would take the path to end there
    if not _move_file(source, target, _WRITE_THROUGH | (_REPLACE_EXISTING if instead else 0)):
        code = ctypes.get_last_error()
        raise OSError(None, ctypes.FormatError(code), source, code, target)


def drive_type(root: str) -> int:
    """Return the number that Windows has for the kind of drive whose root directory this is."""
    return int(ctypes.windll.kernel32.GetDriveTypeW(ctypes.c_wchar_p(root)))


def computer_name() -> str:
    """Return the name of this machine, as COMPUTERNAME has it. Raises OSError."""
    size = wintypes.DWORD(_MOST_NAME)
    name = ctypes.create_unicode_buffer(_MOST_NAME)
    if not ctypes.windll.kernel32.GetComputerNameW(name, ctypes.byref(size)):
        raise ctypes.WinError()
    return name.value


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
