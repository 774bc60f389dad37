"""Contestants on Redis: each has a server of its own while it takes part, in the directory that is measured."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import UNSYNCED
from benchmarks.contestants.commanded import Commanded
from benchmarks.processes import Worker

if TYPE_CHECKING:
    from pathlib import Path

SERVER = "redis-server"
REDIS = "redis-server alone, on a unix socket, all else by default: now and then a snapshot, no append-only file"
PATIENCE_S = 10.0
LOOK_EVERY_S = 0.02


def is_here() -> bool:
    """Tell whether there is a server, and the package that speaks to it."""
    return shutil.which(SERVER) is not None and find_spec("redis") is not None


class OnRedis(Commanded):
    """Starts the server, and ends it. Nothing is synced before its client goes on."""

    submit_is = end_is = UNSYNCED
    _server: Worker | None = None
    _socket_directory: tempfile.TemporaryDirectory[str] | None = None

    def versions(self) -> dict[str, str]:
        """Return those of the server and of the package that speaks to it."""
        said = subprocess.run([SERVER, "--version"], capture_output=True, check=True, encoding="utf-8").stdout
        return {SERVER: said.partition("v=")[2].split()[0], "redis": version("redis")}

    def set_up(self, directory: Path) -> None:
        """Start the server, and wait until it answers."""
        self._directory = directory
        # Not in the directory that is measured: the path of a socket may have about a hundred bytes.
        self._socket_directory = tempfile.TemporaryDirectory(prefix="bgjobs-bench-redis-")
        self._socket = f"{self._socket_directory.name}/socket"
        here = ["--port", "0", "--unixsocket", self._socket, "--dir", str(directory)]
        self._server = Worker([SERVER, *here], directory)
        self._wait_for_an_answer()

    @property
    def url(self) -> str:
        """Return where the server is."""
        return f"unix://{self._socket}"

    def pids(self) -> list[int]:
        """Return also those of the server."""
        return [*super().pids(), *(self._server.pids() if self._server is not None else [])]

    def tear_down(self) -> None:
        """End the worker, then the server."""
        super().tear_down()
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        if self._socket_directory is not None:
            self._socket_directory.cleanup()

    def _wait_for_an_answer(self) -> None:
        redis: Any = importlib.import_module("redis")  # an optional package
        give_up = time.monotonic() + PATIENCE_S
        with redis.Redis(unix_socket_path=self._socket) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(LOOK_EVERY_S)
                else:
                    return
