"""What is found when the storm is over: job files, read with nothing of bgjobs, and what the jobs noted."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from tests.soak.diary import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

STATES = ("pending", "waiting", "claimed", "done", "failed", "cancelled", "corrupt")
ENDED = frozenset({"done", "failed", "cancelled"})
ID = re.compile(r"(?:.*[-/])?([0-9a-z]{26})\.json", re.ASCII)


class Attempt(Struct, kw_only=True):
    """An attempt as the job's file tells it; `outcome` is empty if the file does not tell how it ended."""

    number: int
    pid: int
    birth: str
    outcome: str = ""
    lost: bool = False
    error: str = ""

    @property
    def place(self) -> tuple[int, int, str]:
        """What tells it from all others of its job."""
        return self.number, self.pid, self.birth


class Told(Struct, kw_only=True):
    """A job as its file tells it. `faults` are events that cannot follow one another."""

    id: str
    state: str
    path: str = ""
    key: str = ""
    call: Call = ("", "", ())
    retries: int = 0
    retry_of: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    torn: int = 0


class Run(Struct, kw_only=True):
    """An attempt as the job itself noted it: `how` and `ended_ns` are missing if it did not come to its end."""

    number: int
    pid: int
    birth: str
    begun_ns: int
    ended_ns: int | None = None
    how: str = ""

    @property
    def place(self) -> tuple[int, int, str]:
        """What tells it from all others of its job."""
        return self.number, self.pid, self.birth


class Records(Struct):
    """What the attempts of one job noted, in order, and what they found that must not be."""

    runs: list[Run] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def read_spool(spool: Path) -> list[Told]:
    """Return every file in every place where a job can lie."""
    return [told(state, path, spool) for state in STATES for path in files(spool / state)]


def files(directory: Path) -> Iterator[Path]:
    """Go through all files below a directory, also while others make and remove some."""
    return (Path(place) / name for place, _, names in os.walk(directory) for name in sorted(names))


def told(state: str, path: Path, spool: Path) -> Told:
    """Read one job file."""
    found = ID.fullmatch(str(path))
    job = Told(id=found[1] if found else "", state=state, path=str(path.relative_to(spool)))
    try:
        first, *rest = path.read_bytes().split(b"\n")
        _describe(job, json.loads(first))
    except (ValueError, KeyError, IndexError) as error:
        job.faults.append(f"line 1 cannot be read: {error}")
        return job
    for line in rest:
        if line:
            try:
                event = json.loads(line)
            except ValueError:
                job.torn += 1  # a process that is killed in the middle of a write can leave that
            else:
                follow(job, event)
    return job


def _describe(job: Told, line: dict[str, Any]) -> None:
    args = tuple(line["args"])
    job.key, job.call = str(args[0]), (line["class"], line["method"], args)
    job.retries, job.retry_of = line["retries"], line.get("retry_of", "")
    if line["id"] != job.id:
        job.faults.append(f"its file says that it is {line['id']}")


def follow(job: Told, event: dict[str, Any]) -> None:
    """Add what an event tells to the history of the job."""
    kind = event["event"]
    running = job.attempts[-1] if job.attempts and not job.attempts[-1].outcome else None
    if kind == "start":
        if running is not None:
            job.faults.append(f"attempt {event['number']} began before attempt {running.number} was over")
        if event["number"] != len(job.attempts) + 1:
            job.faults.append(f"attempt {event['number']} is number {len(job.attempts) + 1}")
        job.attempts.append(Attempt(number=event["number"], pid=event["pid"], birth=event["birth"]))
        return
    if kind == "end" and event["state"] != job.state:
        job.faults.append(f"it ended as {event['state']} and lies in {job.state}")
    if running is not None:
        running.outcome = "interrupted" if kind == "back" else event.get("outcome", "?")
        running.lost = kind == "lost" or event.get("lost", False)
        running.error = event.get("error", {}).get("type", "")
    elif (kind, event.get("state")) != ("end", "cancelled"):  # that needs no attempt
        job.faults.append(f"{kind} without an attempt under way")


def read_records(directory: Path) -> dict[str, Records]:
    """Return what jobs noted, by job."""
    return {path.name: records(path.read_text("utf-8").splitlines()) for path in files(directory)}


def records(lines: list[str]) -> Records:
    """Understand the lines of one job."""
    found = Records()
    open_runs: dict[tuple[int, int, str], Run] = {}
    for line in lines:
        match line.split():
            case ["begin", number, pid, birth, ns]:
                run = Run(number=int(number), pid=int(pid), birth=birth, begun_ns=int(ns))
                found.runs.append(run)
                open_runs[run.place] = run
            case ["end", number, pid, birth, ns, how]:
                ended = open_runs.pop((int(number), int(pid), birth), None)
                if ended is None:
                    found.complaints.append(f"end without a begin: {line}")
                else:
                    ended.ended_ns, ended.how = int(ns), how
            case ["child", *_]:
                continue
            case _:
                found.complaints.append(line)
    return found
