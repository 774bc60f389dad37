"""A worker tells the supervisor that started it how it is: over a real socket, as systemd reads it."""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.process.conftest import LIMIT, wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.conftest import Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such supervisor on Windows")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has sockets that lie in no directory")


class Ear:
    """A supervisor's socket, and all that came to it."""

    def __init__(self, address: str) -> None:
        self.name = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._heard: list[str] = []

    def heard(self) -> list[str]:
        """Return each line that came, in order."""
        while True:
            try:
                self._heard += self._socket.recv(65_536).decode().split("\n")
            except BlockingIOError:
                return list(self._heard)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", pytest.param("no directory", marks=linux_only)])
def ear(request: pytest.FixtureRequest) -> Iterator[Ear]:
    # Not in tmp_path: such an address has little more than a hundred letters.
    with tempfile.TemporaryDirectory() as folder:
        made = Ear(f"{folder}/ear é" if request.param == "a path" else f"@bgjobs/{folder}/ear")
        yield made
        made.close()


@pytest.fixture
def quiet_ear() -> Iterator[Ear]:
    with tempfile.TemporaryDirectory() as folder:
        made = Ear(f"{folder}/ear")
        yield made
        made.close()


def test_it_says_that_it_is_ready_what_it_does_and_that_it_stops(project: Project, ear: Ear) -> None:
    worker = project.start(environ={"NOTIFY_SOCKET": ear.name})
    wait_until(lambda: "READY=1" in ear.heard())
    assert [view.info.pid for view in project.queue._store.workers()] == [worker.pid]  # it has its place by then
    assert ear.heard()[:2] == ["READY=1", "STATUS=0 of 1 runners busy, jobs ended: 0"]
    project.queue.wait(project.queue.submit("Honest", "echo", ["hello"]).id, LIMIT)
    wait_until(lambda: "STATUS=0 of 1 runners busy, jobs ended: 1" in ear.heard())
    assert not [line for line in ear.heard() if line.startswith(("STOPPING", "WATCHDOG"))]
    assert worker.stop() == 0
    assert ear.heard().count("STOPPING=1") == 1
    assert ear.heard().count("READY=1") == 1


def test_it_says_that_it_stops_while_it_waits_for_its_jobs(project: Project, quiet_ear: Ear, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    worker = project.start(grace="1h", environ={"NOTIFY_SOCKET": quiet_ear.name, "WATCHDOG_USEC": "200000"})
    project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_until(notes.exists)
    worker.send(signal.SIGTERM)
    wait_until(lambda: "STOPPING=1" in quiet_ear.heard())
    so_far = quiet_ear.heard().count("WATCHDOG=1")
    wait_until(lambda: quiet_ear.heard().count("WATCHDOG=1") > so_far + 2)  # it is alive all the same
    assert worker.runs()
    go.touch()
    assert worker.ended() == 0


def test_it_says_that_it_lives_for_as_long_as_its_loop_goes_round(project: Project, quiet_ear: Ear) -> None:
    worker = project.start(environ={"NOTIFY_SOCKET": quiet_ear.name, "WATCHDOG_USEC": "200000"})
    wait_until(lambda: quiet_ear.heard().count("WATCHDOG=1") > 5)
    worker.send(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    so_far = quiet_ear.heard()
    time.sleep(0.5)  # five times as long as from one sign of life to the next
    assert quiet_ear.heard() == so_far
    worker.send(signal.SIGCONT)
    wait_until(lambda: len(quiet_ear.heard()) > len(so_far))


@pytest.mark.parametrize("named", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}])
def test_a_watchdog_of_somebody_else_or_none_is_not_fed(
    project: Project, quiet_ear: Ear, named: dict[str, str]
) -> None:
    worker = project.start(once=True, environ={"NOTIFY_SOCKET": quiet_ear.name, "WATCHDOG_USEC": "200000"} | named)
    assert worker.ended() == 0
    assert "READY=1" in quiet_ear.heard()
    assert "WATCHDOG=1" not in quiet_ear.heard()


def test_runners_and_jobs_do_not_learn_of_the_supervisor(project: Project, quiet_ear: Ear) -> None:
    project.allow('["COLOUR"]', '["NOTIFY_SOCKET", "WATCHDOG_USEC"]')
    worker = project.start(environ={"NOTIFY_SOCKET": quiet_ear.name, "WATCHDOG_USEC": "200000"}).ready()
    project.queue.wait(project.queue.submit("Honest", "echo", ["hello"]).id, LIMIT)  # so that the runner is there
    assert worker.runners()
    for pid in worker.runners():
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & psutil.Process(pid).environ().keys()


@pytest.mark.parametrize("address", part(["/nowhere/at/all", "relative", "vsock:2:1234", "@" + "x" * 200, ""]))
def test_a_supervisor_that_cannot_be_reached_holds_nothing_up(project: Project, address: str) -> None:
    job = project.queue.submit("Honest", "echo", ["hello"])
    project.drain(environ={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"})
    assert project.queue.get(job.id).result == "hello"


def test_a_supervisor_that_reads_nothing_holds_nothing_up(project: Project, quiet_ear: Ear) -> None:
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    with suppress(BlockingIOError):  # until its queue is full
        while True:
            filler.sendto(b"x", quiet_ear.name)
    filler.close()
    job = project.queue.submit("Honest", "echo", ["hello"])
    project.drain(environ={"NOTIFY_SOCKET": quiet_ear.name})
    assert project.queue.get(job.id).result == "hello"
