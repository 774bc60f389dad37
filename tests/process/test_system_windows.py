"""Windows: a job object holds a runner and all that it starts, and a file that is held is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if not TYPE_CHECKING and sys.platform != "win32":
    pytest.skip("job objects are Windows", allow_module_level=True)
assert sys.platform == "win32"

from bgjobs import system  # noqa: E402 - on this system only
from tests.wine import ON_WINE  # noqa: E402 - on this system only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVIRONMENT = system.base_environment(os.environ) | {"PYTHONPATH": str(Path(system.__file__).parents[2])}
FAMILY = """
import os, subprocess, sys, time
detached = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], creationflags=detached)
os.write(1, b"%d\\n%d\\n" % (os.getpid(), child.pid))
os.read(0, 1)
"""


def wait_until(condition: Callable[[], object], limit: float = 30) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def read_pids(fd: int) -> list[int]:
    text = b""
    while text.count(b"\n") < 2:
        text += os.read(fd, 100)
    return [int(line) for line in text.split()]


def gone(pids: list[int]) -> bool:
    return all(system.birth(pid) is None for pid in pids)


@pytest.fixture
def child() -> Iterator[system.Child]:
    child = system.start_child([sys.executable, "-c", FAMILY], env=ENVIRONMENT, cwd=None)
    yield child
    child.close()
    assert child.wait(30) is not None


def test_a_child_and_what_it_detached_are_killed(child: system.Child) -> None:
    pids = read_pids(child.output_fd)
    child.kill_tree()
    wait_until(lambda: gone(pids))


def test_what_a_dead_child_left_is_killed(child: system.Child) -> None:
    pids = read_pids(child.output_fd)
    os.write(child.input_fd, b"x")
    assert child.wait(30) == 0
    assert not gone(pids)
    child.kill_tree()
    wait_until(lambda: gone(pids))


def test_closing_kills_also_while_a_thread_reads(child: system.Child) -> None:
    pids = read_pids(child.output_fd)
    poller = system.Poller()
    poller.watch("child", child.output_fd)
    assert poller.wait(0) == []
    child.close()
    wait_until(lambda: gone(pids))
    poller.close()


def test_a_tree_that_somebody_else_started_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout
        pids = read_pids(process.stdout.fileno())
        born = system.birth(process.pid)
        assert born
        assert system.kill_leftover(process.pid, "1")
        assert system.birth(process.pid) == born
        assert system.kill_leftover(process.pid, born)
        wait_until(lambda: gone(pids))


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        system.start_child(["no-such-command"], env=ENVIRONMENT, cwd=None)


@pytest.mark.parametrize("step", [system.move, system.replace])
def test_a_file_that_is_held_is_waited_for(tmp_path: Path, step: Callable[[str, str], None]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    holder = one.open("rb")
    threading.Timer(0.2, holder.close).start()
    step(str(one), str(two))
    assert two.read_bytes() == b"1"


def test_a_file_that_is_held_for_ever_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "held"
    path.write_bytes(b"1")
    with path.open("rb"), pytest.raises(PermissionError):
        system.unlink(str(path))


def test_a_move_overwrites_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    with pytest.raises(FileExistsError):
        system.move(str(one), str(two))
    assert two.read_bytes() == b"2"


def test_a_file_that_bgjobs_has_open_can_be_moved_and_removed(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    descriptors = [system.open_new(one), system.open_append(one), system.open_read(one)]
    system.move(one, two)
    os.write(descriptors[0], b"1")
    assert os.read(descriptors[2], 10) == b"1"
    system.unlink(two)
    for descriptor in descriptors:
        os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_what_is_appended_goes_to_the_end_wherever_was_read(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    first, second = system.open_create_append(path), system.open_append(path)
    for number in range(5):
        for descriptor in (first, second):
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, b"%d\n" % number)
            system.sync_file(descriptor)
    os.lseek(first, 0, os.SEEK_SET)
    assert os.read(first, 100).split() == [b"%d" % (number // 2) for number in range(10)]
    os.close(first)
    os.close(second)


@pytest.mark.skipif(ON_WINE, reason="Wine finds the end of a file first and writes to it second")
def test_what_many_append_at_once_is_all_there(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def write() -> None:
        descriptor = system.open_create_append(str(path))
        for _ in range(1000):
            os.write(descriptor, b"line\n")
        os.close(descriptor)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == b"line\n" * 4000


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    descriptor = system.open_new(path)
    os.write(descriptor, b"a\nb\r\nc\x1ad\n")
    os.close(descriptor)
    descriptor = system.open_read(path)
    assert os.read(descriptor, 100) == b"a\nb\r\nc\x1ad\n"
    os.close(descriptor)


@pytest.mark.parametrize("opened", [system.open_read, system.open_append, system.open_create_append])
def test_a_directory_is_told_from_a_file_that_may_not_be_opened(tmp_path: Path, opened: Callable[[str], int]) -> None:
    with pytest.raises(IsADirectoryError):
        opened(str(tmp_path))


@pytest.mark.parametrize("step", [system.move, system.replace])
def test_no_path_ends_at_a_zero_byte(tmp_path: Path, step: Callable[[str, str], None]) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(ValueError, match="null"):
        step(str(tmp_path / "one"), str(tmp_path / "two") + "\0.json")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_the_machine_has_one_name_and_one_boot_whatever_the_environment_calls_it() -> None:
    here = [system.host(), system.boot_id()]
    for name in (None, "elsewhere"):
        changed = {"COMPUTERNAME": name} if name else {}
        code = "from bgjobs import system; print(system.host(), system.boot_id())"
        environment = {key: text for key, text in ENVIRONMENT.items() if key != "COMPUTERNAME"} | changed
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.split() == [name or here[0], here[1]]


def test_the_clock_is_coarse_and_durations_are_not() -> None:
    assert time.get_clock_info("perf_counter").resolution < 0.001
    assert sys.version_info >= (3, 13) or time.get_clock_info("monotonic").resolution > 0.001
