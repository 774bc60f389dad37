"""Real processes: they are told apart, and killed with all that they started, whatever they do about it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("signals and sessions are POSIX; Windows has tests of its own", allow_module_level=True)
assert sys.platform != "win32"

import resource  # noqa: E402 - on these systems only

from bgjobs import system  # noqa: E402 - on these systems only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt its orphans")

SOURCE = str(Path(system.__file__).parents[2])
ENVIRONMENT = system.base_environment(os.environ) | {"PYTHONPATH": SOURCE}

# Each of these says its pid on standard output and then stays, deaf to every polite signal.
STAY = """
import os, signal, time
from bgjobs import system  # noqa: E402 - on these systems only
for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
    signal.signal(number, signal.SIG_IGN)
def stay():
    os.write(1, b"%d\\n" % os.getpid())
    while True:
        time.sleep(60)
"""
RUNNER = STAY + "system.die_with_parent()\n"
WITH_FAMILY = (
    RUNNER
    + """
if os.fork() == 0:
    if os.fork() == 0:
        stay()      # a grandchild
    stay()          # a child
stay()
"""
)
WITH_ESCAPED_DAEMON = (
    RUNNER
    + """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        stay()      # in another session, and its parent is gone
    os._exit(0)
os.wait()
stay()
"""
)
WITH_LEFTOVER = (
    RUNNER
    + """
if os.fork() == 0:
    os.setpgid(0, 0)
    stay()          # same session, another group
os.read(0, 1)       # then the runner itself ends
os._exit(7)
"""
)
FORKS_WITHOUT_END = (
    RUNNER
    + """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    if OWN_GROUP:
        os.setpgid(0, 0)
    while True:     # the child goes on and the parent ends: no two looks see the same pid
        if os.fork():
            os._exit(0)
        time.sleep(0.002)
stay()
"""
)


def wait_until(condition: Callable[[], object], limit: float = 30) -> None:
    """Wait until `condition` holds; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def gone(*pids: int) -> bool:
    return all(system.birth(pid) is None for pid in pids)


def read_pids(child: system.Child, count: int) -> list[int]:
    text = b""
    while text.count(b"\n") < count:
        more = os.read(child.output_fd, 1000)
        assert more, f"the child ended after {text!r}"
        text += more
    return [int(line) for line in text.split()]


@pytest.fixture
def start() -> Iterator[Callable[..., system.Child]]:
    children: list[system.Child] = []

    def start(code: str, *, env: dict[str, str] = ENVIRONMENT) -> system.Child:
        children.append(system.start_child([sys.executable, "-c", code], env=env, cwd=None))
        return children[-1]

    yield start
    for child in children:
        child.kill_tree()
        child.close()
        assert child.wait(30) is not None


def test_a_child_gets_its_input_and_answers(start: Callable[..., system.Child]) -> None:
    child = start("import os; os.write(1, os.read(0, 10).upper()); raise SystemExit(3)")
    assert child.poll() is None
    os.write(child.input_fd, b"hello")
    assert os.read(child.output_fd, 10) == b"HELLO"
    assert child.wait(30) == 3
    assert child.poll() == 3


def test_a_child_runs_where_it_is_told_with_the_environment_it_is_given(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['COLOUR'], 'HOME' in os.environ, os.getsid(0) == os.getpid())"
    child = system.start_child([sys.executable, "-c", code], env={"COLOUR": "red"}, cwd=str(tmp_path))
    assert child.wait(30) == 0
    assert os.read(child.output_fd, 1000).decode().split() == [str(tmp_path.resolve()), "red", "False", "True"]
    child.close()
    child.close()


def test_a_command_that_is_not_there_leaves_nothing_open() -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        system.start_child(["/no/such/command"], env={}, cwd=None)
    assert psutil.Process().num_fds() == before


@contextlib.contextmanager
def few_descriptors(free: int) -> Iterator[None]:
    """Leave this process only so many descriptors to open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_a_free_descriptor_a_child_can_be_killed_and_closed(start: Callable[..., system.Child]) -> None:
    child = start(RUNNER + "stay()\n")
    read_pids(child, 1)
    with few_descriptors(0):
        child.kill_tree()
        assert child.wait(30) == -signal.SIGKILL
        child.close()
    child.close()


def test_a_start_for_which_there_are_too_few_descriptors_leaves_nothing() -> None:
    before = psutil.Process().num_fds()
    failed = 0
    for free in range(12):
        with few_descriptors(free), contextlib.suppress(OSError):
            failed += 1
            child = system.start_child([sys.executable, "-c", "input()"], env=ENVIRONMENT, cwd=None)
            failed -= 1
            child.kill()
            child.wait(30)
            child.close()
    assert failed >= 8
    assert psutil.Process().num_fds() == before
    assert not [child for child in psutil.Process().children() if "input()" in child.cmdline()]


def test_the_birth_of_a_process_is_its_own(start: Callable[..., system.Child]) -> None:
    child = start(STAY + "stay()")
    assert system.birth(child.pid) == system.birth(child.pid) is not None
    assert system.birth(os.getpid()) != system.birth(child.pid)


@pytest.mark.parametrize("pid", [-1, 0, 2**22 + 1])
def test_nobody_has_an_impossible_pid(pid: int) -> None:
    if pid > 0 or sys.platform == "linux":
        assert system.birth(pid) is None
    assert system.kill_leftover(pid, "1")
    system.kill_tree(pid)


def test_a_zombie_counts_as_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert system.birth(process.pid) is not None
    assert process.stdin
    process.stdin.close()
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert system.birth(process.pid) is None
    process.wait()


def test_a_family_that_ignores_signals_is_killed(start: Callable[..., system.Child]) -> None:
    child = start(WITH_FAMILY)
    family = read_pids(child, 3)
    child.kill_tree()
    wait_until(lambda: gone(*family))
    assert child.wait(30) == -signal.SIGKILL


@linux_only
def test_a_daemon_that_left_the_session_is_killed(start: Callable[..., system.Child]) -> None:
    child = start(WITH_ESCAPED_DAEMON)
    family = read_pids(child, 2)
    child.kill_tree()
    wait_until(lambda: gone(*family))


def test_a_process_that_somebody_else_started_is_killed_with_its_tree() -> None:
    # It shares our process group, which must survive.
    process = subprocess.Popen([sys.executable, "-c", WITH_FAMILY], stdout=subprocess.PIPE, env=ENVIRONMENT, bufsize=0)
    assert process.stdout
    family = [int(process.stdout.readline()) for _ in range(3)]
    system.kill_tree(process.pid)
    wait_until(lambda: gone(*family))
    assert process.wait(30) == -signal.SIGKILL
    process.stdout.close()


@pytest.mark.parametrize("own_group", [False, True])
def test_processes_that_fork_and_end_all_the_time_are_killed(
    start: Callable[..., system.Child], own_group: bool
) -> None:
    child = start(FORKS_WITHOUT_END.replace("OWN_GROUP", str(own_group)))
    [pid] = read_pids(child, 1)
    child.kill_tree()
    wait_until(lambda: gone(pid))
    # Whatever is left of it has no birth: dead, and waiting for somebody to ask how it ended.
    wait_until(lambda: gone(*(process.pid for process in psutil.process_iter() if session_of(process.pid) == pid)))


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_a_leftover_is_killed_by_pid_and_birth(start: Callable[..., system.Child]) -> None:
    child = start(WITH_FAMILY)
    family = read_pids(child, 3)
    born = system.birth(child.pid)
    assert born
    assert system.kill_leftover(child.pid, born)
    wait_until(lambda: gone(*family))


def test_a_wrong_birth_kills_nothing(start: Callable[..., system.Child]) -> None:
    child = start(WITH_FAMILY)
    family = read_pids(child, 3)
    assert system.kill_leftover(child.pid, "1")
    assert all(system.birth(pid) for pid in family)


def leave_one_behind(child: system.Child) -> tuple[str, int]:
    """Let the runner end; return its birth, and the pid of what it left."""
    born = system.birth(child.pid)
    assert born
    [left] = read_pids(child, 1)
    os.write(child.input_fd, b"x")
    return born, left


@pytest.mark.parametrize("reaped", [True, False])
def test_what_a_dead_runner_left_in_its_session_is_killed(start: Callable[..., system.Child], reaped: bool) -> None:
    child = start(WITH_LEFTOVER)
    born, left = leave_one_behind(child)
    wait_until(lambda: child.wait(0.1) if reaped else gone(child.pid))
    assert system.birth(left)
    assert system.kill_leftover(child.pid, born)
    wait_until(lambda: gone(left))


def test_the_child_itself_can_be_asked_to_kill_what_it_left(start: Callable[..., system.Child]) -> None:
    child = start(WITH_LEFTOVER)
    _, left = leave_one_behind(child)
    assert child.wait(30) == 7
    child.kill_tree()
    wait_until(lambda: gone(left))


def test_a_session_that_is_not_of_bgjobs_is_left_alone() -> None:
    # As a daemon of somebody else that lives under a number which once was a runner's.
    code = WITH_LEFTOVER.replace("system.die_with_parent()", "")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    left = int(process.stdout.readline())
    born = system.birth(process.pid)
    assert born
    process.stdin.write(b"x")
    assert process.wait(30) == 7
    assert system.kill_leftover(process.pid, born)
    assert system.birth(left)
    os.kill(left, signal.SIGKILL)
    process.stdin.close()
    process.stdout.close()


CHILDREN = """
import subprocess, sys
from bgjobs import system  # noqa: E402 - on these systems only
print(system.children())
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(system.children())
child.stdin.close()
while system.children():
    pass
print(system.children())
"""


def test_a_process_knows_whether_it_has_children() -> None:
    done = subprocess.run([sys.executable, "-c", CHILDREN], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
