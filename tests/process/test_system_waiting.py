"""The doorbell, and waiting for many things at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from bgjobs.system.doorbell import PolledDoorbell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INTERRUPT: int
if sys.platform == "win32":
    INTERRUPT = signal.SIGINT
elif sys.platform == "darwin":
    INTERRUPT = signal.SIGUSR2
else:
    INTERRUPT = signal.SIGRTMIN + 7

LONG = 60.0  # seconds that no test waits: something ends the wait before


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "doorbell"
    path.write_bytes(b"\n")
    os.utime(path, (1, 1))
    return path


@pytest.fixture(params=["of the system", "polled"])
def bell(request: pytest.FixtureRequest, file: Path) -> Iterator[system.Doorbell | PolledDoorbell]:
    bell = PolledDoorbell(str(file)) if request.param == "polled" else system.Doorbell(str(file))
    yield bell
    bell.close()


@pytest.fixture
def poller() -> Iterator[system.Poller]:
    poller = system.Poller()
    yield poller
    poller.close()


@pytest.fixture
def pipe() -> Iterator[Callable[[], tuple[int, int]]]:
    pipes: list[int] = []

    def pipe() -> tuple[int, int]:
        pipes.extend(os.pipe())
        return pipes[-2], pipes[-1]

    yield pipe
    for fd in reversed(pipes):
        try:
            os.close(fd)
        except OSError:
            continue  # closed by the test


def collect(poller: system.Poller, count: int) -> list[tuple[object, bytes]]:
    arrived: list[tuple[object, bytes]] = []
    deadline = time.monotonic() + 30
    while len(arrived) < count and time.monotonic() < deadline:
        arrived += poller.wait(LONG)
    return arrived


def soon(action: Callable[[], object]) -> None:
    """Do it from another thread, when the main thread is likely to wait already."""
    timer = threading.Timer(0.05, action)
    timer.daemon = True
    timer.start()


def test_a_ring_is_heard_once(bell: PolledDoorbell, file: Path) -> None:
    assert not bell.rang()
    system.ring(str(file))
    until(bell.rang)
    assert not bell.rang()


def test_ringing_where_there_is_no_doorbell_is_no_error(tmp_path: Path) -> None:
    system.ring(str(tmp_path / "gone"))


def test_a_doorbell_that_was_replaced_is_heard_again(bell: PolledDoorbell, file: Path) -> None:
    file.unlink()
    until(bell.rang)
    file.write_bytes(b"\n")
    os.utime(file, (2, 2))
    until(bell.rang)
    system.ring(str(file))
    until(bell.rang)


def test_a_doorbell_that_was_renamed_is_not_followed(bell: PolledDoorbell, file: Path) -> None:
    file.rename(file.with_name("old"))
    until(bell.rang)
    file.write_bytes(b"\n")
    os.utime(file, (2, 2))
    until(bell.rang)
    bell.rang()
    system.ring(str(file.with_name("old")))
    assert not bell.rang()
    system.ring(str(file))
    until(bell.rang)


def test_a_doorbell_whose_file_comes_later_is_heard_in_the_wait(poller: system.Poller, tmp_path: Path) -> None:
    path = tmp_path / "doorbell"
    bell = system.Doorbell(str(path))
    assert bell.fileno() is None
    poller.watch_bell(bell)
    soon(lambda: path.write_bytes(b"\n"))
    assert poller.wait(LONG) == []
    assert bell.rang()
    os.utime(path, (1, 1))
    bell.rang()
    soon(lambda: system.ring(str(path)))
    assert poller.wait(LONG) == []
    assert bell.rang()
    bell.close()


def test_a_ring_ends_the_wait_and_is_left_for_the_caller(
    poller: system.Poller, bell: PolledDoorbell, file: Path
) -> None:
    poller.watch_bell(bell)
    for moment in range(10, 13):
        soon(lambda moment=moment: os.utime(file, (moment, moment)))  # type: ignore[misc]  # a default binds the loop variable
        assert poller.wait(LONG) == []
        assert bell.rang()
    assert poller.wait(0.2) == []
    assert not bell.rang()


def test_a_bell_that_cannot_be_looked_at_is_asked_by_the_caller(poller: system.Poller) -> None:
    class Elsewhere:
        def fileno(self) -> None:
            return None

        def rang(self) -> bool:
            return True

    poller.watch_bell(Elsewhere())
    assert poller.wait(LONG) == []


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux")
def test_without_a_watch_of_the_kernel_the_doorbell_is_polled(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[system.Doorbell.__module__]

    class NoneLeft:
        def inotify_init1(self, flags: int) -> int:
            return -1

    monkeypatch.setattr(module, "_system", NoneLeft())
    bell = system.Doorbell(str(file))
    assert bell.fileno() is None
    assert not bell.rang()
    system.ring(str(file))
    assert bell.rang()
    bell.close()


def test_what_comes_is_told_by_its_key_until_the_end(
    poller: system.Poller, pipe: Callable[[], tuple[int, int]]
) -> None:
    (read_one, write_one), (read_two, write_two) = pipe(), pipe()
    poller.watch("one", read_one)
    poller.watch("two", read_two)
    os.write(write_one, b"hello")
    os.write(write_two, b"world")
    assert sorted(collect(poller, 2), key=repr) == [("one", b"hello"), ("two", b"world")]
    os.write(write_one, b"last words")
    os.close(write_one)
    assert collect(poller, 2) == [("one", b"last words"), ("one", b"")]
    os.write(write_two, b"more")
    assert collect(poller, 1) == [("two", b"more")]


def test_what_is_forgotten_is_not_told(poller: system.Poller, pipe: Callable[[], tuple[int, int]]) -> None:
    (read_one, write_one), (read_two, write_two) = pipe(), pipe()
    poller.watch("one", read_one)
    poller.watch("two", read_two)
    poller.forget("one")
    poller.forget("one")
    os.write(write_one, b"unheard")
    os.write(write_two, b"heard")
    assert collect(poller, 1) == [("two", b"heard")]


def test_a_key_can_be_used_again(poller: system.Poller, pipe: Callable[[], tuple[int, int]]) -> None:
    (read_one, _), (read_two, write_two) = pipe(), pipe()
    poller.watch("slot", read_one)
    poller.watch("slot", read_two)
    os.write(write_two, b"second")
    assert collect(poller, 1) == [("slot", b"second")]


def test_a_pipe_that_is_written_without_end_is_read_in_pieces(
    poller: system.Poller, pipe: Callable[[], tuple[int, int]]
) -> None:
    read, write = pipe()
    total = 3_000_000

    def pour() -> None:
        data = memoryview(bytes(total))
        while data:
            data = data[os.write(write, data[:100_000]) :]
        os.close(write)

    poller.watch("pipe", read)
    threading.Thread(target=pour, daemon=True).start()
    received = 0
    while pieces := poller.wait(LONG):
        received += sum(len(data) for _, data in pieces)
        if pieces[-1][1] == b"":
            break
    assert received == total


def test_nothing_comes_before_the_time_is_up(poller: system.Poller) -> None:
    started = time.monotonic()
    assert poller.wait(0.1) == []
    assert time.monotonic() - started > 0.08
    assert poller.wait(0) == []


def test_another_thread_can_end_the_wait(poller: system.Poller) -> None:
    soon(poller.wake)
    assert poller.wait(LONG) == []


def test_to_be_woken_before_the_wait_counts(poller: system.Poller) -> None:
    for _ in range(100_000):
        poller.wake()
    assert poller.wait(LONG) == []
    assert poller.wait(0.01) == []


def test_closing_twice_and_waking_later_is_no_error() -> None:
    poller = system.Poller()
    poller.close()
    poller.close()
    poller.wake()


def test_a_poller_can_work_in_any_thread() -> None:
    results: list[list[tuple[object, bytes]]] = []

    def work() -> None:
        poller = system.Poller()
        results.append(poller.wait(0))
        poller.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert results == [[]]


if sys.platform != "win32":

    def test_a_signal_ends_the_wait(poller: system.Poller) -> None:
        seen: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))
        main = threading.main_thread().ident
        assert main
        try:
            soon(lambda: signal.pthread_kill(main, signal.SIGUSR1))
            assert poller.wait(LONG) == []
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [signal.SIGUSR1]

    def test_a_closed_poller_gives_back_the_signals() -> None:
        before = signal.set_wakeup_fd(-1)
        system.Poller().close()
        assert signal.set_wakeup_fd(before) == -1


class InterruptedByTest(BaseException):
    """What the handler raises."""


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(INTERRUPT)
    yield
    signal.signal(INTERRUPT, before)


@pytest.mark.usefixtures("_signals_as_before")
def test_a_thread_can_interrupt_the_main_thread() -> None:
    def handler() -> None:
        assert threading.current_thread() is threading.main_thread()
        raise InterruptedByTest

    interrupt = system.install_interrupt(handler)
    started = time.monotonic()

    def sleep() -> None:
        soon(interrupt)
        while time.monotonic() < started + LONG:
            time.sleep(LONG)

    with pytest.raises(InterruptedByTest):
        sleep()
    assert time.monotonic() - started < LONG / 2


def test_a_worker_is_asked_to_stop_by_the_signals_that_ask_for_it() -> None:
    assert len(system.stop_signals()) == (2 if sys.platform == "win32" else 3)
    assert signal.SIGINT in system.stop_signals()


LEAVING = """
import atexit, signal, sys
from bgjobs import system

def ask(send=signal.raise_signal, numbers=system.stop_signals()):
    for number in numbers:
        send(number)

class LastOfAll:
    def __del__(self, ask=ask):
        ask()

last_of_all = LastOfAll()  # goes when the interpreter has given up its handlers
atexit.register(ask)
asked = []
with system.stop_requests(lambda: asked.append(1), then_exit=True):
    ask()
ask()
assert len(asked) == len(LastOfAll.__del__.__defaults__[0].__defaults__[1])
sys.exit(7)
"""
INTERRUPTED_LATE = """
import atexit, signal, sys
from bgjobs.cli import main

atexit.register(signal.raise_signal, signal.SIGINT)
sys.argv = ["bgjobs", *sys.argv[1:]]
sys.exit(main())
"""


def test_requests_to_stop_that_come_while_a_process_exits_do_not_change_its_status() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (7, b"")


@pytest.mark.parametrize(("word", "status"), [("--version", 0), ("nothing-like-it", 2)])
def test_an_interrupt_that_comes_while_a_command_exits_does_not_change_its_status(word: str, status: int) -> None:
    command = [sys.executable, "-c", INTERRUPTED_LATE, word]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (status, False)


def test_after_the_block_requests_to_stop_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in system.stop_signals()]
    with system.stop_requests(lambda: None):
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in system.stop_signals()] == before
