"""A process that notes its pid, starts another one that leaves home, that one a third, and stays.

family.py NOTES GENERATIONS
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from filelock import FileLock

path, generations = sys.argv[1], int(sys.argv[2])
if generations:
    command = [sys.executable, __file__, path, str(generations - 1)]
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        flags = 0
    quiet = subprocess.DEVNULL
    subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=quiet, creationflags=flags, start_new_session=sys.platform != "win32"
    )
with FileLock(f"{path}.lock"), open(path, "a", encoding="utf-8") as file:
    file.write(f"{os.getpid()}\n")
time.sleep(600)
