"""Workers as real processes, each test's on a project of its own, and nothing that outlives the test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest

from bgjobs import Queue, Request, system
from tests.measuring import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job, State

FINAL = frozenset({"SUCCESS", "FAILED", "CANCELLED", "REFUSED"})
LIMIT = 30.0 if sys.platform != "win32" else 90.0  # s; only a failure waits that long. Wine starts Python slowly
SPIN_S = 0.05
PROJECT = Path(__file__).with_name("project")
KILLED = 1 if sys.platform == "win32" else -9  # what a runner ends with that its worker has killed

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals, forks, links and modes are POSIX")
LINE = re.compile(
    r"\[(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+00:00)\] "
    r"Class: (?P<class_name>[A-Za-z0-9_]+|-), Method: (?P<method>[A-Za-z0-9_]+|-)"
    r", Priority: (?P<priority>LOW|NORMAL|HIGH|[0-9]|-)"
    r", Status: (?P<status>[A-Z]+)"
    r", Job: (?P<job>[0-7][0-9a-hjkmnp-tv-z]{25}|-)"
    r", Attempt: (?P<attempt>\d+/\d+|-)"
    r", Message: (?P<message>[^\x00-\x1f\x7f]*)"
)


def wait_until(condition: Callable[[], object], limit: float = LIMIT, pause: float = 0.005) -> None:
    """Wait until the condition holds; fail after so many seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)


def slowness() -> float:
    """Return how many times as long as alone a process takes right now, because others use the processors too."""
    began, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < SPIN_S:
        pass
    return max(1.0, (time.perf_counter() - began) / SPIN_S)


def lines(path: Path) -> list[str]:
    """Return the complete lines in a file; none if there is none."""
    return path.read_text("utf-8").rpartition("\n")[0].splitlines() if path.exists() else []


def wait_for_lines(path: Path, count: int = 1) -> None:
    """Wait until a file has so many complete lines: jobs write one each when they begin."""
    wait_until(lambda: len(lines(path)) >= count, pause=0.002)


def numbers(path: Path) -> list[int]:
    return [int(line) for line in lines(path)]


def alive(pid: int) -> bool:
    """Tell whether the process runs. A dead one that nobody has asked about yet does not."""
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def gone(*pids: int) -> bool:
    return not any(alive(pid) for pid in pids)


def kill(pid: int) -> None:
    """Kill a process as `kill -9` does, if it is there: on Windows, those of a worker that was killed are gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


class Worker:
    """A worker process."""

    def __init__(
        self, project: Project, errors: Path, options: dict[str, Any], environ: dict[str, str], through: list[str]
    ) -> None:
        self.errors = errors
        self._project = project
        environment = {name: text for name, text in os.environ.items() if not name.startswith("BGJOBS_")} | environ
        environment = unmeasured(environment) if through else environment
        command = [*through, sys.executable, "-m", "bgjobs", "worker", *_arguments({"concurrency": 1} | options)]
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                cwd=project.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=file,
            )
        self.pid = self._process.pid
        self.name = f"{system.host()}:{self.pid}"

    def says(self) -> str:
        """Return all that it has written to standard error."""
        return self.errors.read_text("utf-8")

    def ready(self) -> Worker:
        """Wait until it has a place in the queue."""
        wait_until(lambda: " methods may run" in self.says() or not self.runs())
        assert self.runs(), self.says()
        return self

    def runs(self) -> bool:
        return self._process.poll() is None

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop: by a signal, or on Windows, where none arrives, by word at its place once it has one."""
        if sys.platform == "win32":
            wait_until(lambda: self._left_word() or not self.runs())
        else:
            self.send(number)

    def _left_word(self) -> bool:
        return self._project.queue._store.stop(self._id())

    def stop(self) -> int:
        """Ask it to stop, and return the exit status."""
        self.ask_to_stop()
        return self.ended()

    def ended(self, limit: float = LIMIT) -> int:
        """Wait for it to end by itself, and return the exit status."""
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker runs on: {self.says()}")

    def kill(self) -> None:
        """Kill it as `kill -9` does, and wait for its end."""
        self._process.kill()
        self._process.wait()

    def runners(self) -> list[int]:
        if sys.platform == "win32":  # where each of them has a console host, which is a child of the worker as well
            place = f"workers/{self._id()}/r*.pid"
            found = [int(json.loads(path.read_bytes())["pid"]) for path in self._project.spool.glob(place)]
            return [pid for pid in found if alive(pid)]
        return [child.pid for child in psutil.Process(self.pid).children()]

    def _id(self) -> str:
        return next((worker.id for worker in self._project.queue.workers() if worker.info.pid == self.pid), "none")

    def family(self) -> list[int]:
        """Return its pid, and those of all that descends from it."""
        return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]


def _arguments(options: dict[str, Any]) -> list[str]:
    """Return options as a command line has them: `max_jobs=3, drain=True` as `--max-jobs 3 --drain`."""
    found = []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not False:
                found += [f"--{name.replace('_', '-')}", *([] if each is True else [str(each)])]
    return found


class Project:
    """A copy of `tests/process/project` with a spool of its own."""

    def __init__(self, root: Path) -> None:
        shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
        self.root = root
        self.spool = root / "spool"
        self.config = root / "allowed_jobs.toml"
        self.queue = Queue.open(config=str(self.config))
        self._workers: list[Worker] = []

    def start(
        self,
        *,
        environ: dict[str, str] | None = None,
        errors: Path | None = None,
        through: list[str] | None = None,
        **options: Any,
    ) -> Worker:
        """Start a worker with one runner and these options.

        `errors` is where it writes what it has to say; `through` a command that becomes it.
        """
        said = errors or self.root / f"worker-{len(self._workers)}.err"
        worker = Worker(self, said, options, environ or {}, through or [])
        self._workers.append(worker)
        return worker

    def drain(self, **options: Any) -> Worker:
        """Run a worker until nothing is left to do."""
        worker = self.start(**({"drain": True} | options))
        assert worker.ended() == 0, worker.says()
        return worker

    def rewrite(self, name: str, text: str) -> None:
        """Give a file of the project new content, in one step."""
        fresh = self.root / f"{name}.fresh"
        fresh.write_text(text, "utf-8")
        system.replace(str(fresh), str(self.root / name))  # on Windows, a runner may be reading it

    def allow(self, old: str, new: str) -> None:
        """Change the allowlist, in one step."""
        text = self.config.read_text("utf-8")
        assert old in text
        self.rewrite("allowed_jobs.toml", text.replace(old, new))

    def put(self, class_name: str, method: str, *args: Any, **values: Any) -> Job:
        """Store a job as another program may, without the checks of `submit`."""
        job = self.queue.prepare(request("Honest", "echo"))
        job = msgspec.structs.replace(job, class_name=class_name, method=method, args=args, **values)
        self.queue._store.submit([job])
        return job

    def state(self, job: Job) -> State:
        return self.queue.get(job.id).state

    def log(self, job: Job | None = None) -> list[dict[str, Any]]:
        """Return the records of the status log, all or those of one job."""
        return self._records("background_jobs.log", job)

    def whole_log(self, job: Job) -> list[dict[str, Any]]:
        """Return the records of a job that has ended, in order.

        Every process writes its records after the file was moved: the last one may have to be waited for, and that of
        the submission may come behind those of a quick worker.
        """
        wait_until(lambda: FINAL.intersection(record["status"] for record in self.log(job)))
        return sorted(
            self.log(job), key=lambda record: (not record["message"].startswith("submitted by"), record["at"])
        )

    def errors(self, job: Job | None = None) -> list[dict[str, Any]]:
        """Return the records of the error log, all or those of one job."""
        return self._records("background_jobs_errors.log", job)

    def _records(self, name: str, job: Job | None) -> list[dict[str, Any]]:
        path = self.spool / "logs" / name
        text = path.read_bytes().decode() if path.exists() else ""
        found = []
        for line in text.split("\n")[:-1]:
            if job is None or job.id in line:
                record = LINE.fullmatch(line)
                assert record, f"a line of another shape in {name}: {line!r}"
                absent = {key for key in ("priority", "job", "attempt") if record[key] == "-"}
                found.append(record.groupdict() | dict.fromkeys(absent))
        return found

    def output(self, job: Job, attempt: int = 1) -> bytes:
        """Return what an attempt printed."""
        return self.queue._store.read_output(self.queue.get(job.id), attempt)

    def traces(self) -> list[str]:
        """Return what lies in the directories of workers and claims."""
        places = (self.spool / "workers", self.spool / "claimed")
        return [str(found.relative_to(self.spool)) for place in places for found in place.rglob("*")]

    def close(self) -> None:
        """Kill the workers; fail if anything that they started is left."""
        for worker in self._workers:
            if worker.runs():
                if sys.platform != "win32":
                    worker.send(signal.SIGCONT)
                worker.kill()
            if worker.errors.is_file():
                print(f"worker {worker.pid} said:\n{worker.says()}")  # noqa: T201 - shown if the test failed
        try:
            wait_until(lambda: not self._processes(), pause=0.02)
        finally:
            for process in self._processes():
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        """Return what runs with our spool in its environment: runners, and what their jobs started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("BGJOBS_SPOOL") == str(self.spool) and alive(process.pid):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def request(class_name: str, method: str, *args: Any, **options: Any) -> Request:
    """Return a request for `Queue.submit_many`."""
    return Request(class_name=class_name, method=method, args=args, **options)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project for one test, which starts its workers itself."""
    made = Project(tmp_path / "project")
    yield made
    made.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Worker]]:
    """A project that the tests of one file share, with a worker that has one runner."""
    made = Project(tmp_path_factory.mktemp("home") / "project")
    yield made, made.start().ready()
    made.close()


@pytest.fixture
def shared(home: tuple[Project, Worker]) -> Iterator[Project]:
    """The shared project; after the test its worker still lives, and runs the next job."""
    project, worker = home
    yield project
    assert worker.runs(), worker.says()
    for unfinished in project.queue.jobs(state=["queued", "scheduled", "running"]):
        project.queue.cancel(unfinished.id)  # of a test that failed: the next one needs the runner
    job = project.queue.submit("Honest", "echo", ["next"])
    assert project.queue.wait(job.id, LIMIT).result == "next"
    assert "Traceback" not in worker.says()


@pytest.fixture
def queue(shared: Project) -> Queue:
    """The queue of the shared project."""
    return shared.queue
