"""Jobs of the soak. Each writes down when an attempt begins and ends, and who else of the same job is still alive.

Every line is one write to the job's own file, outside of the spool: `begin NUMBER PID BIRTH NS`, and then
`end NUMBER PID BIRTH NS HOW`, or nothing more if the process died. NS is of the one monotonic clock of the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXITING = 0x4  # PF_EXITING of the kernel: it runs no code of ours any more, and is only being taken apart
NOT_RUNNING = {"Z", "X", "x"}


class StormError(Exception):
    """What a job raises that is to fail."""


class Records:
    """What the attempts of one job have written down."""

    def __init__(self, job_id: str) -> None:
        """Find the job's file, in a directory that holds those of some hundred jobs."""
        self._spool = Path(os.environ["BGJOBS_SPOOL"])
        self._id = job_id
        self.path = Path(os.environ["BGJOBS_CONFIG"]).parent / "records" / job_id[-2:] / job_id
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def lines(self) -> list[list[str]]:
        """Return the words of each line so far."""
        return [line.split() for line in self.path.read_text("utf-8").splitlines()] if self.path.exists() else []

    def note(self, *words: object) -> None:
        """Add a line, in one write."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, " ".join(map(str, words)).encode() + b"\n")
        os.close(descriptor)

    def begin(self) -> tuple[int, int, str]:
        """Write down that an attempt begins, and whatever must not be true now; return which attempt this is."""
        for words in self._still_alive():
            self.note("overlap", *words)
        me = os.getpid(), birth(os.getpid())
        number = self._number(*me)
        self.note("begin", number, *me, time.monotonic_ns())
        return number, *me

    def _still_alive(self) -> list[tuple[str, str, str]]:
        """Return the processes of earlier attempts that did not come to their end and are alive all the same."""
        lines = self.lines()
        ended = {tuple(words[1:4]) for words in lines if words[0] == "end"}
        return [
            (words[0], words[1], words[2])
            for words in lines
            if words[0] in {"begin", "child"} and tuple(words[-3:] if words[0] == "child" else words[1:4]) not in ended
            if int(words[2]) != os.getpid() and alive(int(words[2]), words[3])
        ]

    def _number(self, pid: int, born: str) -> int:
        """Return the number of this attempt as the job's file in the spool has it: nobody moves it while this runs."""
        places = list(self._claimed())
        if len(places) != 1:
            self.note("homeless", pid, *places)
            return 0
        starts = []
        for line in places[0].read_bytes().splitlines():
            with suppress(ValueError):  # torn: as good as not written
                event = json.loads(line)
                starts += [event] if event.get("event") == "start" else []
        if not starts or (starts[-1]["pid"], starts[-1]["birth"]) != (pid, born):
            self.note("homeless", pid, "the record tells of another process")
        return len(starts)

    def _claimed(self) -> Iterator[Path]:
        wanted = f"-{self._id}.json"
        for worker in (self._spool / "claimed").iterdir():
            with suppress(FileNotFoundError):  # a dead worker's, just cleared away
                yield from (path for path in worker.iterdir() if path.name.endswith(wanted))


def facts(pid: int) -> list[str] | None:
    """Return what the kernel says of a process, from its state onwards, or None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def birth(pid: int) -> str:
    """Return the moment at which a process started, in ticks since the machine did."""
    found = facts(pid)
    return found[19] if found else ""


def alive(pid: int, born: str) -> bool:
    """Tell whether exactly this process may still run code."""
    found = facts(pid)
    return found is not None and found[19] == born and found[0] not in NOT_RUNNING and not int(found[6]) & EXITING


@contextmanager
def attempt() -> Iterator[int]:
    """Write down begin and end around an attempt, and give its number."""
    records = Records(os.environ["BGJOBS_ID"])
    me = records.begin()
    how = "raised"
    try:
        yield me[0]
        how = "returned"
    finally:
        records.note("end", *me, time.monotonic_ns(), how)


class Stormy:
    """All that jobs do, good and bad. `key` says whose this is: the submitter has written it down before."""

    def step(self, key: str) -> str:
        """Return at once."""
        with attempt():
            return key

    def nap(self, key: str, seconds: float) -> str:
        """Take a little time."""
        with attempt():
            time.sleep(seconds)
            return key

    def back_out(self, key: str) -> None:
        """Raise, each time."""
        with attempt():
            raise StormError(key)

    def come_round(self, key: str, failures: int) -> int:
        """Raise in the first attempts, then return."""
        with attempt() as number:
            if number <= failures:
                raise StormError(f"{key}: not yet")
            return number

    def leave_at_once(self, key: str, status: int) -> None:
        """End the process."""
        with attempt():
            os._exit(status)

    def shoot_itself(self, key: str) -> None:
        """End the process as `kill -9` does."""
        with attempt():
            os.kill(os.getpid(), 9)
            time.sleep(60)

    def overrun(self, key: str) -> None:
        """Run until the timeout."""
        with attempt():
            time.sleep(60)

    def say(self, key: str, lines: int) -> int:
        """Print, to both streams, from a child process too."""
        with attempt():
            for number in range(lines):
                print(key, number, "x" * 70, file=(sys.stdout, sys.stderr)[number % 2])
            subprocess.run(["echo", key], check=True)
            return lines

    def fork_off(self, key: str, wait: bool) -> str:
        """Start a child that lives far longer than any attempt should, and end it, or leave that to the runner."""
        with attempt() as number:
            child = subprocess.Popen(["sleep", "120"], stdin=subprocess.DEVNULL)
            Records(os.environ["BGJOBS_ID"]).note(
                "child", number, child.pid, birth(child.pid), number, os.getpid(), birth(os.getpid())
            )
            time.sleep(0.05)
            if wait:
                child.kill()
                child.wait()
            return key
