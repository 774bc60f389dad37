"""Start processes: runners, which die with this process, and workers that outlive it and its terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix import open_create_append  # noqa: E402 - on this system only
from bgjobs.system.posix_process_tree import kill_leftover, kill_marked  # noqa: E402 - on this system only
from bgjobs.system.posix_runner import DEATH_FD, RUNNER  # noqa: E402 - on this system only

if sys.platform == "linux":
    from bgjobs.system.linux_adoption import end_adopted, let_go, started
    from bgjobs.system.linux_processes import look
else:
    from bgjobs.system.darwin_processes import end_adopted, let_go, look, started


class Child:
    """A process that `start_child` started. It does not outlive this process, nor the call of `close`."""

    def __init__(self, process: subprocess.Popen[bytes], death_fd: int, began: dict[str, str]) -> None:
        assert process.stdin  # noqa: S101 - it was started with pipes
        assert process.stdout  # noqa: S101 - it was started with pipes
        self._process = process
        self._death_fd = death_fd
        # Its exit status is not collected yet, so even if it is dead the pid is still its own.
        facts = look(process.pid)
        self._birth = facts.birth if facts else ""
        self._runner = began.get(RUNNER, "")
        self._spool = began.get("BGJOBS_SPOOL", "")
        self.pid = process.pid
        started(self.pid)
        self.input_fd = process.stdin.fileno()
        self.output_fd = process.stdout.fileno()
        os.set_blocking(self.input_fd, False)  # a child that does not read must not hold us up

    def poll(self) -> int | None:
        """Return the exit status, negative for the signal that ended it, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait up to `timeout` seconds for the end; return the exit status, or None if it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill the process alone: for one that has started nothing."""
        self._process.kill()

    def kill_tree(self) -> None:
        """Kill the process and its descendants; if it has ended, what it left, in whatever session."""
        try:
            kill_leftover(self.pid, self._birth)
            if not end_adopted() and self._runner:
                kill_marked(self._spool, runner=self._runner)
        except OSError:
            # No descriptor is free, so descendants cannot be found. Then at least the process itself ends.
            self._process.kill()

    def rest(self) -> Iterator[bytes]:
        """Go through the output of the child that is not read yet, if it does not block."""
        while not os.get_blocking(self.output_fd):
            try:
                data = os.read(self.output_fd, 65_536)
            except OSError:
                return
            if not data:
                return
            yield data

    def close(self) -> None:
        """Close the pipes. If the child still runs, the end of the death pipe kills it with its process group."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        if self._death_fd >= 0:
            # First of all: if something below fails, the number may belong to another file at the next call of `close`.
            death_fd, self._death_fd = self._death_fd, -1
            os.close(death_fd)
            let_go(self.pid)
            with suppress(OSError):  # no descriptor is free; the end of the next runner does it
                end_adopted()  # the child may have started something after it reported that nothing is left


def start_child(command: list[str], *, env: dict[str, str], cwd: str | None) -> Child:
    """Start `command` in a session of its own, with pipes for its input and output; errors go where ours go.

    Call it from a thread that outlives the child: on Linux the end of that thread kills the child.
    The child has to call `die_with_parent` first thing. Raises OSError if the command cannot be started.
    """
    # One pipe for each child: the target of the kernel's signal belongs to the open pipe, which heirs share.
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env | {DEATH_FD: str(reader)},
            cwd=cwd,
            start_new_session=True,
            pass_fds=(reader,),
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    try:
        return Child(process, writer, env)
    except BaseException:
        # It cannot have started other processes yet.
        os.close(writer)
        with process:  # closes its pipes, and waits for its end
            process.kill()
        raise


def start_detached(command: list[str], *, env: dict[str, str], cwd: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start `command` in a session of its own, so that no terminal can end it. Return it, and what ties it to us: "".

    Its input is empty; its output and errors come out of one pipe, until it redirects them. Raises OSError.
    """
    process = subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return process, ""


def send_errors_to(path: str) -> None:
    """Append standard error of this process and its children to a file. Raises OSError."""
    descriptor = open_create_append(path)
    try:
        os.dup2(descriptor, 2)
    finally:
        os.close(descriptor)


def silence_output() -> None:
    """Discard standard output: its reader sees the end of file."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(descriptor, 1)
    finally:
        os.close(descriptor)
