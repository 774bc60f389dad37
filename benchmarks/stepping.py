"""Let one process of bgjobs do its part of many jobs, and print how long each of its steps took.

    python -m benchmarks.stepping submit|worker|runner DIRECTORY JOBS

In a directory with a project. Each step is a method of bgjobs, looked up by its name. What is added up is its
processor time, that of the thread that runs it: so it matters little who else is at work. To ask for it, twice for each
step, takes a while too: `asking` says how long.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.contestants import PROCESSES
from bgjobs.event_log import Log
from bgjobs.queue import Queue
from bgjobs.spool.claim import Claimer
from bgjobs.spool.publish import Publisher
from bgjobs.spool.session import SpoolSession
from bgjobs.store import Begin
from bgjobs.worker import loop
from bgjobs.worker.child.capture import Capture
from bgjobs.worker.child.main import Runner
from bgjobs.worker.child.process_state import ProcessState
from bgjobs.worker.options import WorkerOptions
from bgjobs.worker.pool import Pool
from bgjobs.worker.protocol import Run, Setup

CONFIG = "allowed_jobs.toml"
WARM_UP = 200
END = ',"wid":"01k00000000000000000000000","outcome":"succeeded","state":"done"'
START = '"wid":"01k00000000000000000000000","number":1,"worker":"here:1","slot":0,"pid":1,"birth":"1","boot":"1"}\n'


class Steps:
    """The time that each step took so far, in ns of processor time."""

    def __init__(self) -> None:
        """Know no step, and begin to count now."""
        self.spent: dict[str, int] = {}
        self._began = time.thread_time_ns()

    def watch(self, owner: type, method: str, step: str) -> None:
        """Add the time of a method of this class to a step. Steps that lie within others count for these too."""
        original = getattr(owner, method)
        self.spent.setdefault(step, 0)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the method takes and returns
            began = time.thread_time_ns()
            try:
                return original(*args, **kwargs)
            finally:
                self.spent[step] += time.thread_time_ns() - began

        setattr(owner, method, watched)

    def begin(self) -> None:
        """Count from now on."""
        self.spent, self._began = dict.fromkeys(self.spent, 0), time.thread_time_ns()

    def begin_before(self, owner: type, method: str) -> None:
        """Count from the first call of this method on."""
        original = getattr(owner, method)

        def first(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
            setattr(owner, method, original)
            self.begin()
            return original(*args, **kwargs)

        setattr(owner, method, first)

    def told(self, jobs: int) -> dict[str, float]:
        """Return the µs for each job, by step, with all that is in no step."""
        rest = time.thread_time_ns() - self._began - sum(self.spent.values())
        return {name: ns / jobs / 1e3 for name, ns in {**self.spent, "all else": rest}.items()}


def asking() -> float:
    """Return how many µs it takes to ask for the time of a step."""
    count = 20_000
    began = time.thread_time_ns()
    for _ in range(count):
        time.thread_time_ns()
    return (time.thread_time_ns() - began) / count / 1e3


def submit(jobs: int) -> dict[str, float]:
    """Submit jobs one by one."""
    steps = Steps()
    steps.watch(Queue, "prepare", "check the call, make the job")
    steps.watch(Publisher, "publish", "write, rename, ring")
    queue = Queue.open(config=CONFIG)
    steps.watch(type(queue.events), "emit", "log")
    for number in range(-WARM_UP, 0):
        queue.submit("Work", "note", [number])
    steps.begin()
    for number in range(jobs):
        queue.submit("Work", "note", [number])
    return steps.told(jobs)


def worker(jobs: int) -> dict[str, float]:
    """Be the worker for jobs that are there."""
    steps = Steps()
    steps.watch(Claimer, "_claim", "choose the next, rename it")
    steps.watch(Claimer, "_open_claimed", "read and check it")
    steps.watch(loop.Worker, "_start", "look it up in the allowlist, make the message")
    steps.watch(Pool, "flush", "send it")
    steps.watch(SpoolSession, "finish", "rename it to done")
    queue = Queue.open(config=CONFIG)
    steps.watch(type(queue.events), "emit", "log, two lines")
    steps.watch(Log, "_write", "log, two lines")
    steps.begin_before(SpoolSession, "claim")  # not before its runners are ready
    loop.run(queue, WorkerOptions(concurrency=PROCESSES, max_jobs=jobs, recycle=2 * jobs, quiet=True))
    return steps.told(jobs)


def runner(jobs: int) -> dict[str, float]:
    """Be a runner, with nobody at the other end who takes long."""
    steps = Steps()
    steps.watch(Runner, "_begin", "append the start line")
    steps.watch(Runner, "_attempt", "find the method, call it")
    steps.watch(Runner, "_restore_process", "put back what it may have changed")
    steps.watch(Capture, "keep", "look whether it printed something")
    steps.watch(Runner, "_record_success", "append the end line")
    steps.watch(Runner, "_send", "tell the worker")
    runs = [_run(number) for number in range(WARM_UP + jobs)]
    being = _runner()
    do = being._run  # noqa: SLF001 - what a runner does with one job is what is measured
    for run in runs[:WARM_UP]:
        do(run)
    steps.begin()
    for run in runs[WARM_UP:]:
        do(run)
    return steps.told(jobs)


def _runner() -> Runner:
    ours, theirs = os.pipe()
    threading.Thread(target=_hear, args=(ours,), daemon=True).start()
    being = Runner(ours, theirs)
    root, here = str(Path(__file__).parents[1]), str(Path.cwd())
    setup = Setup((root,), here, lock=f"{here}/runner.lock", output=f"{here}/runner.out")
    being._set_up(setup)  # noqa: SLF001 - as above
    being._state = ProcessState()  # noqa: SLF001 - as above
    return being


def _hear(pipe: int) -> None:
    while os.read(pipe, 65_536):
        pass


def _run(number: int) -> Run:
    """Make a job in the hands of a worker."""
    path = Path("claimed", f"{number:026d}.json").absolute()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"format":1}\n')
    begin = Begin(str(path), '{"event":"start","at":', f",{START}", f"{path}.log", ('{"event":"end","at":', END))
    return Run(
        id=f"{number:026d}",
        attempt=1,
        retries=0,
        class_name="Work",
        method="note",
        module="benchmarks.work",
        owner=None,
        args=(number,),
        kwargs={},
        begin=begin,
        max_output=1024,
    )


def main() -> None:
    """Print the µs of each step as JSON."""
    out = os.dup(1)  # a runner takes the first one for what jobs print
    part, directory, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.chdir(directory)
    took = {"submit": submit, "worker": worker, "runner": runner}[part](jobs)
    os.write(out, msgspec.json.encode({**took, "asking": asking()}))
    os._exit(0)  # the thread that hears a runner has no end


if __name__ == "__main__":
    main()
