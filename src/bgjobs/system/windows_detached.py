"""Start a program that outlives us and our console."""

from __future__ import annotations

import os
import subprocess
import sys

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which names the system has

_FLAGS = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
_ACCESS_DENIED = 5
TIED = "whatever started this command holds all in a job object: when that ends, so does the worker"


def start_detached(command: list[str], *, env: dict[str, str], cwd: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start `command` without a console, outside of our job object. Return it, and what ties it to us: "" or why.

    It reads nothing; what it says on both streams comes out of one pipe, until it sends them elsewhere. Raises OSError.
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
    """Send nowhere what children say on standard error: a log that a process keeps open could not be moved aside."""
    _send_nowhere(2)


def silence_output() -> None:
    """Send standard output nowhere: whoever reads it now sees its end."""
    _send_nowhere(1)


def _send_nowhere(target: int) -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(descriptor, target)
    finally:
        os.close(descriptor)
