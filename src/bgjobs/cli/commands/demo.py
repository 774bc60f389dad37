"""`bgjobs demo`: run a few jobs in a project of its own with a real worker, and show what became of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from msgspec import Struct

from bgjobs import clock
from bgjobs.cli import example, job_lines, options, output, times
from bgjobs.cli.spans import Line, Span
from bgjobs.config import settings
from bgjobs.errors import BgjobsError
from bgjobs.event_log import ERROR_LOG, STATUS_LOG
from bgjobs.job import Job, State, show_priority
from bgjobs.queue import Queue, store_of
from bgjobs.requests import Request
from bgjobs.views import logs

Show: TypeAlias = Callable[[Sequence[Job]], None]

LONGEST_S = 45.0
PAUSE_S = 0.05
PATIENCE_S = 5.0
WORKER = ("-m", "bgjobs", "worker", "-c", "2", "--drain", "--grace", "1s", "--max-time", "60s")
WORKER_LOG = "worker.log"
WIDTH = 20
LATEST = 4  # the column with the latest about a job


class Scene(Struct, frozen=True):
    """One job of the demo, and how it should end."""

    request: Request
    state: State = State.DONE
    attempts: int = 1


SCENES = (
    Scene(Request(class_name="UserLoginService", method="handle", args=["ann"], text=True)),
    Scene(Request(class_name="ExampleJob", method="handle", args=["hello"], kwargs={"param2": "world"}, text=True)),
    Scene(
        Request(class_name="SendNotificationJobs", method="pick_up", args=["Tony", "2PM", "Central Park"], text=True)
    ),
    Scene(Request(class_name="DelayedJob", method="handle", args=["20", "1.5"], delay="2s", text=True)),
    Scene(Request(class_name="BackgroundJobs", method="automatic_debit_success", args=["1000", "rent"], text=True)),
    Scene(
        Request(
            class_name="BackgroundJobs",
            method="automatic_debit_failures_then_success",
            args=["20", "phone"],
            retry_delay="0.5s",
            text=True,
        ),
        attempts=3,
    ),
    Scene(
        Request(
            class_name="BackgroundJobs",
            method="automatic_debit_failure",
            args=["9999", "a yacht"],
            retries=1,
            retry_delay="0.5s",
            text=True,
        ),
        state=State.FAILED,
        attempts=2,
    ),
)


def command(
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Directory for the project (default: a fresh one).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Take a tour that really runs, in a project of its own.

    Jobs of different priorities, a delayed one, one that needs further attempts, and one that fails in the end.
    """
    root = Path(tempfile.mkdtemp(prefix="bgjobs-demo-")) if folder is None else folder.absolute()
    example.write(example.whole(), root)
    # No setting in the environment may change the tour.
    queue = Queue(settings.load(config=str(root / settings.FILE_NAME), environ={}))
    jobs = queue.submit_many(scene.request for scene in SCENES)
    if not as_json:
        output.data(f"A project with {len(jobs)} jobs is in {root}. Now a worker runs them, two at a time.")
    with _worker(root) as process:
        jobs = _watched(queue, [job.id for job in jobs], process, as_json=as_json)
    _check(jobs, root)
    value = {"dir": str(root), "jobs": [queue.to_json(job) for job in jobs]}
    output.result(value, _ending(queue, jobs, root), as_json=as_json)


@contextmanager
def _worker(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker, and leave none behind, however the block ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BGJOBS_")}
    with (root / WORKER_LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *WORKER], cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
        _wait(process)  # with --drain it ends when all jobs have ended
    finally:
        if process.poll() is None:
            process.terminate()
            _wait(process)
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        pass  # the caller looks


def _watched(queue: Queue, ids: Sequence[str], process: subprocess.Popen[bytes], *, as_json: bool) -> list[Job]:
    """Show the jobs until all have ended, or cannot end any more."""
    deadline = time.monotonic() + LONGEST_S
    with _shown(queue, quiet=as_json) as show:
        while True:
            is_over = process.poll() is not None or time.monotonic() > deadline
            jobs = [queue.get(job_id) for job_id in ids]
            show(jobs)
            if is_over or all(job.state.ended for job in jobs):
                return jobs
            time.sleep(PAUSE_S)


def _check(jobs: Sequence[Job], root: Path) -> None:
    for scene, job in zip(SCENES, jobs, strict=True):
        if job.state is not scene.state or len(job.attempts) != scene.attempts:
            raise BgjobsError(
                f"the tour went wrong: {job.name} is {job.state} after {len(job.attempts)} attempts",
                hint=f"see {root / WORKER_LOG}",
                code="demo-failed",
            )


def _ending(queue: Queue, jobs: Sequence[Job], root: Path) -> Iterator[Line]:
    """Go through the lines about what to look at, and what to try next."""
    failed = [job for job in jobs if job.state is State.FAILED]
    paid = next(job for job in jobs if job.method == "automatic_debit_success")
    logs = Path(queue.settings.log_dir)
    yield [("", "")]
    yield [(f"{len(jobs)} jobs ended as they should: {len(failed)} failed on purpose, the others are done.", "bold")]
    yield [("", "")]
    places: list[tuple[str, str | Path]] = [
        ("what may run", root / settings.FILE_NAME),
        ("the jobs", queue.settings.spool),
        ("status log", logs / STATUS_LOG),
        ("error log", logs / ERROR_LOG),
    ]
    printed = _output_file(queue, paid)
    if printed is not None:
        places.append((f"what {paid.method} printed", printed))
    for title, path in places:
        yield [(f"{title:<38}", "dim"), (str(path), "")]
    yield [("", "")]
    yield [("Try next:", "bold")]
    program = _program()
    yield [(f"  cd {shlex.quote(str(root))}", "cyan")]
    yield [(f"  {program} list", "cyan")]
    yield [(f"  {program} status {failed[0].id}", "cyan")]
    yield [(f"  {program} submit SendNotificationJobs save_me Ann; {program} worker --drain", "cyan")]


def _output_file(queue: Queue, job: Job) -> Path | None:
    in_files = store_of(queue).files
    return None if in_files is None else in_files.output_file(job, 1)


def _program() -> str:
    """Return how the person can call bgjobs again from another directory."""
    if shutil.which("bgjobs"):
        return "bgjobs"
    called = Path(sys.argv[0]).absolute()
    return shlex.quote(str(called)) if called.stem == "bgjobs" else f"{shlex.quote(sys.executable)} -m bgjobs"


# The jobs while they run


@contextmanager
def _shown(queue: Queue, *, quiet: bool) -> Iterator[Show]:
    """Give out what shows the jobs as they are now: a table on a terminal, else a line for each change of state."""
    if quiet:
        yield lambda _: None
    elif output.is_terminal(sys.stdout):
        from bgjobs.cli import terminal  # noqa: PLC0415 - rich is slow to import

        with terminal.live() as live:
            yield lambda jobs: live.update(terminal.grid([_row(job) for job in jobs], {LATEST}), refresh=True)
    else:
        yield _Changes(queue).show


class _Changes:
    """Prints the lines of the status log, which has every change of state."""

    def __init__(self, queue: Queue) -> None:
        self._log = logs.of(queue)
        self._start = time.monotonic()

    def show(self, _: Sequence[Job]) -> None:
        for line in self._log.more():
            read = logs.fields(line)
            step = f"{read['status']} {read['attempt'] or ''}"
            name = f"{read['class']}.{read['method']}"
            past = time.monotonic() - self._start
            output.data(f"{past:5.1f} s  {step:<12} {name} ({read['priority']}): {read['message']}")
        sys.stdout.flush()


def _row(job: Job) -> Line:
    return [
        (show_priority(job.priority), "dim"),
        (job.name, "bold"),
        (job.state.value, job.state.value),
        (f"attempt {job.charged}/{job.retries + 1}" if job.attempts else "", ""),
        _latest(job),
    ]


def _latest(job: Job) -> Span:
    """Return the latest about a job: its progress, its error, its result, or its moment."""
    if job.state is State.RUNNING and job.progress is not None and job.progress.total:
        full = round(WIDTH * min(1.0, job.progress.done / job.progress.total))
        return ("━" * full + "╌" * (WIDTH - full) + f" {job_lines.progress(job.progress)}", "cyan")
    if job.error is not None:
        return (job_lines.why(job.error), "red")
    if job.state is State.DONE and job.result_json is not None:
        return (bytes(job.result_json).decode("utf-8", "replace"), "green")
    if job.state is State.SCHEDULED:
        return (f"not before {times.compact(job.not_before, clock.now())}", "dim")
    return ("", "")
