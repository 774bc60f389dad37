"""`worker --detach` outlives its terminal; `worker --stop` ends what is at work, wherever it was started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bgjobs import system
from bgjobs.job import State
from tests.process.conftest import LIMIT, gone, wait_for_lines, wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.conftest import Project

    Command = Callable[..., subprocess.CompletedProcess[str]]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sessions, terminals and signals are POSIX")


def environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("BGJOBS_")}


@pytest.fixture
def command(project: Project) -> Iterator[Command]:
    """Run `bgjobs worker` with these words; whatever they started has ended after the test."""
    seen: set[int] = set()

    def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "bgjobs", "worker", *words],
            cwd=cwd or project.root,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=100,
            check=False,
        )
        seen.update(worker.info.pid for worker in project.queue._store.workers())
        return done

    yield run
    seen.update(worker.info.pid for worker in project.queue._store.workers() if worker.alive)
    for pid in seen:
        with suppress(psutil.NoSuchProcess):
            if "bgjobs" in psutil.Process(pid).cmdline():
                psutil.Process(pid).kill()


def log(project: Project) -> str:
    path = project.spool / "logs" / "background_jobs_workers.log"
    return path.read_text("utf-8") if path.exists() else ""


def workers(project: Project) -> dict[str, int]:
    return {worker.info.name: worker.info.pid for worker in project.queue._store.workers() if worker.alive}


def detached(command: Command, *words: str) -> dict[str, Any]:
    done = command("--detach", "--json", "-c", "1", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------------------------------------------------ detach


def test_a_detached_worker_has_its_place_when_the_command_returns_and_runs_jobs(
    project: Project, command: Command
) -> None:
    done = command("--detach", "-c", "1")
    assert (done.returncode, list(workers(project))) == (0, [done.stdout.strip()])
    assert done.stderr == f"bgjobs: its messages go to {project.spool / 'logs' / 'background_jobs_workers.log'}\n"
    job = project.queue.wait(project.queue.submit("Honest", "echo", ["hello"]).id, LIMIT)
    assert (job.result, job.worker) == ("hello", done.stdout.strip())


def test_the_json_names_the_worker_as_status_does(project: Project, command: Command) -> None:
    said = detached(command)
    [worker] = project.queue._store.workers()
    assert said == {
        "id": worker.id,
        "name": worker.info.name,
        "pid": worker.info.pid,
        "log": str(project.spool / "logs" / "background_jobs_workers.log"),
    }


def test_its_options_are_those_of_the_command(project: Project, command: Command) -> None:
    jobs = [project.queue.submit("Honest", "echo", priority=priority) for priority in (2, 8)]
    said = detached(command, "--drain", "--only", "Honest", "--only=Functions", "--min-priority", "high")
    wait_until(lambda: gone(said["pid"]))
    assert [project.state(job) for job in jobs] == [State.QUEUED, State.DONE]


def test_several_may_be_started(project: Project, command: Command) -> None:
    assert detached(command)["pid"] != detached(command)["pid"]
    assert len(workers(project)) == 2


def test_one_that_cannot_begin_says_why_in_one_line_and_ends_as_it_would_have(
    project: Project, command: Command
) -> None:
    (project.spool / "VERSION").parent.mkdir(parents=True, exist_ok=True)
    command("--once")
    (project.spool / "VERSION").write_text('{"format": 99, "uuid": "x"}\n', "utf-8")
    plain, foreground = command("--detach"), command("--once")
    assert (plain.returncode, plain.stdout) == (foreground.returncode, "") == (1, "")
    assert plain.stderr == foreground.stderr
    assert len(plain.stderr.splitlines()) == 1
    assert json.loads(command("--detach", "--json").stderr)["error"]["code"] == "unusable-spool"


@posix_only
def test_what_only_the_worker_can_find_out_is_said_by_the_command(project: Project, command: Command) -> None:
    (project.root / "honest.py").chmod(0o666)
    done, foreground = command("--detach"), command("--once")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", foreground.stderr)
    assert "honest.py can be changed by every user" in done.stderr
    assert workers(project) == {}


def test_it_says_what_it_does_in_the_log_line_by_line(project: Project, command: Command) -> None:
    said = detached(command)
    wait_until(lambda: "methods may run" in log(project))
    project.rewrite("allowed_jobs.toml", "not valid")
    wait_until(lambda: "is not taken over" in log(project))
    for line in log(project).splitlines():
        assert line[0] == "["
        assert f"+00:00] {said['name']}: " in line


def test_the_log_is_moved_aside_when_it_has_grown_large(project: Project, command: Command) -> None:
    path = project.spool / "logs" / "background_jobs_workers.log"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(10 * 1024 * 1024)
    detached(command)
    wait_until(lambda: path.exists() and path.with_name(path.name + ".1").exists())
    project.rewrite("allowed_jobs.toml", "not valid")
    wait_until(lambda: "is not taken over" in log(project))


def test_a_worker_with_log_says_it_there_and_nothing_on_standard_error(project: Project, command: Command) -> None:
    done = command("--once", "--log", "-c", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "methods may run" in log(project)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_its_runners_cry_out_when_they_cannot_begin_goes_to_the_log(project: Project, command: Command) -> None:
    said = detached(command)
    streams = Path(f"/proc/{said['pid']}/fd")  # what a runner gets from it, until it captures what its job prints
    assert (streams / "0").samefile(os.devnull)
    wait_until(lambda: (streams / "1").samefile(os.devnull))  # a moment after it has said that it has arrived
    assert (streams / "2").samefile(said["log"])


@posix_only
def test_it_survives_the_end_of_its_terminal(project: Project, command: Command) -> None:
    import pty  # noqa: PLC0415 - POSIX only

    leader, terminal = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, os.ttyname(terminal), sys.executable],
        cwd=project.root,
        env=environment(),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    while b"detached" not in shown:  # before that a worker whose name cannot be printed is ended
        shown += os.read(leader, 1024)
    [(name, pid)] = workers(project).items()
    assert psutil.Process(pid).terminal() is None
    os.close(leader)  # the kernel hangs up: SIGHUP to the session, and to the group in the foreground
    assert shell.wait(LIMIT) == -1  # of SIGHUP
    job = project.queue.wait(project.queue.submit("Honest", "echo", ["still here"]).id, LIMIT)
    assert (job.result, job.worker) == ("still here", name)


# Makes the terminal its own, as a shell has it, starts a worker from it, and stays.
TERMINAL = """
import fcntl, os, subprocess, sys, termios, time
fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), termios.TIOCSCTTY, 0)
subprocess.run([sys.argv[2], "-m", "bgjobs", "worker", "--detach", "-c", "1"])
print("detached", flush=True)
while True:
    time.sleep(60)
"""


@posix_only
def test_it_speaks_to_no_supervisor_of_whoever_started_it_and_passes_no_mark_on(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    said = detached(command)
    project.queue.wait(project.queue.submit("Honest", "echo", ["hello"]).id, LIMIT)  # so that the runner is there
    family = [psutil.Process(said["pid"]), *psutil.Process(said["pid"]).children(recursive=True)]
    assert len(family) == 2
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & {name for process in family for name in process.environ()}
    assert "_BGJOBS_DETACHED" not in family[1].environ()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_worker_whose_name_could_not_be_told_does_not_stay(project: Project) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bgjobs", "worker", "--detach", "-c", "1"],
            cwd=project.root,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("bgjobs: cannot write standard output: ")
    wait_until(lambda: not workers(project))


@posix_only
def test_what_it_says_beside_its_name_need_not_be_read(project: Project, command: Command) -> None:
    shell = f'exec "{sys.executable}" -m bgjobs worker --detach -c 1 2>&-'
    done = subprocess.run(["sh", "-c", shell], cwd=project.root, env=environment(), capture_output=True, check=False)
    assert (done.returncode, list(workers(project))) == (0, [done.stdout.decode().strip()])
    assert command("--stop").returncode == 0


@posix_only
def test_whoever_waits_for_the_output_of_the_command_does_not_wait_for_the_worker(
    project: Project, command: Command
) -> None:
    shell = f'"{sys.executable}" -m bgjobs worker --detach -c 1 | cat; exec 9>"$0"; echo over'
    done = subprocess.run(
        ["sh", "-c", f'exec 9>"$0"; {shell}', str(project.root / "held")],
        cwd=project.root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    [(name, pid)] = workers(project).items()
    assert done.stdout == f"{name}\nover\n"
    assert str(project.root / "held") not in [file.path for file in psutil.Process(pid).open_files()]
    assert command("--stop").returncode == 0


def test_one_that_cannot_write_its_log_says_so_and_leaves_nothing(project: Project, command: Command) -> None:
    command("--once")
    shutil.rmtree(project.spool / "logs", ignore_errors=True)
    (project.spool / "logs").touch()
    done = command("--detach")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert str(project.spool / "logs") in done.stderr
    assert project.traces() == []


@posix_only
def test_it_can_be_started_from_a_directory_that_is_gone(project: Project, tmp_path: Path, command: Command) -> None:
    shell = f'mkdir gone; cd gone; rmdir ../gone; exec "{sys.executable}" -m bgjobs worker --detach -c 1 --config "$0"'
    done = subprocess.run(
        ["sh", "-c", shell, str(project.config)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, list(workers(project))) == (0, [done.stdout.strip()]), done.stderr
    assert command("--stop").returncode == 0


@pytest.mark.skipif(sys.platform != "win32", reason="job objects are of Windows")
def test_one_that_cannot_leave_the_job_object_of_its_starter_warns(project: Project, command: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_JOB, sys.executable],
        cwd=project.root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "when that ends, so does the worker" in done.stderr
    wait_until(lambda: not workers(project))  # it does: with the process whose job object it was


# Starts a worker from within a job object that nobody may leave, and lets that go.
IN_A_JOB = """
import subprocess, sys
from bgjobs.system.windows_job_objects import JobObject
job = JobObject()
process = subprocess.Popen([sys.argv[1], "-m", "bgjobs", "worker", "--detach", "-c", "1"], creationflags=4)
job.add(process.pid)
sys.exit(process.wait())
"""


# -------------------------------------------------------------------------------------------------------------- stop


def test_stop_ends_all_workers_of_the_project_wherever_they_were_started(project: Project, command: Command) -> None:
    pids = [detached(command)["pid"], project.start().ready().pid]
    done = command("--stop")
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped 2 workers\n", "")
    wait_until(lambda: gone(*pids))
    assert project.queue._store.workers() == []
    again = command("--stop", "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"stopped": []})


@pytest.mark.parametrize("way", part(["name", "pid", "id", "end of the id"]))
def test_one_worker_can_be_named(project: Project, command: Command, way: str) -> None:
    one, other = detached(command), detached(command)
    words = {"name": one["name"], "pid": str(one["pid"]), "id": one["id"], "end of the id": one["id"][-10:]}
    done = command("--stop", words[way], "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"stopped": [one["name"]]})
    assert list(workers(project)) == [other["name"]]


def test_a_name_that_two_workers_have_stops_neither(project: Project, command: Command) -> None:
    one, other = detached(command), detached(command)
    info = project.spool / "workers" / other["id"] / "info"
    # As in two containers of one host name, each of which counts its processes from 1.
    info.write_text(info.read_text("utf-8").replace(f'"pid":{other["pid"]}', f'"pid":{one["pid"]}'), "utf-8")
    done = command("--stop", one["name"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"bgjobs: 2 workers go by '{one['name']}': name it by its id")
    assert not gone(one["pid"], other["pid"])
    assert command("--stop", other["id"]).stdout == "stopped 1 worker\n"
    wait_until(lambda: gone(other["pid"]))


def test_a_running_job_may_finish_within_the_grace_of_the_worker(
    project: Project, command: Command, tmp_path: Path
) -> None:
    go, notes = tmp_path / "go", tmp_path / "notes"
    detached(command, "--grace", "1h")
    job = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    waited = command("--stop", "--max-time", "0.2s")
    assert waited.returncode == 124
    assert "timed out: worker " in waited.stderr
    go.touch()
    assert command("--stop").returncode == 0
    done = project.queue.get(job.id)
    assert (done.state, [attempt.outcome for attempt in done.attempts]) == (State.DONE, ["succeeded"])


def test_after_the_grace_of_the_stop_what_runs_is_interrupted_and_put_back_uncharged(
    project: Project, command: Command, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    detached(command, "--grace", "1h")
    job = project.queue.submit("Willing", "back_away", [str(notes)])
    wait_for_lines(notes)
    done = command("--stop", "--grace", "0.1s")
    assert (done.returncode, done.stdout) == (0, "stopped 1 worker\n")
    back = project.queue.get(job.id)
    assert (back.state, back.attempt, [attempt.outcome for attempt in back.attempts]) == (
        State.QUEUED,
        0,
        ["interrupted"],
    )
    assert project.traces() == []


@posix_only
def test_a_worker_that_stands_still_is_named_instead_of_waited_for(project: Project, command: Command) -> None:
    said = detached(command)
    psutil.Process(said["pid"]).suspend()
    done = command("--stop")
    assert done.returncode == 1
    assert f"worker {said['name']} stands still and cannot stop" in done.stderr
    psutil.Process(said["pid"]).resume()
    wait_until(lambda: gone(said["pid"]))  # the request still stands


def test_workers_on_other_machines_are_left_alone(project: Project, command: Command) -> None:
    said = detached(command)
    info = project.spool / "workers" / said["id"] / "info"
    info.write_text(info.read_text("utf-8").replace(f'"{system.host()}"', '"elsewhere"'), "utf-8")
    done = command("--stop")
    assert (done.returncode, done.stdout) == (0, "stopped 0 workers\n")
    assert done.stderr == "bgjobs: 1 on other machines: stop them there, or by name, see `bgjobs status`\n"
    assert not gone(said["pid"])
    assert command("--stop", f"elsewhere:{said['pid']}").stdout == "stopped 1 worker\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--stop", "nobody:1"], 1, "no worker 'nobody:1' is at work here: see `bgjobs status`"),
        (["--stop", "--detach"], 2, "either --stop or --detach"),
        (["--stop", "--drain"], 2, "--drain is not for --stop"),
        (["--stop", "--only", "Honest"], 2, "--only is not for --stop"),
        (["web1:1"], 2, "unexpected argument 'web1:1'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    project: Project, command: Command, words: list[str], status: int, said: str
) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"bgjobs: {said}")
    assert len(done.stderr.splitlines()) == 1
