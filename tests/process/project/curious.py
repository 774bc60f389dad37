"""Jobs that look at where they are."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

from bgjobs import Queue, current_job

SHOW = """
import os
found = []
for number in range(256):
    try:
        os.fstat(number)
    except OSError:
        continue
    found.append(number)
print(*found)
"""


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

    def process(self) -> dict[str, object]:
        mask = os.umask(0o077)
        os.umask(mask)
        found: dict[str, object] = {"pid": os.getpid(), "umask": mask, "path": sys.path}
        if sys.platform != "win32":
            found |= {"session": os.getsid(0), "group": os.getpgrp()}
        return found

    def descriptors(self) -> dict[str, list[object]]:
        """Say what the descriptors of this process are, and which ones a program has that it starts carelessly."""
        mine = []
        for number in os.listdir("/proc/self/fd"):
            try:
                mine.append(os.readlink(f"/proc/self/fd/{number}"))
            except FileNotFoundError:
                continue  # the one that listed them
        command = [sys.executable, "-c", SHOW]
        shown = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE, check=True).stdout
        return {"mine": list(mine), "inherited": [int(number) for number in shown.split()]}

    def import_module(self, name: str) -> str | None:
        return import_module(name).__file__
