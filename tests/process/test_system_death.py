"""When a worker dies, even by kill -9, its runners and all in their groups die at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bgjobs import system
from bgjobs.worker.protocol import Setup
from bgjobs.worker.runner import Runner, start_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Start: TypeAlias = Callable[[str, int], tuple[subprocess.Popen[bytes], list[int]]]

ENVIRONMENT = system.base_environment(os.environ) | {"PYTHONPATH": str(Path(system.__file__).parents[2])}

# A worker: starts the runner whose code it is given, passes on the pids that this one says, and stays.
WORKER = """
import os, sys, time
from bgjobs import system
from bgjobs.worker.protocol import Setup
from bgjobs.worker.runner import Runner, start_process
child = system.start_child([sys.executable, "-c", sys.argv[1]], env=dict(os.environ), cwd=None)
text = b""
while text.count(b"\\n") < int(sys.argv[2]):
    text += os.read(child.output_fd, 1000)
os.write(1, text)
while True:
    time.sleep(60)
"""
START = """
import os, subprocess, sys, time
from bgjobs import system
from bgjobs.worker.protocol import Setup
from bgjobs.worker.runner import Runner, start_process
system.die_with_parent()
assert "BGJOBS_DEATH_FD" not in os.environ
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)
os.write(1, b"%d\\n%d\\n" % (os.getpid(), child.pid))
"""
IDLE = START + "time.sleep(600)"
# One call of C code that goes on for years and lets no other thread run.
BUSY = START + "import re; re.match('(a*)*(a*)*(a*)*b', 'a' * 1000)"
CLOSES_ALL = START.replace("os.write(1,", "os.closerange(3, 1000); os.write(1,") + "time.sleep(600)"
LATE = """
import os, time
from bgjobs import system
from bgjobs.worker.protocol import Setup
from bgjobs.worker.runner import Runner, start_process
parent = os.getppid()
os.write(1, b"%d\\n" % os.getpid())
while os.getppid() == parent:
    time.sleep(0.005)
system.die_with_parent()
time.sleep(600)
"""


def wait_until(condition: Callable[[], object], limit: float = 30) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def gone(pids: list[int]) -> bool:
    return all(system.birth(pid) is None for pid in pids)


@pytest.fixture
def start_worker() -> Iterator[Start]:
    workers: list[subprocess.Popen[bytes]] = []
    left: list[int] = []

    def start(runner: str, count: int) -> tuple[subprocess.Popen[bytes], list[int]]:
        command = [sys.executable, "-c", WORKER, runner, str(count)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)
        workers.append(worker)
        assert worker.stdout
        pids = [int(worker.stdout.readline()) for _ in range(count)]
        left.extend(pids)
        return worker, pids

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()
    for pid in left:
        system.kill_tree(pid)


def test_an_idle_runner_and_its_child_die_with_the_worker(start_worker: Start) -> None:
    worker, pids = start_worker(IDLE, 2)
    worker.kill()
    wait_until(lambda: gone(pids))


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot signal a process whose threads do not run")
def test_a_runner_that_is_deep_in_c_code_dies_too_and_its_child(start_worker: Start) -> None:
    worker, pids = start_worker(BUSY, 2)
    runner = psutil.Process(pids[0])
    begun = runner.cpu_times().user
    wait_until(lambda: runner.cpu_times().user > begun + 0.3)
    worker.kill()
    wait_until(lambda: gone(pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a second line: the signal at the parent's death")
def test_a_runner_that_closed_all_its_files_dies_too(start_worker: Start) -> None:
    worker, pids = start_worker(CLOSES_ALL, 2)
    worker.kill()
    wait_until(lambda: gone(pids[:1]))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no moment between on Windows: the job object comes first")
def test_a_runner_whose_worker_is_already_dead_ends_itself(start_worker: Start) -> None:
    worker, pids = start_worker(LATE, 1)
    worker.kill()
    wait_until(lambda: gone(pids))


def test_one_runner_can_be_let_go_without_the_others() -> None:
    one, two = (system.start_child([sys.executable, "-c", IDLE], env=ENVIRONMENT, cwd=None) for _ in range(2))
    pids_of_one, pids_of_two = read_two(one), read_two(two)
    one.close()
    wait_until(lambda: gone(pids_of_one))
    assert one.wait(30) is not None
    assert two.poll() is None
    assert all(system.birth(pid) for pid in pids_of_two)
    two.close()
    wait_until(lambda: gone(pids_of_two))
    assert two.wait(30) is not None


def read_two(child: system.Child) -> list[int]:
    text = b""
    while text.count(b"\n") < 2:
        text += os.read(child.output_fd, 100)
    return [int(line) for line in text.split()]


def test_a_process_that_no_worker_started_is_not_touched() -> None:
    code = "from bgjobs import system; system.die_with_parent(); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.strip() == "alive"


@pytest.mark.skipif(sys.platform == "win32", reason="stopping a process is POSIX")
def test_a_runner_that_has_not_begun_is_never_stopped_on_its_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(number))
    runner = Runner(0, Setup(import_paths=(), cwd="/"), start_process(ENVIRONMENT), time.monotonic())
    (child,) = psutil.Process().children()
    runner.retire()
    # Had we been killed right after a SIGSTOP, before it was tied to us, it would have stayed for ever.
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert signal.SIGSTOP not in sent
