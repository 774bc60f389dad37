"""Start a program that outlives us and our terminal."""

from __future__ import annotations

import os
import subprocess
import sys

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix import open_create_append  # noqa: E402 - on this system only


def start_detached(command: list[str], *, env: dict[str, str], cwd: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start `command` in a session of its own, so that no terminal can end it. Return it, and what ties it to us: "".

    It reads nothing; what it says on both streams comes out of one pipe, until it sends them elsewhere. Raises OSError.
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
    """Let what this process and its children say on standard error go to the end of a file. Raises OSError."""
    descriptor = open_create_append(path)
    try:
        os.dup2(descriptor, 2)
    finally:
        os.close(descriptor)


def silence_output() -> None:
    """Send standard output nowhere: whoever reads it now sees its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(descriptor, 1)
    finally:
        os.close(descriptor)
