"""Jobs that take much of what there is: memory, processor time, descriptors, disk."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
import time

RESERVED: list[mmap.mmap] = []
SPIN = "while True: pass"
WRITE = """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, most programs do not
with open(sys.argv[1], "wb", buffering=0) as file:
    while file.write(bytes(int(sys.argv[2]))):
        pass
"""
KINDS = ("AS", "CORE", "CPU", "FSIZE", "NOFILE")


class Greedy:
    def echo(self, value: str) -> str:
        return value

    def limits(self) -> dict[str, list[int]]:
        return {kind: list(resource.getrlimit(getattr(resource, f"RLIMIT_{kind}"))) for kind in KINDS}

    def clock(self) -> float:
        return time.process_time()

    def allocate(self, mib: int) -> int:
        bytearray(mib << 20)
        return os.getpid()

    def reserve(self, mib: int) -> int:
        """Take room for addresses, and use none of it."""
        RESERVED.append(mmap.mmap(-1, mib << 20))
        return os.getpid()

    def start_thread(self) -> int:
        threading.Thread(target=bytearray, args=(1000,)).start()
        return os.getpid()

    def spin(self, seconds: float) -> int:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return os.getpid()

    def ignore_the_limit(self) -> int:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        return os.getpid()

    def spin_in_child(self) -> int:
        return subprocess.run([sys.executable, "-c", SPIN], check=False).returncode

    def open_files(self, count: int) -> int:
        files = [open(os.devnull, "rb") for _ in range(count)]  # noqa: SIM115 - all of them at a time
        for file in files:
            file.close()
        return os.getpid()

    def write_file(self, path: str, size: int) -> int:
        with open(path, "wb", buffering=0) as file:
            written = 0
            while written < size:
                written += file.write(bytes(size - written)) or 0
        return written

    def write_in_child(self, path: str, size: int) -> int:
        return subprocess.run([sys.executable, "-c", WRITE, path, str(size)], check=False).returncode

    def talk(self, size: int) -> str:
        for _ in range(size // 100):
            print("x" * 99)
        return "said all"

    def change_limits(self, kind: str, soft: int) -> int:
        which = getattr(resource, f"RLIMIT_{kind}")
        resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
        return os.getpid()

    def lower_for_good(self, kind: str, most: int) -> int:
        resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (most, most))
        return os.getpid()
