"""No job is ever stuck: when a worker or a runner dies, or its spool is in trouble, every job still ends, once."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bgjobs.ids import id_ms, new_id
from bgjobs.job import State
from tests.process.conftest import (
    LIMIT,
    PROJECT,
    alive,
    gone,
    kill,
    lines,
    numbers,
    posix_only,
    request,
    slowness,
    wait_for_lines,
    wait_until,
)
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Job
    from tests.process.conftest import Project, Worker

if sys.platform != "win32":
    import resource

FULL = Path("/dev/full")


def end(project: Project, job: Job) -> Job:
    return project.queue.wait_until_ended(job.id, LIMIT)


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


# A worker dies


def test_another_worker_runs_the_job_of_a_killed_one_again_within_a_second(project: Project, tmp_path: Path) -> None:
    notes, pids, go = tmp_path / "notes", tmp_path / "pids", tmp_path / "go"
    first = project.start()
    job = project.queue.submit("Honest", "interval", [str(notes), str(pids), str(go)], retries=0)
    # The job, a child of it, and a grandchild in a process group of its own; all of them ignore polite signals.
    wait_for_lines(pids, 3)
    second = project.start().ready()
    slow = slowness()
    killed = datetime.now(UTC)
    first.kill()
    wait_for_lines(notes, 2)
    slow = max(slow, slowness())
    go.touch()
    done = end(project, job)
    assert (done.state, outcomes(done)) == (State.DONE, ["crashed", "succeeded"])
    assert (done.attempt, done.crashes) == (1, 1)  # the loss used up no attempt: there was only this one
    assert [attempt.worker for attempt in done.attempts] == [first.name, second.name]
    assert done.attempts[0].error is not None
    assert done.attempts[0].error.message == f"worker {first.name} died"
    # The promise is "within a second"; half a second more is for two cores that are busy with other things.
    most = LIMIT if ON_WINE else 1.5 * slow
    assert (done.attempts[1].started_at - killed).total_seconds() < most
    assert done.result == []  # when the second attempt began, nobody of the first one was alive
    assert gone(*numbers(pids))
    (_, old, _), (_, new, begun), (_, ender, over) = (line.split() for line in lines(notes))
    assert old != new == ender
    assert float(over) > float(begun)
    assert [record["status"] for record in project.whole_log(job)] == [
        "QUEUED",
        "RUNNING",
        "RETRY",
        "RUNNING",
        "SUCCESS",
    ]
    assert [record["status"] for record in project.errors(job)] == ["CRASHED"]


def test_a_method_that_holds_the_interpreter_dies_with_its_worker(project: Project, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    worker = project.start()
    job = project.queue.submit("Stubborn", "match", [str(pids)])
    wait_for_lines(pids)
    worker.kill()
    wait_until(lambda: gone(*numbers(pids)), limit=10)
    project.queue.cancel(job.id)


def test_the_next_worker_runs_the_job_of_a_killed_one(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    first = project.start()
    job = project.queue.submit("Honest", "wait_for", [str(tmp_path / "go"), str(notes)])
    wait_for_lines(notes)
    first.kill()
    assert project.state(job) is State.RUNNING
    assert [worker.alive for worker in project.queue.workers()] == [False]
    (tmp_path / "go").touch()
    project.drain()
    done = project.queue.get(job.id)
    assert (done.state, outcomes(done), done.crashes) == (State.DONE, ["crashed", "succeeded"], 1)
    assert project.traces() == []


def test_jobs_that_a_killed_worker_had_not_begun_come_back_uncharged(project: Project, tmp_path: Path) -> None:
    go, signed = tmp_path / "go", tmp_path / "signed"
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    jobs = project.queue.submit_many(
        [
            *quick,
            request("Honest", "wait_for", str(go), str(tmp_path / "begun")),
            *(request("Honest", "sign", str(signed)) for _ in range(30)),
        ]
    )
    first = project.start()
    wait_until((tmp_path / "begun").exists)
    first.kill()
    go.touch()
    project.drain()
    for job in jobs[61:]:
        done = project.queue.get(job.id)
        assert (done.state, outcomes(done), done.crashes) == (State.DONE, ["succeeded"], 0)
    assert lines(signed) == [job.id for job in jobs[61:]]  # each once, and in order
    assert outcomes(project.queue.get(jobs[60].id)) == ["crashed", "succeeded"]


def _has_begun(project: Project, job: Job, times: int) -> bool:
    return [record["status"] for record in project.log(job)].count("RUNNING") == times


def test_a_job_that_is_lost_too_often_fails(project: Project, tmp_path: Path) -> None:
    project.allow("[jobs.Honest]\n", "[jobs.Honest]\nmax_crashes = 2\n")
    notes = tmp_path / "notes"
    job = project.queue.submit("Honest", "wait_for", [str(tmp_path / "never"), str(notes)], retries=5)
    for count in (1, 2):
        worker = project.start()
        wait_for_lines(notes, count)
        # The runner has begun a moment before its worker writes so into the log.
        wait_until(partial(_has_begun, project, job, count))
        worker.kill()
    project.drain()
    lost = project.queue.get(job.id)
    assert (lost.state, outcomes(lost)) == (State.FAILED, ["crashed", "crashed"])
    assert (lost.attempt, lost.crashes) == (0, 2)
    assert lost.error is not None
    assert lost.error.type == "WorkerLost"
    assert [record["status"] for record in project.whole_log(job)] == [
        "QUEUED",
        "RUNNING",
        "RETRY",
        "RUNNING",
        "FAILED",
    ]
    assert [record["status"] for record in project.errors(job)] == ["CRASHED", "CRASHED"]


def test_a_second_loss_is_followed_by_a_wait(project: Project, tmp_path: Path) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)], retry_delay=0.5)
    for count in (1, 2):
        worker = project.start()
        wait_for_lines(notes, count)  # a default binds the loop variable
        worker.kill()
    go.touch()
    project.drain()
    _, second, third = project.queue.get(job.id).attempts
    assert second.finished_at is not None
    assert (third.started_at - second.finished_at).total_seconds() >= 0.375 - 0.002


@posix_only
def test_a_stopped_worker_loses_nothing(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    frozen = project.start()
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    frozen.send(signal.SIGSTOP)
    project.start()
    # The other worker has looked at it several times, by the time that this job is due.
    later = end(project, project.queue.submit("Honest", "echo", ["later"], delay=1.5))
    assert later.state is State.DONE
    assert project.state(job) is State.RUNNING
    frozen.send(signal.SIGCONT)
    go.touch()
    done = end(project, job)
    assert (done.state, outcomes(done), done.crashes) == (State.DONE, ["succeeded"], 0)
    assert len(lines(notes)) == 1
    assert done.worker == frozen.name


def test_a_killed_runner_is_an_ordinary_failed_attempt(project: Project, tmp_path: Path) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    worker = project.start()
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)], retries=1)
    wait_for_lines(notes)
    (runner,) = worker.runners()
    kill(runner)
    go.touch()
    done = end(project, job)
    assert (done.state, outcomes(done)) == (State.DONE, ["crashed", "succeeded"])
    assert (done.attempt, done.crashes) == (2, 0)
    assert done.attempts[0].error is not None
    if sys.platform == "win32":
        assert "exited with status" in done.attempts[0].error.message  # that of whoever has killed it
    else:
        assert done.attempts[0].exit == -9
        assert "killed by SIGKILL (9)" in done.attempts[0].error.message
    assert worker.runs()


def test_a_neighbour_that_dies_disturbs_no_running_job(project: Project, tmp_path: Path) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    worker = project.start(concurrency=2)
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    # Windows closes nothing that a thread reads from: such a job stands still until its time is over.
    closing = [] if sys.platform == "win32" else ["close_descriptors"]
    for method in ("segfault", "exhaust_memory", "write_everywhere", *closing):
        assert end(project, project.queue.submit("Fatal", method)).state is State.FAILED
    go.touch()
    done = end(project, job)
    assert (done.state, outcomes(done), done.worker) == (State.DONE, ["succeeded"], worker.name)


def test_jobs_behind_the_one_that_killed_its_runner_are_not_charged(project: Project, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    jobs = project.queue.submit_many(
        [*quick, request("Fatal", "kill_itself"), *(request("Honest", "sign", str(signed)) for _ in range(30))]
    )
    project.drain()
    assert project.state(jobs[60]) is State.FAILED
    for job in jobs[61:]:
        assert (project.state(job), outcomes(project.queue.get(job.id))) == (State.DONE, ["succeeded"])
    assert lines(signed) == [job.id for job in jobs[61:]]


def test_everything_killed_at_once_is_run_again_after_the_restart(project: Project, tmp_path: Path) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    workers = [project.start(concurrency=2) for _ in range(2)]
    jobs = [project.queue.submit("Honest", "wait_for", [str(go), str(notes)]) for _ in range(6)]
    wait_for_lines(notes, 4)
    everything = [pid for worker in workers for pid in worker.family()]
    for pid in everything:
        kill(pid)
    wait_until(lambda: gone(*everything))
    go.touch()
    project.drain(concurrency=2)
    done = [project.queue.get(job.id) for job in jobs]
    assert {job.state for job in done} == {State.DONE}
    assert sorted(outcomes(job) for job in done) == [["crashed", "succeeded"]] * 4 + [["succeeded"]] * 2
    assert project.traces() == []


def kill_tree(worker: Worker) -> datetime:
    """Kill a worker with all its runners at once, and return when that was."""
    family = worker.family()
    for pid in family:
        kill(pid)
    killed = datetime.now(UTC)
    wait_until(lambda: gone(*family))
    return killed


def check_that_two_of_twelve_were_lost(project: Project, jobs: list[Job], lost_with: Worker, since: datetime) -> None:
    """Check that the first two were charged with a crash and began again soon, and that nothing befell the others."""
    ended = [end(project, job) for job in jobs]
    assert {job.state for job in ended} == {State.DONE}
    for job in ended[:2]:
        lost, again = job.attempts
        assert (lost.outcome, again.outcome, job.attempt, job.crashes) == ("crashed", "succeeded", 1, 1)
        assert lost.error is not None
        assert (lost.error.type, lost.error.message) == ("WorkerLost", f"worker {lost_with.name} died")
        took = (again.started_at - since).total_seconds()
        print(f"began again after {took:.3f} s")  # noqa: T201 - shown with -rP
        assert took < LIMIT  # the promise is one second; a machine that is busy with other things may take longer
    assert [(outcomes(job), job.crashes) for job in ended[2:]] == [(["succeeded"], 0)] * 10


def test_a_killed_worker_tree_with_two_running_and_ten_queued_jobs_loses_none_when_it_is_started_again(
    project: Project, tmp_path: Path
) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    first = project.start(concurrency=2)
    jobs = project.queue.submit_many([request("Honest", "wait_for", str(go), str(notes)) for _ in range(12)])
    wait_for_lines(notes, 2)
    kill_tree(first)
    restarted = datetime.now(UTC)
    project.start(concurrency=2)
    wait_for_lines(notes, 4)
    assert sorted(lines(notes)) == sorted([job.id for job in jobs[:2]] * 2)  # the lost ones first: they are the oldest
    go.touch()
    check_that_two_of_twelve_were_lost(project, jobs, first, restarted)


def test_a_killed_worker_tree_with_two_running_and_ten_queued_jobs_loses_none_to_an_idle_worker(
    project: Project, tmp_path: Path
) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    jobs = project.queue.submit_many(
        [
            *(request("Honest", "wait_for", str(go), str(notes), priority="high") for _ in range(2)),
            *(request("Honest", "wait_for", str(go), str(notes)) for _ in range(10)),
        ]
    )
    first = project.start(concurrency=2)
    wait_for_lines(notes, 2)
    idle = project.start(concurrency=2, min_priority="high").ready()  # the ten that wait are not for it
    wait_until(lambda: len(idle.runners()) == 2)
    killed = kill_tree(first)
    wait_for_lines(notes, 4)
    go.touch()
    project.start(concurrency=2)
    check_that_two_of_twelve_were_lost(project, jobs, first, killed)
    assert {project.queue.get(job.id).worker for job in jobs[:2]} == {idle.name}


@pytest.mark.sweep
def test_a_job_is_run_again_and_again_while_workers_die(project: Project, tmp_path: Path) -> None:
    """Kill workers at random moments of a backlog: nothing is lost, and what ran twice says so."""
    signed = tmp_path / "signed"
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed), 0.002) for _ in range(200)])
    for count in (20, 80, 150):
        worker = project.start(concurrency=2)
        wait_for_lines(signed, count)  # a default binds the loop variable
        worker.kill()
    project.drain(concurrency=2)
    runs = lines(signed)
    for job in jobs:
        done = project.queue.get(job.id)
        assert done.state is State.DONE
        assert outcomes(done) == ["crashed"] * done.crashes + ["succeeded"]
        # An attempt may have been lost before it signed, or after it.
        assert 1 <= runs.count(job.id) <= len(done.attempts)
    assert project.traces() == []


# The machine or the spool is in trouble


@posix_only
def test_a_worker_that_is_out_of_descriptors_for_a_while_goes_on_afterwards(project: Project) -> None:
    worker = project.start(concurrency=2).ready()
    jobs = project.queue.submit_many([request("Honest", "nap", 0.05) for _ in range(20)])
    wait_until(lambda: project.state(jobs[2]) is State.DONE)
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, hard))
    wait_until(lambda: f"cannot claim jobs: {os.strerror(errno.EMFILE)}" in worker.says())
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (hard, hard))
    for job in jobs:
        done = end(project, job)
        assert (done.state, done.result, outcomes(done)) == (State.DONE, "slept well", ["succeeded"])
    assert "Traceback" not in worker.says()
    assert worker.stop() == 0


@posix_only
def test_a_worker_on_a_full_disk_runs_its_jobs_all_the_same(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    said = tmp_path / "said"
    os.mkfifo(said)  # what it has to say goes into a pipe, which knows no limit
    reader = os.open(said, os.O_RDONLY | os.O_NONBLOCK)
    worker = project.start(errors=said)
    job = project.queue.submit("Honest", "step", [str(go), 1, 2])
    wait_until(lambda: project.queue.get(job.id).progress is not None)
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (0, hard))
    others = project.queue.submit_many([request("Honest", "sign", str(notes)) for _ in range(5)])
    go.touch()
    for each in (job, *others):
        assert end(project, each).state is State.DONE  # the move tells, though not a word could be written
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (hard, hard))
    after = end(project, project.queue.submit("Honest", "sign", [str(notes)]))
    assert (after.state, outcomes(after)) == (State.DONE, ["succeeded"])
    assert lines(notes) == [each.id for each in (*others, after)]
    assert worker.stop() == 0
    words = os.read(reader, 65_536).decode()
    os.close(reader)
    assert "background_jobs.log: File too large: jobs go on without it\n" in words
    assert "Traceback" not in words


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a file that is always full")
def test_a_worker_that_cannot_say_anything_works_all_the_same(project: Project) -> None:
    job = project.queue.submit("Honest", "echo", ["silent"])
    assert project.start(drain=True, errors=FULL).ended() == 0
    assert project.queue.get(job.id).result == "silent"


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a file that is always full")
def test_a_worker_that_can_neither_log_nor_say_anything_works_all_the_same(project: Project) -> None:
    job = project.queue.submit("Honest", "echo", ["silent"])
    shutil.rmtree(project.spool / "logs")
    (project.spool / "logs").touch()
    assert project.start(drain=True, errors=FULL).ended() == 0
    assert project.queue.get(job.id).result == "silent"


def test_what_could_not_be_stored_is_stored_as_soon_as_that_is_possible(project: Project, tmp_path: Path) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    worker = project.start().ready()
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    (project.spool / "done").rename(project.spool / "tmp" / "done")
    (project.spool / "done").write_text("in the way", "utf-8")
    go.touch()
    wait_until(lambda: worker.says().count(f"cannot store how job {job.id} ended") > 2)
    (project.spool / "done").unlink()
    (project.spool / "tmp" / "done").rename(project.spool / "done")
    done = end(project, job)
    assert (done.state, done.result, outcomes(done)) == (State.DONE, "it came", ["succeeded"])
    assert len(lines(notes)) == 1
    (path,) = project.spool.glob(f"done/*/{job.id}.json")
    assert path.read_text("utf-8").count('"event":"end"') == 1


def test_what_could_not_be_stored_before_the_worker_stopped_is_stored_by_the_next(
    project: Project, tmp_path: Path
) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    worker = project.start().ready()
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    (project.spool / "done").rename(project.spool / "tmp" / "done")
    (project.spool / "done").write_text("in the way", "utf-8")
    go.touch()
    wait_until(lambda: f"cannot store how job {job.id} ended" in worker.says())
    worker.stop()
    (project.spool / "done").unlink()
    (project.spool / "tmp" / "done").rename(project.spool / "done")
    project.drain()
    done = project.queue.get(job.id)
    assert (done.state, done.result, outcomes(done)) == (State.DONE, "it came", ["succeeded"])
    assert len(lines(notes)) == 1


@pytest.mark.parametrize("phase", ["starting", "idle", "busy"])
def test_a_worker_whose_spool_vanished_stops_and_does_not_make_it_again(
    project: Project, tmp_path: Path, phase: str
) -> None:
    worker = project.start(concurrency=2).ready()
    if phase == "idle":
        wait_until(lambda: len(list(project.spool.glob("workers/*/r*.pid"))) == 2)
    if phase == "busy":
        signed = tmp_path / "signed"
        project.queue.submit_many([request("Noisy", "say", "hello") for _ in range(50)])
        project.queue.submit_many([request("Honest", "sign", str(signed), 0.002) for _ in range(200)])
        wait_for_lines(signed)
    away = project.root / "away"
    project.spool.rename(away)
    assert worker.ended() == 1
    assert re.search(rf"{re.escape(str(project.spool))}[/\\]\S+ is gone or was replaced", worker.says())
    assert "loop.py" not in worker.says()  # no traceback of the worker; a runner may have had one
    if phase != "busy":  # and then see below
        assert not project.spool.exists()
        return
    shutil.rmtree(project.spool, ignore_errors=True)
    away.rename(project.spool)
    project.drain(concurrency=2)
    assert project.queue.counts()[State.DONE] == 250  # nothing is lost once it is there again


def test_a_spool_that_vanishes_while_jobs_start_is_not_made_again(project: Project) -> None:
    quick = [request("Honest", "echo", n) for n in range(60)]  # so short that the worker begins to work ahead
    vanish = request("Honest", "move", str(project.spool), str(project.root / "away"))
    project.queue.submit_many([*quick, vanish, *quick])
    assert project.start().ended() == 1
    assert not project.spool.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a lock file that is held")
def test_a_worker_whose_place_was_taken_away_stops(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    worker = project.start()
    job = project.queue.submit("Honest", "wait_for", [str(tmp_path / "go"), str(notes)])
    wait_for_lines(notes)
    (runner,) = worker.runners()
    (lock,) = project.spool.glob("workers/*/alive.lock")
    lock.unlink()
    assert worker.ended() == 1
    assert gone(runner)
    assert project.queue.get(job.id).state is State.RUNNING


# Strange files


def bind(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as strange:  # the address of a socket is short
        strange.bind(path.name)


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


STRANGE: dict[str, Callable[[Path], object]] = {
    "directory": lambda path: path.mkdir(),
    "full directory": lambda path: (path / "inside").mkdir(parents=True),
    "empty": lambda path: path.touch(),
    "garbage": lambda path: path.write_bytes(os.urandom(3000)),
    "NUL bytes": lambda path: path.write_bytes(bytes(300)),
    "1 TB of nothing": lambda path: sparse(path, 1 << 40),
    "deep": lambda path: path.write_bytes(b"[" * 500_000),
    "another's id": lambda path: path.write_bytes(min(path.parent.glob("*.json")).read_bytes()),
    "not a job": lambda path: path.write_text('{"format":1}\n', "utf-8"),
}
if sys.platform != "win32":
    STRANGE |= {
        "FIFO": os.mkfifo,
        "socket": bind,
        "symbolic link": lambda path: path.symlink_to(path.parents[4] / "noisy.py"),
        "dangling link": lambda path: path.symlink_to("/no/such/file"),
    }


def bucket(project: Project) -> Path:
    (found,) = (project.spool / "pending" / "5-normal").iterdir()
    return found


def a_name() -> str:
    job_id = new_id()
    return f"{id_ms(job_id):013d}-{job_id}.json"


def test_strange_files_among_the_jobs_are_put_aside_and_block_none(project: Project) -> None:
    before = project.queue.submit("Honest", "echo", ["before"])
    names = {}
    for kind, make in STRANGE.items():
        names[kind] = a_name()
        make(bucket(project) / names[kind])
    after = project.queue.submit("Honest", "echo", ["after"])
    worker = project.drain()
    assert [project.queue.get(job.id).result for job in (before, after)] == ["before", "after"]
    assert project.queue.counts()[State.CORRUPT] == len(STRANGE)
    for kind, name in names.items():
        (reason,) = (project.spool / "corrupt").glob(f"*{name}.reason")
        assert reason.read_text("utf-8").strip(), kind
    assert [record["status"] for record in project.errors()] == ["REFUSED"] * len(STRANGE)
    assert (project.root / "noisy.py").read_bytes() == (PROJECT / "noisy.py").read_bytes()  # what the link points to
    assert "Traceback" not in worker.says()


def test_strange_names_among_the_jobs_are_put_aside_and_block_none(project: Project) -> None:
    job = project.queue.submit("Honest", "echo", ["fine"])
    names = [
        "README.txt",
        ".hidden",
        "x" * 180,
        *([] if sys.platform == "win32" else ["x" * 250, "new\nline", os.fsdecode(b"\xff\xfe")]),
        a_name().upper(),
        f"{a_name()}.new",
    ]
    for name in names:
        (bucket(project) / name).write_text("whatever", "utf-8")
        (project.spool / "pending" / name).write_text("left alone", "utf-8")
    for name in names:
        (project.spool / "pending" / "5-normal" / name).write_text("left alone", "utf-8")
    worker = project.drain()
    assert project.queue.get(job.id).result == "fine"
    assert project.queue.counts()[State.CORRUPT] == len(names)
    for name in names:
        assert (project.spool / "pending" / name).read_text("utf-8") == "left alone"
        assert (project.spool / "pending" / "5-normal" / name).read_text("utf-8") == "left alone"
    assert "Traceback" not in worker.says()


@posix_only
def test_a_strange_directory_among_the_jobs_blocks_none(project: Project, tmp_path: Path) -> None:
    job = project.queue.submit("Honest", "echo", ["fine"])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    shelf = project.spool / "pending" / "9"
    (shelf / "now-202601010000").symlink_to(outside)
    (shelf / "now-202601010001").symlink_to("now-202601010001")  # to itself
    (shelf / "now-202601010002").touch()
    (shelf / "now-202613990000").mkdir()
    worker = project.drain()
    assert project.queue.get(job.id).result == "fine"
    assert (outside / "precious").exists()
    assert project.queue.counts()[State.CORRUPT] == 3
    assert "Traceback" not in worker.says()


def test_a_copy_of_a_job_leaves_no_second_record(project: Project) -> None:
    job = project.queue.submit("Honest", "echo", ["once"])
    (original,) = bucket(project).iterdir()
    low = project.spool / "pending" / "2-low" / bucket(project).name
    low.mkdir()
    shutil.copy(original, low)
    project.drain()
    assert project.queue.get(job.id).result == "once"
    assert project.queue.counts()[State.DONE] == 1
    (reason,) = (project.spool / "corrupt").glob("*.reason")
    assert "duplicate" in reason.read_text("utf-8")


def test_a_job_of_a_newer_bgjobs_waits_for_a_newer_worker(project: Project) -> None:
    job = project.queue.submit("Honest", "echo")
    (path,) = bucket(project).iterdir()
    path.write_text(path.read_text("utf-8").replace('"format":1', '"format":2'), "utf-8")
    project.drain(drain=False, once=True)
    assert [found.name[14:40] for found in project.spool.rglob("pending/*/*/*.json")] == [job.id]
    assert project.queue.counts()[State.CORRUPT] == 0


def test_no_process_of_a_killed_worker_outlives_it(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    worker = project.start(concurrency=3)
    jobs = [project.queue.submit("Honest", "wait_for", [str(tmp_path / "never"), str(notes)]) for _ in range(2)]
    wait_for_lines(notes, 2)
    wait_until(lambda: len(worker.runners()) == 3)
    family = [pid for pid in worker.family() if pid != worker.pid]
    assert all(alive(pid) for pid in family)
    worker.kill()
    wait_until(lambda: gone(*family), limit=10)
    assert psutil.pid_exists(os.getpid())
    for job in jobs:
        project.queue.cancel(job.id)
