"""A project to try commands in, and ways to run them: in the test's own process, as one, and on a pseudo-terminal."""

from __future__ import annotations

import gc
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import Queue
from bgjobs.cli.app import run
from bgjobs.config.settings import load
from tests.measuring import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from bgjobs.job import Job

PATIENCE_S = 90.0
ALLOWED = """
[bgjobs]
retries = 0
retry_delay = "0.1s"
timeout = "20s"
kill_after = "1s"

[jobs.Work]
class = "work:Work"
methods = ["echo", "kinds", "add", "fail", "hostile", "sleep", "step_by_step", "nothing", "login", "flaky", "leave"]
description = "What tests need"
secret = ["password"]

[jobs.Other]
class = "work:Other"
methods = ["handle"]
priority = "low"

[jobs.Missing]
class = "work:Work"
methods = ["not_there"]
"""
WORK = '''
import os
import time

from bgjobs import current_job

PLACE = "imported"


class Work:
    def echo(self, text: str) -> str:
        """Print the text and return it."""
        print(text)
        return text

    def kinds(self, *args, **kwargs) -> list:
        return [type(value).__name__ for value in (*args, *kwargs.values())]

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    def fail(self, reason: str = "no") -> None:
        print("about to fail")
        raise ValueError(reason)

    def hostile(self) -> str:
        print("\\x1b]0;owned\\x07\\x1b[2J[bold]markup[/nope]\\ttab")
        current_job().progress(1, 2, "\\x1b[31m[/x]")
        raise RuntimeError("line\\nbreak \\x1b[2J [/nope]")

    def sleep(self, seconds: float) -> None:
        print("asleep", flush=True)
        time.sleep(seconds)  # the job that takes a while

    def step_by_step(self, gate: str) -> str:
        current_job().progress(1, 4, "first")
        print("one", flush=True)
        while not os.path.exists(gate):
            time.sleep(0.02)  # between two looks
        print("two", flush=True)
        return "through"

    def nothing(self) -> None:
        pass

    def login(self, user: str, password: str) -> str:
        return user

    def flaky(self) -> str:
        attempt = current_job().attempt
        print("attempt", attempt)
        if attempt == 1:
            raise OSError("not yet")
        return "at last"

    def leave(self) -> None:
        os._exit(3)


class Other:
    def handle(self) -> None:
        pass
'''

Result = subprocess.CompletedProcess[str]


STARTERS = {"worker", "run", "demo"}  # they change what belongs to a process: its signals, its session, its children


class Bgjobs:
    """`bgjobs` in a project, for one person.

    A call runs the command in the process of the test, which costs a tenth of a fresh interpreter: with its own
    environment, directory, standard streams (descriptors too), signal handlers and exit status. `process` is for what
    only a process shows: how it starts and ends, what signals do to it, what it says of bytes that are no text.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.home = home

    def __call__(
        self, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: str | bytes = ""
    ) -> Result:
        if args and args[0] in STARTERS:
            return self.process(*args, cwd=cwd, env=env)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin if isinstance(stdin, bytes) else stdin.encode())
            given.seek(0)
            with _as_if_alone(cwd or self.root, environment(self.home) | (env or {}), (given, out, err)):
                status = _status_of(list(args))
            return Result(["bgjobs", *args], status, _text(out), _text(err))

    def process(self, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Result:
        return subprocess.run(
            [sys.executable, "-m", "bgjobs", *args],
            cwd=cwd or self.root,
            env=environment(self.home) | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )


def _status_of(words: list[str]) -> int:
    try:
        return run(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


@contextmanager
def _as_if_alone(cwd: Path, env: dict[str, str], streams: tuple[BinaryIO, ...]) -> Iterator[None]:
    """Give the test's process what a process of its own would have, and take it away again."""
    with ExitStack() as later:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        later.callback(_restore_handlers, handlers)
        later.callback(os.chdir, os.getcwd())  # noqa: PTH109 - taken as it is
        os.chdir(cwd)
        later.callback(_set_environment, dict(os.environ))
        _set_environment(env)
        later.callback(gc.unfreeze)  # what a command freezes, the garbage of tests too, would never be collected
        for number, (name, file) in enumerate(zip(("stdin", "stdout", "stderr"), streams, strict=True)):
            later.enter_context(_redirected(name, number, file))
        yield


@contextmanager
def _redirected(name: str, number: int, file: BinaryIO) -> Iterator[None]:
    """Make a standard stream of this process, and its descriptor, which children inherit, those of a file."""
    ours, its = getattr(sys, name), os.dup(number)
    if name != "stdin":
        ours.flush()
    os.dup2(file.fileno(), number)
    raw = open(number, "rb" if name == "stdin" else "wb", closefd=False)  # noqa: SIM115 - no file of its own
    errors = "backslashreplace" if name == "stderr" else "strict"  # as Python starts
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors=errors)
    setattr(sys, name, stream)
    try:
        yield
    finally:
        stream.flush()
        setattr(sys, name, ours)
        os.dup2(its, number)
        os.close(its)


def _restore_handlers(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _set_environment(env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    if hasattr(time, "tzset"):
        time.tzset()


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


def make_project(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    (root / "work.py").write_text(WORK, encoding="utf-8")
    return root


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BGJOBS_", "XDG_", "_BGJOBS"))}
    kept.pop("NO_COLOR", None)
    kept.pop("FORCE_COLOR", None)
    return kept | {"HOME": str(home), "TZ": "UTC", "PYTHONUTF8": "1"}


def open_queue(root: Path) -> Queue:
    return Queue(load(config=str(root / "allowed_jobs.toml"), environ={}))


class Finished:
    """What the session's project holds."""

    def __init__(self, root: Path, queue: Queue, bgjobs: Bgjobs) -> None:
        self.root = root
        self.queue = queue
        self.bgjobs = bgjobs
        self.jobs: dict[str, Job] = {}


def objects(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def error(result: Result) -> dict[str, str]:
    """The one error that a command printed as JSON."""
    [line] = result.stderr.splitlines()
    found: dict[str, str] = json.loads(line)["error"]
    assert set(found) == {"code", "message", "hint"}
    return found


def wait_until(happened: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)  # between two looks


SIZES = {"COLUMNS", "LINES"}  # set by whoever runs the tests, they would win over the size of the terminal


def on_terminal(
    argv: list[str], *, cwd: Path, env: dict[str, str], columns: int = 120, until: Callable[[str], bool] | None = None
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; return its exit status and all that it wrote there."""
    import fcntl  # noqa: PLC0415 - POSIX only
    import pty  # noqa: PLC0415 - POSIX only
    import termios  # noqa: PLC0415 - POSIX only

    env = env if until is None else unmeasured(env)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", *argv],
        cwd=cwd,
        env={name: value for name, value in env.items() if name not in SIZES} | {"TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    shown = bytearray()
    asked = False
    deadline = time.monotonic() + PATIENCE_S
    while piece := _read(ours, deadline):
        shown += piece
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it goes on {'though it was asked to stop' if asked else 'without end'}: {bytes(shown)!r}")
        if until is not None and not asked and until(shown.decode("utf-8", "replace")):
            process.send_signal(signal.SIGINT)
            asked = True
    os.close(ours)
    return process.wait(PATIENCE_S), shown.decode("utf-8", "replace")


def _read(descriptor: int, deadline: float) -> bytes:
    """Return what comes next; nothing when the other end is closed, or in a word that nothing came in time."""
    if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        return b"[nothing more]"
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""  # the other end is closed
