"""What a job has started ends before another attempt of it begins, whatever its session and whoever died."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bgjobs import Queue
from bgjobs.job import State
from tests.process.conftest import LIMIT, alive, gone, numbers, wait_for_lines, wait_until
from tests.sweeping import part

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("all of a job ends with its job object there", allow_module_level=True)
assert sys.platform != "win32"

import fcntl  # noqa: E402 - POSIX only

if TYPE_CHECKING:
    from bgjobs.job import Job
    from tests.process.conftest import Project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt what others leave")
NOT_AS_PID_1 = shutil.which("unshare") is None or os.geteuid() != 0
KINDS = ["session", "daemon", "fork", "forked daemon", "always another"]


def ended(project: Project, job: Job) -> Job:
    return project.queue.wait_until_ended(job.id, LIMIT)


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def zombies(pid: int) -> int:
    return sum(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process(pid).children())


def none_is_left(pids: Path) -> bool:
    """Tell whether all are gone that said their pids, and those that go on under another one at every moment."""
    with Path(f"{pids}.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return gone(*numbers(pids))


# The worker dies


@pytest.mark.parametrize("how", part(KINDS))
def test_what_left_the_session_ends_before_the_next_attempt_of_a_lost_job(
    project: Project, tmp_path: Path, how: str
) -> None:
    pids, go = tmp_path / "pids", tmp_path / "go"
    first = project.start()
    job = project.queue.submit("Escaping", "leave_and_wait", [how, str(pids), str(go)])
    wait_for_lines(pids)
    wait_until(lambda: project.state(job) is State.RUNNING)
    first.kill()
    go.touch()
    project.drain()
    done = project.queue.get(job.id)
    assert (done.state, outcomes(done), done.result) == (State.DONE, ["crashed", "succeeded"], [])
    assert none_is_left(pids)


def test_a_worker_that_lives_ends_what_the_job_of_a_dead_one_left_and_nothing_of_its_own(
    project: Project, tmp_path: Path
) -> None:
    own, go = tmp_path / "own", tmp_path / "go"
    living = project.start().ready()
    kept = project.queue.submit("Escaping", "leave_and_wait", ["daemon", str(own), str(go)])
    wait_for_lines(own)
    dying = project.start(concurrency=2)
    files = {how: tmp_path / how for how in ("fork", "daemon")}  # one that has started none may not have begun
    lost = [
        project.queue.submit("Escaping", "leave_and_wait", [how, str(path), str(go)]) for how, path in files.items()
    ]
    for path in files.values():
        wait_for_lines(path)
    wait_until(lambda: all(project.state(job) is State.RUNNING for job in lost))
    left = [pid for path in files.values() for pid in numbers(path)]
    dying.kill()
    wait_until(lambda: gone(*left))
    assert alive(numbers(own)[0])
    go.touch()
    assert outcomes(ended(project, kept)) == ["succeeded"]
    for job in lost:
        assert outcomes(ended(project, job)) == ["crashed", "succeeded"]
    assert living.stop() == 0
    assert gone(*numbers(own))


HELPED = """
import subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with open({pids!r}, "a") as file:
    file.write(f"{{helper.pid}}\\n")
def look(): ...
"""


def test_what_a_module_has_started_ends_with_its_lost_worker_though_its_job_has_ended(
    project: Project, tmp_path: Path
) -> None:
    pids, allowed = tmp_path / "pids", project.root / "allowed_jobs.toml"
    (project.root / "helped.py").write_text(HELPED.format(pids=str(pids)), "utf-8")
    allowed.write_text(allowed.read_text("utf-8") + '\n[jobs.helped]\nclass = "helped"\nmethods = ["look"]\n', "utf-8")
    queue = Queue.open(config=allowed)

    def helper() -> int:
        """Let a job run; return the process that its module has started."""
        assert ended(project, queue.submit("helped", "look")).state is State.DONE
        return numbers(pids)[-1]

    first = project.start()
    lost = helper()
    first.kill()
    assert alive(lost)
    second = project.start()
    wait_until(lambda: gone(lost))
    kept = helper()
    third = project.start().ready()
    third.kill()
    places = project.spool / "workers"
    wait_until(lambda: len(list(places.iterdir())) == 1)  # the dead one is cleared away
    assert alive(kept)
    assert second.stop() == 0
    assert gone(kept)


def test_a_cancel_that_came_after_the_worker_was_killed_ends_what_left_the_session(
    project: Project, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    first = project.start()
    job = project.queue.submit("Escaping", "leave_and_wait", ["session", str(pids), str(tmp_path / "never")])
    wait_for_lines(pids)
    first.kill()
    project.queue.cancel(job.id)
    project.drain()
    assert project.state(job) is State.CANCELLED
    assert gone(*numbers(pids))


# The runner dies


@pytest.mark.parametrize("how", part([*KINDS, "wiped"], tried=2))
def test_what_left_the_session_ends_with_its_runner(project: Project, tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    job = project.queue.submit("Escaping", "leave_and_die", [how, str(pids)], retries=1)
    worker = project.start()
    done = ended(project, job)
    assert (done.state, outcomes(done), done.result) == (State.DONE, ["crashed", "succeeded"], [])
    assert none_is_left(pids)
    wait_until(lambda: zombies(worker.pid) == 0)
    assert worker.stop() == 0


def test_what_a_killed_runner_leaves_ends_and_the_job_of_another_runner_keeps_its_own(
    project: Project, tmp_path: Path
) -> None:
    pids, own, go = tmp_path / "pids", tmp_path / "own", tmp_path / "go"
    worker = project.start(concurrency=2)
    kept = project.queue.submit("Escaping", "leave_and_wait", ["forked daemon", str(own), str(go)])
    wait_for_lines(own)
    before = {*worker.runners()}
    other = project.queue.submit("Escaping", "leave_and_die", ["forked daemon", str(pids)], retries=1)
    assert outcomes(ended(project, other)) == ["crashed", "succeeded"]
    assert gone(*numbers(pids))
    assert alive(numbers(own)[0])
    assert before & {*worker.runners()}
    go.touch()
    assert outcomes(ended(project, kept)) == ["succeeded"]
    wait_until(lambda: gone(*numbers(own)))


# Nobody dies


@pytest.mark.parametrize("how", part([*KINDS, "wiped"], tried=2))
def test_what_left_the_session_ends_with_its_job(project: Project, tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    project.start()
    job = project.queue.submit("Escaping", "leave_and_return", [how, str(pids)])
    assert ended(project, job).state is State.DONE
    wait_until(lambda: none_is_left(pids))


@pytest.mark.parametrize("how", part(["daemon", "forked daemon", "wiped"]))
def test_what_left_the_session_ends_with_a_cancelled_job(project: Project, tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    project.start()
    job = project.queue.submit("Escaping", "leave_and_wait", [how, str(pids), str(tmp_path / "never")])
    wait_for_lines(pids)
    project.queue.cancel(job.id)
    assert ended(project, job).state is State.CANCELLED
    wait_until(lambda: gone(*numbers(pids)))


@pytest.mark.parametrize("method", ["leave_and_return", "leave_and_die"])
def test_what_left_the_session_ends_with_a_job_in_the_foreground(project: Project, tmp_path: Path, method: str) -> None:
    pids = tmp_path / "pids"
    command = [sys.executable, "-m", "bgjobs", "run", "Escaping", method, "forked daemon", str(pids)]
    subprocess.run(command, cwd=project.root, capture_output=True, timeout=LIMIT, check=False)
    assert gone(*numbers(pids))


# What doctor says of it


def doctor(project: Project, *options: str) -> tuple[int, dict[str, Any]]:
    """Run `bgjobs doctor`, and return its exit status and what it says."""
    command = [sys.executable, "-m", "bgjobs", "doctor", "--json", "--config", str(project.config), *options]
    result = subprocess.run(command, cwd=project.root, capture_output=True, timeout=LIMIT, check=False)
    return result.returncode, json.loads(result.stdout)


def found_orphans(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in said["findings"] if finding["code"] == "orphan-process"]


@pytest.mark.parametrize("how", part(KINDS))
def test_doctor_names_and_ends_what_the_job_of_a_killed_worker_left(project: Project, tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    worker = project.start()
    job = project.queue.submit("Escaping", "leave_and_wait", [how, str(pids), str(tmp_path / "never")])
    wait_for_lines(pids)
    wait_until(lambda: project.state(job) is State.RUNNING)
    worker.kill()
    status, said = doctor(project)
    (finding,) = found_orphans(said)
    assert (status, said["ok"], finding["serious"], finding["repairable"]) == (1, False, True, True)
    assert finding["path"] == (f"job {job.id}" if how in {"session", "daemon"} else "a job")
    if how != "always another":
        assert str(numbers(pids)[0]) in finding["message"]
    assert "--repair" in finding["message"]
    status, said = doctor(project, "--repair")
    assert (status, found_orphans(said)) == (0, [])
    assert none_is_left(pids)
    assert project.state(job) is State.QUEUED


@pytest.mark.parametrize("how", part(KINDS))
def test_doctor_names_and_ends_what_a_killed_job_in_the_foreground_left(
    project: Project, tmp_path: Path, how: str
) -> None:
    pids = tmp_path / "pids"
    command = [sys.executable, "-m", "bgjobs", "run", "Escaping", "leave_and_wait", how, str(pids), "/never"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=project.root, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            wait_for_lines(pids)
            assert found_orphans(doctor(project, "--repair")[1]) == []  # as long as it runs
            assert not none_is_left(pids)
        finally:
            process.kill()
    status, said = doctor(project)
    assert (status, len(found_orphans(said))) == (1, 1)
    status, said = doctor(project, "--repair")
    assert (status, found_orphans(said)) == (0, [])
    assert [what for what in said["mended"] if what.startswith("ended process")]
    assert none_is_left(pids)


def test_doctor_leaves_alone_what_jobs_that_run_have_started(project: Project, tmp_path: Path) -> None:
    go, paths = tmp_path / "go", [tmp_path / f"pids{number}" for number in range(len(KINDS))]
    project.start(concurrency=len(KINDS))
    pairs = list(zip(KINDS, paths, strict=True))
    jobs = [project.queue.submit("Escaping", "leave_and_wait", [how, str(path), str(go)]) for how, path in pairs]
    for path in paths:
        wait_for_lines(path)
    for options in ((), ("--repair",)):
        status, said = doctor(project, *options)
        assert (status, found_orphans(said)) == (0, [])
    assert not any(map(none_is_left, paths))
    inside = project.queue.submit("Escaping", "look", [str(project.config)])
    go.touch()
    for job in jobs:
        assert outcomes(ended(project, job)) == ["succeeded"]
    found = ended(project, inside).result
    assert isinstance(found, str)
    assert found_orphans(json.loads(found)) == []


# Zombies


def test_a_worker_asks_for_the_exit_status_of_whatever_it_adopts(project: Project, tmp_path: Path) -> None:
    worker = project.start().ready()
    job = project.queue.submit("Escaping", "leave_many", [300])
    assert ended(project, job).state is State.FAILED
    after = ended(project, project.queue.submit("Honest", "echo", ["next"]))
    assert after.result == "next"
    wait_until(lambda: zombies(worker.pid) == 0)
    assert worker.stop() == 0


@pytest.mark.skipif(NOT_AS_PID_1, reason="only root can begin a PID namespace")
def test_a_worker_that_is_pid_1_ends_and_reaps_what_jobs_leave_and_nothing_else(
    project: Project, tmp_path: Path
) -> None:
    pids, others = tmp_path / "pids", tmp_path / "others"
    # As `docker exec` does it: something else in the container, whose parent ends.
    start = f"import sys; sys.path.insert(0, '.'); import escaping; escaping.start('daemon', '{others}')"
    script = tmp_path / "container"
    script.write_text(f'#!/bin/sh\n({sys.executable} -c "{start}")\nexec "$@"\n', "utf-8")
    script.chmod(0o755)
    worker = project.start(
        through=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(script)], concurrency=2
    )
    wait_for_lines(others)
    for how in ("session", "fork", "forked daemon"):
        job = project.queue.submit("Escaping", "leave_and_die", [how, str(pids)], retries=1)
        done = ended(project, job)
        assert (outcomes(done), done.result) in ((["crashed", "succeeded"], []), (["succeeded"], []))
    (first,) = (child for child in psutil.Process(worker.pid).children())
    wait_until(lambda: zombies(first.pid) == 0)
    names = [" ".join(child.cmdline()) for child in first.children()]
    assert sum(str(others) in name for name in names) == 1  # the stranger lives
    assert not any(str(pids) in name for name in names)
