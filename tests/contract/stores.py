"""The stores that the contract is tried on, and what goes into them.

A store is a `Store` and the few things that a test needs beside it: a look behind it, and workers that die. A new
backend plugs in by a class here and its name in `KINDS`; the tests stay as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from bgjobs import files, lifecycle, system
from bgjobs.config import settings
from bgjobs.event_log import Log
from bgjobs.ids import lane_of, new_id
from bgjobs.job import Crashed, Job, JobError, State, milliseconds, moment
from bgjobs.lifecycle import Policy
from bgjobs.spool.session import SpoolSession
from bgjobs.spool.store import SpoolStore
from bgjobs.store import Finish, Selection, WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bgjobs.job import Outcome
    from bgjobs.lifecycle import Verdict
    from bgjobs.store import Claim, Session, Store

ROOT = Path(__file__).parents[2]
WORKER_PROCESS = Path(__file__).with_name("worker_process.py")
HOST = "web1"
SOON = 10.0  # seconds: how long a test waits at most for what is about to happen
FAR = timedelta(days=1)
POLICY = Policy(retry_delay=timedelta(0), max_crashes=3)
LOST = Crashed(JobError(type="WorkerLost", message="died"), worker_lost=True)
NO_SELECTION = Selection()
LANE = lane_of("Mail", "send")  # of the jobs that `new_job` makes, unless it is told otherwise


class StoreKind(Protocol):
    """One store, and how to look behind it."""

    kind: str
    where: str

    def open(self) -> Store:
        """Return a backend of its own, as another process has it."""

    def holders(self) -> dict[str, list[State]]:
        """Return in which states each job is found by a raw look; queued and scheduled are one."""

    def ended(self) -> dict[str, bytes]:
        """Return all that is stored of each job that ended, under names that have its id in them."""

    def settle(self) -> None:
        """Wait until a worker that looked before would see what changed since, if that takes its time."""

    def abandon(self, session: Session) -> None:
        """Let go of a session as a process does that dies: nothing is put in order."""

    def break_off_moves(self) -> None:
        """Let every later change of state in this process stop after it was decided, before it shows."""


def output_of(session: Session, claim: Claim) -> Path:
    """Return where the output of the next attempt of a claimed job is to be kept."""
    begin = session.begin(claim, slot=0, pid=os.getpid(), birth="1")
    assert begin is not None
    return Path(begin.output)


class SpoolKind:
    """The queue in a directory."""

    kind = "spool"

    def __init__(self, where: str) -> None:
        self.where = where
        config = Path(where, "allowed_jobs.toml")
        if not config.exists():
            # Durable or not makes no difference that a test could see; the power-cut tests are elsewhere.
            config.write_text('[bgjobs]\ndurability = "os"\n', encoding="utf-8")
        self._settings = settings.load(config=str(config), environ={})
        self._coarse: bool | None = None

    def open(self) -> SpoolStore:
        return SpoolStore(self._settings, Log(self._settings.log_dir))

    def holders(self) -> dict[str, list[State]]:
        found: dict[str, list[State]] = defaultdict(list)
        for directory, state in (
            ("pending", State.QUEUED),
            ("waiting", State.WAITING),
            ("claimed", State.RUNNING),
            ("done", State.DONE),
            ("failed", State.FAILED),
            ("cancelled", State.CANCELLED),
            ("corrupt", State.CORRUPT),
            ("tmp", State.CORRUPT),
        ):
            for path in Path(self._settings.spool, directory).rglob("*.json"):
                found[path.stem[-26:]].append(state)
        return found

    def ended(self) -> dict[str, bytes]:
        spool = Path(self._settings.spool)
        paths = (path for name in ("done", "failed", "cancelled") for path in (spool / name).rglob("*.json"))
        return {str(path): path.read_bytes() for path in paths}

    def settle(self) -> None:
        if self._coarse is None:
            self._coarse = _is_coarse(Path(self.where))
        if self._coarse:
            time.sleep(0.03)  # longer than a tick of any clock

    def abandon(self, session: Session) -> None:
        assert isinstance(session, SpoolSession)
        session._recovery.close()
        session._claimer.close()
        session.bell.close()
        session._dir.release()  # as the kernel does it when a process ends

    def break_off_moves(self) -> None:
        def never(source: str, target: str) -> None:
            raise OSError(f"the power went before {source} could be moved to {target}")

        files.move = never


def _is_coarse(folder: Path) -> bool:
    """Tell whether two changes of a directory in a row may get the same time."""
    times = []
    for n in range(20):
        (folder / f"tick{n}").touch()
        times.append(folder.stat().st_mtime_ns)
        (folder / f"tick{n}").unlink()
        times.append(folder.stat().st_mtime_ns)
    return len(set(times)) < len(times)


KINDS: dict[str, Callable[[str], StoreKind]] = {"spool": SpoolKind}


# Jobs and what workers do with them


def now() -> datetime:
    """Return this moment, in whole milliseconds as jobs keep them."""
    return moment(milliseconds(datetime.now(UTC)))


def new_job(
    *,
    priority: int = 5,
    delay: timedelta = timedelta(0),
    retries: int = 3,
    class_name: str = "Mail",
    method: str = "send",
    args: tuple[object, ...] = ("Tony",),
    tags: tuple[str, ...] = (),
) -> Job:
    """Return a job as `Queue.prepare` makes it."""
    at = now()
    return Job(
        id=new_id(milliseconds(at), lane=lane_of(class_name, method)),
        class_name=class_name,
        method=method,
        priority=priority,
        not_before=at + delay,
        submitted_at=at,
        submitted_by="ann@web1",
        retries=retries,
        state=State.SCHEDULED if delay else State.QUEUED,
        args=args,
        tags=tags,
    )


def info(pid: int | None = None) -> WorkerInfo:
    """Return what a worker says of itself."""
    pid = os.getpid() if pid is None else pid
    return WorkerInfo(host=HOST, pid=pid, concurrency=2, started_at=now(), version="0.1.0")


def begin(session: Session, claim: Claim) -> Job:
    """Begin the attempt as a runner does, and return the running job."""
    # Recovery kills the runner that began a lost job: the one named here was born before any process there is.
    todo = session.begin(claim, slot=0, pid=os.getpid(), birth="long ago")
    at = now()
    if todo is not None:
        files.append(todo.path, f"{todo.head}{milliseconds(at)}{todo.tail}".encode())
    return lifecycle.started(claim.job, worker=info().name, at=at)


def finish(
    session: Session, claim: Claim, outcome: Outcome, *, policy: Policy = POLICY, running: Job | None = None
) -> Job:
    """End the attempt as a worker does, beginning it if it was not, and return what became of the job."""
    running = begin(session, claim) if running is None else running
    return stored(session, claim, decided(running, outcome, policy), running=running)


def decided(running: Job, outcome: Outcome, policy: Policy = POLICY) -> Verdict:
    """Return what a worker decides about a job whose attempt ended so."""
    return lifecycle.after(running, outcome, lifecycle.with_options_of(policy, running), now(), 0.5)


def stored(
    session: Session, claim: Claim, verdict: Verdict, *, running: Job | None = None, at: datetime | None = None
) -> Job:
    """Store what was decided about a claimed job, and return the job as it is then. Raises what kept it from that."""
    finish = Finish(claim=claim, running=running or claim.job, verdict=verdict, at=at or now())
    (error,) = session.finish([finish])
    if error is not None:
        raise error
    return lifecycle.applied(finish.running, verdict, finish.at)


def claim_all(session: Session, count: int) -> list[Claim]:
    """Claim so many jobs, however long it takes until they are seen."""
    found: list[Claim] = []

    def all_are_there() -> bool:
        found.extend(session.claim(count - len(found)) if len(found) < count else [])
        return len(found) == count

    wait_until(all_are_there)
    return found


def recover(session: Session, *, policy: Policy = POLICY) -> list[Job]:
    """Take over what dead workers left, as a worker does, and return the jobs whose attempts were lost."""
    return [stored(session, claim, decided(claim.job, LOST, policy)) for claim in session.recover()]


def recover_all(backend: Store, session: Session, *, policy: Policy = POLICY) -> list[Job]:
    """Take over from dead workers until none is left."""
    found: list[Job] = []

    def none_is_left() -> bool:
        found.extend(recover(session, policy=policy))
        return all(worker.alive for worker in backend.workers())

    wait_until(none_is_left)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail when it does not soon."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.002)  # between two looks


def got(backend: Store, job_id: str) -> Job:
    """Return a job that must be there."""
    job = backend.get(job_id)
    assert job is not None
    return job


def told(job: Job) -> dict[str, object]:
    """Return what a store has to tell of a job, whoever tells it: without what only the path or the clock knows."""
    shown = job.to_json()
    for name in ("worker", "finished_at", *(("not_before", "priority") if job.state.ended else ())):
        del shown[name]
    shown["attempts"] = [attempt | {"finished_at": None, "worker": None} for attempt in shown["attempts"]]
    return shown


def plain(job: Job, state: State) -> Job:
    """Return the job in another state."""
    return replace(job, state=state)


# Workers that are processes of their own


class WorkerProcess:
    """A worker in a process of its own, which does what it is told; see `worker_process.py`."""

    def __init__(self, store: StoreKind, plan: dict[str, object]) -> None:
        environment = system.base_environment(os.environ) | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(lifecycle.__file__).parents[1])])
        }
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER_PROCESS), store.kind, store.where, json.dumps(plan)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def said(self) -> dict[str, list[str]]:
        """Return the next thing that it says, when it does."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the worker process ended with {self._process.wait()}"
        answer: dict[str, list[str]] = json.loads(line)
        return answer

    def tell(self, word: str) -> None:
        """Tell it to go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def send(self, signal_number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(signal_number)

    def kill(self) -> None:
        """Kill it, as `kill -9` does, and wait until it is gone."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Wait until it is gone."""
        self._process.communicate()


class Sessions:
    """Joins a backend and sees to it that every session leaves in the end."""

    def __init__(self, store: StoreKind) -> None:
        self._store = store
        self._sessions: list[Session] = []
        self._processes: list[WorkerProcess] = []

    def join(self, selection: Selection = NO_SELECTION) -> Session:
        """Take a place as a worker of this process."""
        session = self._store.open().join(info(), selection)
        self._sessions.append(session)
        return session

    def leave(self, session: Session) -> None:
        """Leave before the end of the test."""
        self._sessions.remove(session)
        session.leave()

    def abandon(self, session: Session) -> None:
        """Let go of a session as a process does that dies."""
        self._sessions.remove(session)
        self._store.abandon(session)

    def process(self, **plan: object) -> WorkerProcess:
        """Start a worker in a process of its own."""
        process = WorkerProcess(self._store, plan)
        self._processes.append(process)
        return process

    def dead(self, **plan: object) -> dict[str, list[str]]:
        """Start a worker, let it do its part, kill it, and return what it said before."""
        process = self.process(**plan)
        said = process.said()
        process.kill()
        self._processes.remove(process)
        return said

    def close(self) -> None:
        """End what is left."""
        for process in self._processes:
            process.kill()
        for session in self._sessions:
            session.leave()


def each_once(things: Iterable[str]) -> set[str]:
    """Return the things as a set, and fail when one is there twice."""
    listed = list(things)
    assert len(set(listed)) == len(listed)
    return set(listed)
