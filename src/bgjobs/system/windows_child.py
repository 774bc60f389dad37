"""Start processes: runners, each in a job object, and workers that outlive this process and its console."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from functools import cache

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.windows_job_objects import JobObject  # noqa: E402 - on this system only

_CREATE_SUSPENDED = 0x4
_FLAGS = _CREATE_SUSPENDED | subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP


class Child:
    """A process that `start_child` started. It does not outlive this process, nor the call of `close`."""

    def __init__(self, process: subprocess.Popen[bytes], job: JobObject) -> None:
        assert process.stdin  # noqa: S101 - it was started with pipes
        assert process.stdout  # noqa: S101 - it was started with pipes
        self._process = process
        self._job = job
        self.pid = process.pid
        self.input_fd = process.stdin.fileno()
        self.output_fd = process.stdout.fileno()

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait up to `timeout` seconds for the end; return the exit status, or None if it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill the process alone: for one that has started nothing."""
        self._job.terminate()

    def kill_tree(self) -> None:
        """Kill the process and all that descends from it, however it was started."""
        self._job.terminate()

    def rest(self) -> list[bytes]:
        """Return nothing: the poller's thread reads the output of the child to its end."""
        return []

    def close(self) -> None:
        """Kill what still runs, and close the pipes."""
        # In this order: closing a pipe waits for the thread that reads it, and that one for the pipe's writers.
        self._job.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def start_child(command: list[str], *, env: dict[str, str], cwd: str | None) -> Child:
    """Start `command` in a job object, with pipes for its input and output; errors go where ours go.

    Raises OSError if the command cannot be started.
    """
    _family()
    job = JobObject()
    try:
        process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            cwd=cwd,
            creationflags=_FLAGS,
        )
    except BaseException:
        job.close()
        raise
    try:
        # The python.exe of a virtual environment starts the real one at once; suspended, it cannot do so too early.
        job.add(process.pid)
    except BaseException:
        process.kill()
        job.close()
        raise
    return Child(process, job)


@cache
def _family() -> JobObject:
    """Return a job object with this process and all that it starts, which end with it.

    A runner is suspended until it is in a job object of its own: if this process is killed before, it must end too.
    """
    job = JobObject()
    with contextlib.suppress(OSError):  # this process is in one already that allows no nesting
        job.add_this_process()
    return job


_FLAGS = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
_ACCESS_DENIED = 5
TIED = "whatever started this command holds all in a job object: when that ends, so does the worker"


def start_detached(command: list[str], *, env: dict[str, str], cwd: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start `command` without a console, outside of our job object. Return it, and what ties it to us: "" or why.

    Its input is empty; its output and errors come out of one pipe, until it redirects them. Raises OSError.
    """
    try:
        return _start(command, env, cwd, _FLAGS | subprocess.CREATE_BREAKAWAY_FROM_JOB), ""
    except OSError as error:
        if error.winerror != _ACCESS_DENIED:
            raise
        # Whoever started us in a job object keeps all of us in it, as CI agents and SSH servers do: then the program
        # ends with that, as any other would.
        return _start(command, env, cwd, _FLAGS), TIED


def _start(command: list[str], env: dict[str, str], cwd: str, flags: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        creationflags=flags,
    )


def send_errors_to(path: str) -> None:  # noqa: ARG001 - one interface for all systems
    """Discard standard error of this process and its children: a log that is open could not be rotated."""
    _discard(2)


def silence_output() -> None:
    """Discard standard output: its reader sees the end of file."""
    _discard(1)


def _discard(target: int) -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(descriptor, target)
    finally:
        os.close(descriptor)
