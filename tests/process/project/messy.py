"""Jobs that leave something behind in their process."""

from __future__ import annotations

import locale
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HANDLED = ("SIGTERM", "SIGINT", "SIGALRM", "SIGUSR1", "SIGCHLD", "SIGPIPE")


class Messy:
    def look(self) -> dict[str, Any]:
        """Say what this process is like."""
        mask = os.umask(0o077)
        os.umask(mask)
        return {
            "cwd": os.getcwd(),
            "umask": mask,
            "locale": locale.setlocale(locale.LC_ALL),
            "path": sys.path,
            "environment": {name: text for name, text in os.environ.items() if name != "BGJOBS_ID"},
            "threads": sorted(thread.name for thread in threading.enumerate()),
            "handlers": {
                name: str(signal.getsignal(getattr(signal, name))) for name in HANDLED if hasattr(signal, name)
            },
        }

    def change_surroundings(self) -> None:
        os.chdir(tempfile.gettempdir())
        os.umask(0)
        locale.setlocale(locale.LC_ALL, "C")
        os.environ["LEFT_BEHIND"] = "yes"
        os.environ.pop("HOME", None)
        os.environ["PATH"] = "/nowhere"
        sys.path.insert(0, "/nowhere")

    def replace_handlers(self, names: list[str]) -> None:
        for name in names:
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def leave_alarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    def leave_thread(self) -> None:
        threading.Thread(target=time.sleep, args=(600,), name="left behind").start()

    def leave_child(self, path: str) -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        Path(path).write_text(f"{child.pid}\n", "utf-8")

    def leave_daemon(self, path: str) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path(f"{path}.new").write_text(f"{os.getpid()}\n", "utf-8")
                Path(f"{path}.new").rename(path)
                time.sleep(600)
            os._exit(0)
        os.wait()
        while not os.path.exists(path):  # the process is ours to kill: let it say first who it is
            time.sleep(0.005)
