"""Jobs that look at where they are."""

from __future__ import annotations

import os
import sys

from bgjobs import Queue, current_job


class Curious:
    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def place(self) -> list[object]:
        return [os.getcwd(), __file__, current_job().id, current_job().attempt]

    def read_input(self) -> list[str]:
        return [sys.stdin.read(), os.read(0, 10).decode()]

    def submit(self, value: str) -> str:
        return Queue.open().submit("Honest", "echo", [value]).id

    def report(self, key: str) -> str:
        return f"a key of {len(key)} characters"
