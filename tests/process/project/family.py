"""On Windows: a process that notes its pid, starts another one that leaves home, that one a third, and stays.

family.py NOTES GENERATIONS
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from filelock import FileLock

if sys.platform == "win32":
    path, generations = sys.argv[1], int(sys.argv[2])
    if generations:
        quiet = subprocess.DEVNULL
        subprocess.Popen(
            [sys.executable, __file__, path, str(generations - 1)],
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            creationflags=subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    with FileLock(f"{path}.lock"), open(path, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(600)
