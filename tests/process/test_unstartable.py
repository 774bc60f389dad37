"""A worker whose runners cannot be started: it obeys, keeps what runs, tries again, and ends with 1 if none can be."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from bgjobs.worker.protocol import Setup, encoded
from tests.process.conftest import LIMIT, Project, Worker, lines, posix_only, request, wait_for_lines, wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = posix_only  # the interpreter of the runners is a script

# A worker that starts its runners with another program than its own.
WORKER = """
import sys
from bgjobs.cli import main
from bgjobs.worker import pool
sys.executable, pool.START_PATIENCE_S = sys.argv[1], float(sys.argv[2])
pool.FIRST_PAUSE_S = 0.02  # tests/unit/test_worker_pool.py knows that each pause is longer than the one before
sys.argv = ["bgjobs", *sys.argv[6:]]
sys.exit(main())
"""
GOOD = f'exec {shlex.quote(sys.executable)} "$@"'
SAID = "cannot start a runner: "


@pytest.mark.parametrize("broken", ["lock", "output", "cwd"])
def test_a_runner_that_cannot_take_its_place_says_so_in_one_line(tmp_path: Path, broken: str) -> None:
    gone = str(tmp_path / "gone" / "r0")
    setup = Setup(
        (),
        gone if broken == "cwd" else str(tmp_path),
        lock=gone if broken == "lock" else str(tmp_path / "r0.lock"),
        output=gone if broken == "output" else str(tmp_path / "r0.out"),
    )
    command = [sys.executable, "-m", "bgjobs.worker.child.main"]
    done = subprocess.run(command, input=encoded(setup), capture_output=True, check=False, timeout=LIMIT)
    said = done.stderr.decode()
    assert (done.returncode, said.count("\n")) == (1, 1), said
    assert said.startswith("bgjobs: a runner cannot begin: ")
    assert "gone" in said


class Interpreter:
    """What a worker starts its runners with; it can be broken, and mended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.becomes(GOOD)

    def becomes(self, text: str) -> None:
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        fresh.chmod(0o755)
        fresh.rename(self.path)

    def goes(self) -> None:
        self.path.unlink()

    def is_forbidden(self) -> None:
        self.path.chmod(0o644)

    def is_no_program(self) -> None:
        self.path.write_bytes(b"\x7fELF and nothing that follows")

    def dies(self) -> None:
        self.becomes("exit 1")

    def dies_by_a_signal(self) -> None:
        self.becomes("kill -9 $$")

    def hangs(self) -> None:
        self.becomes("exec sleep 3600")


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    return Interpreter(tmp_path / "interpreter")


def start(project: Project, interpreter: Interpreter, *, patience: float = 3600, **options: Any) -> Worker:
    return project.start(through=[sys.executable, "-c", WORKER, str(interpreter.path), str(patience)], **options)


Breakage = Callable[[Interpreter], None]
BREAKAGES: list[Breakage] = [
    Interpreter.goes,
    Interpreter.is_forbidden,
    Interpreter.is_no_program,
    Interpreter.dies,
    Interpreter.dies_by_a_signal,
]
DIFFERENT: list[Breakage] = [Interpreter.goes, Interpreter.dies, Interpreter.hangs]  # to the worker that starts it


@pytest.mark.parametrize("breakage", part(BREAKAGES, tried=2))
@pytest.mark.parametrize("concurrency", part([1, 3]))
def test_a_worker_that_can_start_no_runner_ends_with_1_and_says_why(
    project: Project, interpreter: Interpreter, breakage: Breakage, concurrency: int
) -> None:
    breakage(interpreter)
    job = project.queue.submit("Honest", "echo")
    worker = start(project, interpreter, concurrency=concurrency, drain=True)
    assert worker.ended() == 1
    says = worker.says()
    assert says.count("stopping: ") == 1
    assert says.count(SAID) <= 1  # not a line for each try
    assert "Traceback" not in says
    assert (project.state(job), project.queue.get(job.id).attempts) == (State.QUEUED, ())
    assert project.traces() == []


def test_a_runner_that_is_never_ready_is_killed_and_counts_as_one_that_cannot_be_started(
    project: Project, interpreter: Interpreter
) -> None:
    interpreter.hangs()
    worker = start(project, interpreter, patience=0.2)
    assert worker.ended() == 1
    assert worker.says().count("a runner that was not ready after 0.2 s is killed") == 5
    assert "stopping: 5 runners in a row died before they were ready" in worker.says()
    assert project.traces() == []


@pytest.mark.parametrize("breakage", DIFFERENT)
def test_it_obeys_and_keeps_what_runs_while_no_other_runner_can_be_started(
    project: Project, tmp_path: Path, interpreter: Interpreter, breakage: Breakage
) -> None:
    go, first, second = tmp_path / "go", tmp_path / "first", tmp_path / "second"
    worker = start(project, interpreter, concurrency=3, recycle=3)  # the first runners serve for 1, 2 and 3 jobs
    kept = project.queue.submit("Honest", "wait_for", [str(go), str(first)])
    unwanted = project.queue.submit("Honest", "wait_for", [str(tmp_path / "never"), str(second)])
    wait_for_lines(first)
    wait_for_lines(second)
    breakage(interpreter)
    quick = project.queue.submit_many([request("Honest", "echo", n) for n in range(9)])  # the third runner wears out
    wait_until(lambda: sum(project.state(job) is State.DONE for job in quick) >= 1)
    project.queue.cancel(unwanted.id)
    wait_until(lambda: project.state(unwanted) is State.CANCELLED)
    go.touch()
    wait_until(lambda: project.state(kept) is State.DONE)
    interpreter.becomes(GOOD)
    if breakage is not Interpreter.hangs:
        wait_until(lambda: all(project.state(job) is State.DONE for job in quick))
    assert worker.stop() == 0
    assert all(len(project.queue.get(job.id).attempts) <= 1 for job in quick)
    assert project.traces() == []


@pytest.mark.parametrize("breakage", part(DIFFERENT))
@pytest.mark.parametrize("by_signal", [True, False])
def test_it_stops_when_asked_to_while_it_has_no_runner(
    project: Project, interpreter: Interpreter, breakage: Breakage, by_signal: bool
) -> None:
    breakage(interpreter)
    job = project.queue.submit("Honest", "echo")
    worker = start(project, interpreter)
    wait_until(lambda: SAID in worker.says() or (breakage is not Interpreter.goes and "may run" in worker.says()))
    if by_signal:
        worker.ask_to_stop()
    else:
        [view] = project.queue.workers()
        assert project.queue._store.stop(view.id)
    assert worker.ended() == 0
    assert project.state(job) is State.QUEUED
    assert project.traces() == []


def test_runners_that_a_changed_allowlist_retires_are_replaced_when_that_is_possible_again(
    project: Project, interpreter: Interpreter
) -> None:
    worker = start(project, interpreter, concurrency=2)
    before = project.queue.submit("Honest", "echo", ["before"])
    project.queue.wait(before.id, LIMIT)
    interpreter.goes()
    project.allow('"COLOUR"', '"COLOUR", "LANG"')
    wait_until(lambda: SAID in worker.says())
    interpreter.becomes(GOOD)
    after = project.queue.submit("Honest", "echo", ["after"])
    assert project.queue.wait(after.id, LIMIT).result == "after"
    assert worker.stop() == 0


def test_with_too_few_descriptors_it_serves_with_fewer_runners_and_obeys(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    few = ["/bin/sh", "-c", 'ulimit -n 80; exec "$0" "$@"']
    worker = project.start(through=few, concurrency=60)
    running = project.queue.submit("Honest", "wait_for", [str(tmp_path / "never"), str(notes)])
    wait_for_lines(notes)
    wait_until(lambda: SAID in worker.says())
    jobs = project.queue.submit_many([request("Honest", "sign", str(tmp_path / "signed"), 0.01) for _ in range(50)])
    wait_until(lambda: len(lines(tmp_path / "signed")) == len(jobs))
    project.queue.cancel(running.id)
    wait_until(lambda: project.state(running) is State.CANCELLED)
    assert worker.stop() == 0
    assert "cannot look after" not in worker.says()
    assert all(project.state(job) is State.DONE for job in jobs)
    assert project.traces() == []
