"""The load on the disk: processes that submit, cancel, retry and run jobs until the power goes.

Each tells the harness through a pipe what it is about to do, and then what was acknowledged: one JSON object a line.

    {"try": {ID: LINE_1, …}}   {"ack": [ID, …]}   {"cancel": ID}   {"cancelled": ID}   {"delete": ID}
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bgjobs import Queue, Request, disk, system
from bgjobs.errors import BgjobsError, NoSuchJobError, NotEndedError
from bgjobs.job import Job, State
from bgjobs.spool import record
from bgjobs.worker import loop
from bgjobs.worker.options import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_IN_GROUP = 40
LONGEST_PAUSE_S = 0.02
SET_CHILD_SUBREAPER = 36


class Child:
    """A process that does `task(tell)`; what it tells can be heard until the end, and beyond."""

    def __init__(self, task: Callable[[Callable[[dict[str, Any]], None]], object], errors: Path) -> None:
        reading, writing = os.pipe()
        self._reading = reading
        self._rest = b""
        # A fork, because to start Python afresh takes longer than a cut: this process has one thread and no locks.
        self.pid = os.fork()
        if self.pid == 0:
            _be(task, writing, errors)
        os.close(writing)
        os.set_blocking(reading, False)

    def heard(self) -> list[dict[str, Any]]:
        """Return what it has told since the last call."""
        try:
            while data := os.read(self._reading, 1 << 20):
                self._rest += data
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def ended(self, within_s: float) -> int | None:
        """Return its exit status once it has ended by itself; None if it does not in time."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        return None

    def close(self) -> None:
        """Hear nothing more."""
        os.close(self._reading)


def adopt_orphans() -> None:
    """See to it that the runners of a killed worker become our own children."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, ctypes.c_ulong(1), *(ctypes.c_ulong(0) for _ in range(3)))


def kill_all() -> None:
    """Kill all that descends from us, at once, as the end of the power does, and wait until nothing is left of it."""
    while found := psutil.Process().children(recursive=True):
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _be(task: Callable[[Callable[[dict[str, Any]], None]], object], writing: int, errors: Path) -> None:
    """Do the task in the forked child, and never return to what the parent was doing."""

    def tell(what: dict[str, Any]) -> None:
        data = json.dumps(what).encode() + b"\n"
        while data:
            data = data[os.write(writing, data) :]

    status = 2
    try:
        descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(descriptor, number)
        status = int(task(tell) or 0)  # type: ignore[call-overload]  # a task returns an exit status, or nothing
    except (BgjobsError, OSError) as error:
        print(error)
        status = 3  # its disk is gone
    except BaseException:  # noqa: BLE001 - whatever it is must not reach the parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Tampering:
    """What is changed in every child of one round: the boot, the order of syncs, and whether a sync syncs."""

    def __init__(self, boot: str, *, one_fsync: bool = True, lying: bool = False) -> None:
        self.boot = boot
        self.one_fsync = one_fsync
        self.lying = lying

    def apply(self) -> None:
        """Change this process."""
        system.boot_id = lambda: self.boot  # a power cut ends it, which the kernel of this test survives
        if not self.one_fsync:
            system.one_fsync_is_safe = lambda path: False
        if self.lying:
            disk.sync_file = lambda fd: None
            disk.sync_directory = lambda path: None
            disk.sync_filesystem = lambda path: True


def worker(config: str, tampering: Tampering, *, drain: bool = False) -> Callable[[object], int]:
    """Return the task of a worker."""

    def work(tell: object) -> int:
        tampering.apply()
        return loop.run(Queue.open(config=config), WorkerOptions(concurrency=1, drain=drain, quiet=True))

    return work


def submitter(
    config: str, tampering: Tampering, notes: str, seed: int, *, most: int | None = None
) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Return the task of somebody who submits, cancels and retries without a pause (or up to so many times)."""

    def submit(tell: Callable[[dict[str, Any]], None]) -> None:
        tampering.apply()
        queue = Queue.open(config=config)
        # What is tried must be what a user gets there: on these file systems one sync is known to be enough.
        assert system.one_fsync_is_safe(str(Path(queue.settings.spool).parent)) is tampering.one_fsync
        person = Person(queue, notes, random.Random(seed), tell)
        done = 0
        while most is None or done < most:
            person.act()
            done += 1

    return submit


class Person:
    """Somebody who uses the queue, by dice."""

    def __init__(self, queue: Queue, notes: str, dice: random.Random, tell: Callable[[dict[str, Any]], None]) -> None:
        self._queue = queue
        self._notes = notes
        self._dice = dice
        self._tell = tell
        self._mine: list[str] = []

    def act(self) -> None:
        """Do one thing."""
        acts = {
            self._one: 8,
            self._group: 1,
            self._delayed: 3,
            self._cancel: 2,
            self._retry: 2,
            self._run_now: 1,
            self._delete: 1,
        }
        time.sleep(self._dice.uniform(0, LONGEST_PAUSE_S))  # a person, and no flood: there are workers, too
        (act,) = self._dice.choices(list(acts), weights=list(acts.values()))
        act()

    def _one(self) -> None:
        self._submit(self._request())

    def _group(self) -> None:
        priority = self._dice.choice([2, 5, 8])
        self._submit(*(self._request(priority=priority) for _ in range(self._dice.randint(2, MOST_IN_GROUP))))

    def _delayed(self) -> None:
        self._submit(self._request(delay=self._dice.uniform(0.05, 1.5)))

    def _cancel(self) -> None:
        if self._mine:
            job_id = self._mine.pop(self._dice.randrange(len(self._mine)))
            self._tell({"cancel": job_id})
            with suppress(NoSuchJobError):
                if self._queue.cancel(job_id) == "cancelled":
                    self._tell({"cancelled": job_id})

    def _retry(self) -> None:
        """Submit an ended job again, as `Queue.retry` does; the id must be known before."""
        if not self._mine:
            return
        with suppress(NoSuchJobError):  # deleted
            self._retry_one(self._queue.get(self._dice.choice(self._mine)))

    def _retry_one(self, old: Job) -> None:
        if old.state.ended and old.state is not State.CORRUPT:
            self._submit(Request(class_name=old.class_name, method=old.method, args=old.args, retry_of=old.id))

    def _run_now(self) -> None:
        if self._mine:
            with suppress(NoSuchJobError):
                self._queue.run_now(self._dice.choice(self._mine))

    def _delete(self) -> None:
        """Delete a job if it has ended: from now on it may be gone, or come back."""
        if self._mine:
            job_id = self._dice.choice(self._mine)
            self._tell({"delete": job_id})
            with suppress(NoSuchJobError, NotEndedError):
                self._queue.delete(job_id)

    def _request(self, *, priority: int | None = None, delay: float | None = None) -> Request:
        method, more = self._dice.choice([("sign", ()), ("sign", ()), ("nap", (0.01,)), ("fail_first", ())])
        level = self._dice.choice([2, 5, 8]) if priority is None else priority
        return Request(class_name="Work", method=method, args=[self._notes, *more], priority=level, delay=delay)

    def _submit(self, *requests: Request) -> None:
        jobs = [self._queue.prepare(request) for request in requests]
        self._tell({"try": {job.id: line_1(job) for job in jobs}})
        self._queue._store.submit(jobs)
        self._tell({"ack": [job.id for job in jobs]})
        self._mine += [job.id for job in jobs]


def line_1(job: Job) -> str:
    """Return what must be the first line of the job's file for ever."""
    return record.line_1(job).decode()
