"""Jobs that print."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time


class Noisy:
    def say(self, text: str) -> None:
        print(text)

    def print_both(self) -> None:
        print("to standard output")
        print("to standard error", file=sys.stderr)
        os.write(1, b"to descriptor 1\n")
        os.write(2, b"to descriptor 2\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)

    def log(self, text: str) -> None:
        logging.getLogger("noisy").info(text)

    def print_lines(self, count: int) -> None:
        for number in range(count):
            print(f"line {number:06d} {'.' * 50}")

    def print_one_line(self, size: int) -> None:
        print("begin" + "x" * size)

    def write_binary(self) -> None:
        sys.stdout.buffer.write(bytes(range(256)) * 4)

    def write_raw(self, size: int) -> None:
        """Write past Python's streams, as C code does."""
        chunk = b"y" * 65_536
        for _ in range(size // len(chunk)):
            os.write(1, chunk)

    def write_raw_and_wait(self, size: int, path: str) -> None:
        self.write_raw(size)
        while not os.path.exists(path):
            time.sleep(0.01)

    def write_raw_and_crash(self, size: int) -> None:
        self.write_raw(size)
        os._exit(9)

    def start_writer(self, size: int) -> None:
        subprocess.run([sys.executable, "-c", f"print('z' * {size})"], check=True)

    def close_streams(self) -> None:
        sys.stdout.close()
        sys.stderr.close()

    def crash(self, text: str) -> None:
        print(text, flush=True)
        os._exit(9)
