"""Start a worker in the background, and what such a worker does itself when it has its place."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from bgjobs import system
from bgjobs.cli import output
from bgjobs.errors import BgjobsError
from bgjobs.worker import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from bgjobs.queue import Queue
    from bgjobs.store import WorkerInfo

MARK = "_BGJOBS_DETACHED"  # in the environment of a worker whose starter waits until it has its place
# As in a runner: what lies in the current directory is not imported.
COMMAND: tuple[str, ...] = ("-P", "-m", "bgjobs", "worker")
# It is no part of the service that its starter may be, nor of the job.
NOT_FOR_IT = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("BGJOBS_ID", "BGJOBS_ATTEMPT", "BGJOBS_CLASS", "BGJOBS_METHOD", "BGJOBS_RUNNER"),
)


def start(queue: Queue, words: list[str], *, as_json: bool) -> int:
    """Start a worker with these options, wait until it has its place, and print who it is; return the exit status.

    If it fails before that, its messages go to standard error, and its exit status is returned.
    """
    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_IT} | {MARK: "1"}
    command = [sys.executable, *COMMAND, *words, *(["--json"] if as_json else [])]
    process, tie = system.start_detached(command, env=environment, cwd=queue.settings.root)
    try:
        for line in _lines(process):
            arrived = _arrival(line)
            if arrived is not None:
                _show(arrived, as_json=as_json)
                process.returncode = 0  # it goes on without this process, which need not wait for it
                return _comment(arrived, tie, as_json=as_json)
            sys.stderr.write(output.harmless(line.decode("utf-8", "backslashreplace")))
        status = process.wait()
    except BaseException:
        process.kill()  # Ctrl-C, or its name could not be printed: nobody knows of this worker
        process.wait()
        raise
    if status > 0:
        return status
    raise BgjobsError(f"the worker ended before it had a place, with status {status}", hint="try it without --detach")


def _lines(process: Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout  # noqa: S101 - it was started with a pipe
    with process.stdout as stream:
        yield from stream


def _arrival(line: bytes) -> dict[str, Any] | None:
    """Return the line that a worker prints when it has its place, taken apart, or None for any other line."""
    if not line.startswith(b'{"arrived":'):
        return None
    found: dict[str, Any] = json.loads(line)["arrived"]
    return found


def _show(worker: dict[str, Any], *, as_json: bool) -> None:
    output.result(worker, worker["name"], as_json=as_json)
    sys.stdout.flush()


def _comment(worker: dict[str, Any], tie: str, *, as_json: bool) -> int:
    output.hint(f"its messages go to {worker['log']}", as_json=as_json)
    if tie:
        output.note(tie)
    return 0


def is_wanted() -> bool:
    """Tell whether this process is the worker that `start` has started; its own children are not."""
    return os.environ.pop(MARK, None) is not None


def arrival(queue: Queue) -> Callable[[str, WorkerInfo], None]:
    """Return what a detached worker does when it has its place: report it, and write to the log from now on."""

    def arrived(worker_id: str, info: WorkerInfo) -> None:
        announce.redirect_errors(queue)
        about = {"id": worker_id, "name": info.name, "pid": info.pid, "log": announce.path_of(queue)}
        try:
            os.write(1, json.dumps({"arrived": about}).encode() + b"\n")
        except OSError:
            pass  # the process that started us has ended
        system.silence_output()

    return arrived
