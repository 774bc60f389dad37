"""Job objects: a child and all that it starts stay in one, and end with the process that made it."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_ACCOUNTING, _EXTENDED_LIMITS = 1, 9
_KILL_ON_JOB_CLOSE = 0x2000
_PROCESS_TERMINATE = 0x0001
_PROCESS_SET_QUOTA = 0x0100
_PROCESS_SUSPEND_RESUME = 0x0800

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.CreateJobObjectW.restype = wintypes.HANDLE
_kernel.CreateJobObjectW.argtypes = (wintypes.LPVOID, wintypes.LPCWSTR)
_kernel.SetInformationJobObject.argtypes = (wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD)
_kernel.QueryInformationJobObject.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.LPVOID,
    wintypes.DWORD,
    wintypes.LPVOID,
)
_kernel.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
_kernel.TerminateJobObject.argtypes = (wintypes.HANDLE, wintypes.UINT)
_kernel.OpenProcess.restype = wintypes.HANDLE
_kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
_kernel.GetCurrentProcess.restype = wintypes.HANDLE
_kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
_resume = ctypes.WinDLL("ntdll").NtResumeProcess
_resume.argtypes = (wintypes.HANDLE,)


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which only the flags are used."""

    _fields_ = (
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", wintypes.DWORD),
        ("smallest_working_set", ctypes.c_size_t),
        ("largest_working_set", ctypes.c_size_t),
        ("active_processes", wintypes.DWORD),
        ("affinity", ctypes.c_size_t),
        ("priority_class", wintypes.DWORD),
        ("scheduling_class", wintypes.DWORD),
        ("io_counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


class _Accounting(ctypes.Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, of which only the number of live processes is used."""

    _fields_ = (
        ("times", ctypes.c_int64 * 4),
        ("page_faults", wintypes.DWORD),
        ("processes_ever", wintypes.DWORD),
        ("processes", wintypes.DWORD),
        ("terminated", wintypes.DWORD),
    )


def processes_beside_us() -> int | None:
    """Return the number of live processes in our job object, this one included; None if it cannot be asked."""
    found = _Accounting()
    done = _kernel.QueryInformationJobObject(None, _ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None)
    return int(found.processes) if done else None


class JobObject:
    """Contains a process and all that it starts. When the owner of the job object ends in any way, they end too."""

    def __init__(self) -> None:
        self._handle: int | None = _kernel.CreateJobObjectW(None, None)
        _check(bool(self._handle))
        limits = _Limits(flags=_KILL_ON_JOB_CLOSE)
        try:
            _check(
                _kernel.SetInformationJobObject(
                    self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
                )
            )
        except OSError:
            self.close()
            raise

    def add(self, pid: int) -> None:
        """Put a process that was created suspended into the job, and let it run. Raises OSError."""
        rights = _PROCESS_TERMINATE | _PROCESS_SET_QUOTA | _PROCESS_SUSPEND_RESUME
        process = _kernel.OpenProcess(rights, False, pid)  # noqa: FBT003 - a C call: do not let children inherit it
        _check(bool(process))
        try:
            _check(_kernel.AssignProcessToJobObject(self._handle, process))
            if _resume(process) != 0:
                raise OSError(f"process {pid} cannot be resumed")
        finally:
            _kernel.CloseHandle(process)

    def add_this_process(self) -> None:
        """Put this process into the job, and with it all that it starts, from the first moment. Raises OSError."""
        _check(_kernel.AssignProcessToJobObject(self._handle, _kernel.GetCurrentProcess()))

    def terminate(self) -> None:
        """Kill every process in the job, and those that they start meanwhile."""
        if self._handle:
            _check(_kernel.TerminateJobObject(self._handle, 1))

    def close(self) -> None:
        """Close the job object, which kills every process in it."""
        if self._handle:
            _kernel.CloseHandle(self._handle)
        self._handle = None


def _check(succeeded: int) -> None:
    if not succeeded:
        raise ctypes.WinError(ctypes.get_last_error())
