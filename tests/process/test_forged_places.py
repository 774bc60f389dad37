"""Whoever can write the spool makes up the place of a worker that never was: no process but a runner dies of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from bgjobs.ids import new_id
from bgjobs.spool import record
from tests.cli.commands import Bgjobs
from tests.process.conftest import Project, wait_until

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("locks are held as POSIX holds them", allow_module_level=True)
assert sys.platform != "win32"

import fcntl  # noqa: E402 - POSIX only

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.job import Job

SLEEPS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEEP = b"[" * 4000
ABOUT = {"host": "here", "pid": 1, "concurrency": 1, "started_at": "2026-01-01T00:00:00Z", "version": "1"}


def about(**values: object) -> bytes:
    """Return what a worker says of itself."""
    return json.dumps({"boot": system.boot_id(), "birth": "1", "worker": ABOUT | values}).encode()


@pytest.fixture
def victims() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that a test started and that have nothing to do with bgjobs; they end with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def started(victims: list[subprocess.Popen[bytes]], **environ: str) -> int:
    """Start a process in a session of its own, as a daemon or a terminal has one, and return its pid."""
    process = subprocess.Popen(
        SLEEPS, stdout=subprocess.PIPE, start_new_session=True, env={"PATH": os.environ["PATH"]} | environ
    )
    victims.append(process)
    assert process.stdout
    process.stdout.readline()
    return process.pid


def note(pid: int) -> bytes:
    """Return what a worker would write down of a runner that is this process."""
    return json.dumps({"pid": pid, "birth": system.birth(pid), "boot": system.boot_id()}).encode()


def forge(project: Project, **files: bytes) -> Path:
    """Make the place of a dead worker, with these files in it (`r0_pid` stands for r0.pid)."""
    project.queue.submit_many([])  # makes the spool
    place = project.spool / "workers" / new_id()
    place.mkdir(mode=0o700)
    (project.spool / "claimed" / place.name).mkdir(mode=0o700)
    for name, content in ({"alive_lock": b"", "ready": b""} | files).items():
        (place / name.replace("_", ".")).write_bytes(content)
    return place


def forge_start(project: Project, place: Path, pid: int) -> Job:
    """Put a job into the hands of the dead worker, whose file says that it runs in this process."""
    job = project.queue.submit("Honest", "echo", ["claimed"])
    (path,) = project.spool.rglob(f"*{job.id}.json")
    start = record.Start(
        at=1,
        wid=place.name,
        number=1,
        worker="here:1",
        slot=0,
        pid=pid,
        birth=system.birth(pid) or "",
        boot=system.boot_id(),
    )
    with path.open("ab") as file:
        file.write(record.encoded(start))
    path.rename(project.spool / "claimed" / place.name / f"5.{path.name}")
    return job


def recovers(project: Project) -> None:
    """Let a worker come, which takes over from all that are dead, and runs a job of somebody else."""
    job = project.queue.submit("Honest", "echo", ["mine"])
    project.drain()
    assert project.queue.get(job.id).result == "mine"


def test_a_note_cannot_name_a_process_that_is_no_runner(
    project: Project, victims: list[subprocess.Popen[bytes]]
) -> None:
    pid = started(victims)
    forge(project, r0_pid=note(pid))
    recovers(project)
    assert system.birth(pid)


def test_a_start_line_cannot_name_a_process_that_is_no_runner(
    project: Project, victims: list[subprocess.Popen[bytes]]
) -> None:
    pid = started(victims)
    job = forge_start(project, forge(project), pid)
    recovers(project)
    assert system.birth(pid)
    assert project.queue.get(job.id).result == "claimed"  # the job itself is recovered as ever


def test_a_program_that_submits_jobs_is_no_runner(project: Project, victims: list[subprocess.Popen[bytes]]) -> None:
    pid = started(victims, BGJOBS_CONFIG=str(project.config), BGJOBS_SPOOL=str(project.spool))
    forge(project, r0_pid=note(pid))
    recovers(project)
    assert system.birth(pid)


def test_what_a_daemon_is_left_with_is_no_session_of_a_runner(
    project: Project, victims: list[subprocess.Popen[bytes]]
) -> None:
    """A daemon lives on in the session of a process that has ended: its number can be named, whatever its birth."""
    code = "import os, time; os.fork() and os._exit(0); print(os.getpid(), flush=True); time.sleep(600)"
    environ = {"PATH": os.environ["PATH"], "BGJOBS_CONFIG": str(project.config)}
    leader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True, env=environ)
    assert leader.stdout
    daemon = int(leader.stdout.readline())
    birth = system.birth(daemon)
    leader.wait()
    try:
        content = {"pid": leader.pid, "birth": "1", "boot": system.boot_id()}
        forge(project, r0_pid=json.dumps(content).encode())
        recovers(project)
        assert system.birth(daemon) == birth
    finally:
        system.kill_tree(daemon)
        leader.stdout.close()


def test_a_runner_of_another_spool_is_not_theirs_to_end(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    try:
        worker = other.start().ready()
        wait_until(worker.runners)
        (runner,) = worker.runners()
        birth = system.birth(runner)
        wait_until(lambda: list(other.spool.glob("workers/*/r0.pid")))
        forge(project, r0_pid=note(runner))
        recovers(project)
        assert system.birth(runner) == birth
    finally:
        other.close()


STRANGE = [
    {"info": DEEP * 15},
    {"info": about(pid=int("9" * 4000))},
    {"info": about(pid=-1)},
    {"info": about(started_at="2026-01-01T00:00:00")},
    {"info": about(started_at="0001-01-01T00:00:00+01:00")},
    {"info": about(started_at="9999-12-31T23:59:59-01:00")},
    {"info": about(host="\x1b]0;x\x07\u202e\n[/red]")},
    {"info": about(host="x" * 60_000)},
    {"info": b'{"worker":{"host":"\xff"}}'},
    {"r0_pid": DEEP},
    {"r0_pid": b'{"pid":%s,"birth":"1","boot":"%s"}' % (b"9" * 3900, system.boot_id().encode())},
    {"r0_pid": b'{"pid":-1,"birth":"1","boot":"%s"}' % system.boot_id().encode()},
    {"r0_pid": b'{"pid":1,"birth":"1","boot":"%s"}' % system.boot_id().encode()},
    {"r0_pid": b'{"pid":2,"birth":"\xff","boot":"x"}'},
    {"info": about(), "dropped": b"9" * 60_000},
]


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "coming"])
def test_strange_notes_of_workers_hinder_nobody(project: Project, *, ready: bool) -> None:
    for files in STRANGE:
        place = forge(project, **files)
        if not ready:
            (place / "ready").unlink()
    job = project.queue.submit("Honest", "echo", ["mine"])
    worker = project.drain()
    assert project.queue.get(job.id).result == "mine"
    assert "Traceback" not in worker.says()
    assert "cannot look after" not in worker.says()


@pytest.mark.parametrize("files", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_note_of_a_worker_can_be_looked_at(project: Project, files: dict[str, bytes], tmp_path: Path) -> None:
    place = forge(project, **files)
    with (place / "alive.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # so it seems to live
        for command in (["status"], ["status", "--json"], ["doctor"], ["list"]):
            ran = Bgjobs(project.root, tmp_path)(*command)
            assert "internal error" not in ran.stderr
            assert "\x1b" not in ran.stdout + ran.stderr


def test_a_start_line_with_absurd_numbers_hinders_nobody(project: Project) -> None:
    place = forge(project)
    job = project.queue.submit("Honest", "echo", ["claimed"])
    (path,) = project.spool.rglob(f"*{job.id}.json")
    absurd = b'{"event":"start","at":1,"wid":"%s","number":%s,"worker":"x","slot":0,"pid":%s,"birth":"1","boot":"%s"}\n'
    content = absurd % (place.name.encode(), b"9" * 4000, b"9" * 4000, system.boot_id().encode())
    path.write_bytes(path.read_bytes() + content)
    path.rename(project.spool / "claimed" / place.name / f"5.{path.name}")
    worker = project.drain()
    assert "Traceback" not in worker.says()
    assert "cannot look after" not in worker.says()
    assert project.queue.get(job.id).result == "claimed"
