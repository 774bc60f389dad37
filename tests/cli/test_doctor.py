"""`bgjobs doctor`: what it prints, its exit status, and what `--repair` does for the jobs of a killed worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from tests.cli.commands import PATIENCE_S, Bgjobs, Result, environment, error, objects, wait_until

if TYPE_CHECKING:
    from bgjobs import Queue
    from bgjobs.job import Job

HEADINGS = ["spool", "file system", "access", "locks", "clock", "room", "leftovers", "promises"]
FINDING = {"code", "message", "path", "rule", "repairable", "serious"}
OF_THIS_DISK = {"no-journal", "volatile-disk", "layered-disk", "little-room"}


def report(result: Result) -> dict[str, Any]:
    """Return the one object that --json prints."""
    (said,) = objects(result)
    assert {*said} - {"mended"} == {"ok", "facts", "findings"}
    assert all({*finding} == FINDING for finding in said["findings"])
    found: dict[str, Any] = said
    return found


def codes(result: Result) -> set[str]:
    return {finding["code"] for finding in report(result)["findings"]} - OF_THIS_DISK


def file_of(queue: Queue, job: Job) -> Path:
    (found,) = Path(queue.settings.spool).rglob(f"*{job.id}.json")
    return found


def copied(queue: Queue, job: Job) -> Path:
    """Copy the file of a queued job to another priority."""
    path = file_of(queue, job)
    copy = path.parents[2] / "9" / path.parent.name / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    return copy


def killed_worker(project: Path, home: Path, queue: Queue, job: Job) -> None:
    """Run a worker until it runs the job, and kill it."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "worker", "-q", "-c", "1"],
        cwd=project,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: queue.get(job.id).attempts)
    finally:
        worker.kill()
        worker.wait(PATIENCE_S)


def test_a_sound_spool_is_told_in_a_few_lines(bgjobs: Bgjobs, queue: Queue) -> None:
    queue.submit("Work", "nothing")
    result = bgjobs("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line[:13].strip() for line in lines if line and not line.startswith(" ")][:-1] == HEADINGS
    assert "1 jobs looked at" in result.stdout
    assert "exclude each other" in result.stdout
    assert lines[-1].startswith("all is well")


def test_of_a_project_without_a_spool_it_says_that_none_is_there_yet(bgjobs: Bgjobs, project: Path) -> None:
    for options in ([], ["--repair"]):
        said = report(bgjobs("doctor", "--json", *options))
        assert (said["ok"], [finding["code"] for finding in said["findings"]]) == (True, ["no-spool-yet"])
        assert not (project / "spool").exists()
    assert bgjobs("doctor").stdout.splitlines()[-1] == "all is well, 1 remark"


def test_as_json_it_is_one_object(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    queue.submit("Work", "nothing")
    said = report(bgjobs("doctor", "--json"))
    assert said["ok"] is True
    facts = said["facts"]
    assert facts["spool"] == str(project / "spool")
    assert (facts["jobs"], facts["workers_alive"], facts["workers_dead"], facts["corrupt_files"]) == (1, 0, 0, 0)
    assert facts["locks_hold"] is True
    assert facts["durability"] == "full"
    assert {"file_system", "journal", "one_sync", "free_bytes", "free_files", "clock_skew_ms"} <= set(facts)


def test_a_broken_promise_is_told_with_its_file_and_exits_1(bgjobs: Bgjobs, queue: Queue) -> None:
    copy = copied(queue, queue.submit("Work", "nothing"))
    result = bgjobs("doctor")
    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if "wrong (I1)" in line]
    assert str(copy) in line
    assert result.stdout.splitlines()[-1] == "1 wrong: `bgjobs doctor --repair` mends some of it"
    as_json = bgjobs("doctor", "--json")
    assert as_json.returncode == 1
    assert report(as_json)["ok"] is False
    (finding,) = [finding for finding in report(as_json)["findings"] if finding["rule"]]
    assert (finding["code"], finding["rule"], finding["repairable"]) == ("two-places", "I1", True)


def test_repair_mends_it_says_so_and_the_job_still_runs_once(bgjobs: Bgjobs, queue: Queue) -> None:
    job = queue.submit("Work", "nothing")
    copied(queue, job)
    result = bgjobs("doctor", "--repair")
    assert result.returncode == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("mended")]
    assert "corrupt" in line
    assert result.stdout.splitlines()[-1].startswith("all is well")
    assert bgjobs("worker", "--drain", "-q").returncode == 0
    assert queue.get(job.id).state is State.DONE
    assert bgjobs("doctor").returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_after_a_killed_worker_nothing_is_wrong_and_repair_does_what_the_next_worker_would(
    bgjobs: Bgjobs, queue: Queue, project: Path, tmp_path: Path
) -> None:
    running, waiting = queue.submit("Work", "sleep", [600]), queue.submit("Work", "nothing", priority="low")
    killed_worker(project, tmp_path, queue, running)
    before = bgjobs("doctor", "--json")
    assert before.returncode == 0
    assert "dead-worker" in codes(before)
    assert report(before)["facts"]["workers_dead"] == 1
    result = bgjobs("doctor", "--repair", "--json")
    assert result.returncode == 0
    assert report(result)["mended"] == ["ended 1 lost attempt of dead workers"]
    assert codes(result) == set()
    assert report(result)["facts"]["workers_dead"] == 0
    lost = queue.get(running.id)
    assert (lost.state, lost.crashes, lost.charged) == (State.QUEUED, 1, 0)
    assert queue.get(waiting.id).state is State.QUEUED  # and nothing was run
    assert "WorkerLost" in bgjobs("logs", "--errors").stdout


def test_repair_beside_a_worker_at_work_disturbs_no_job(
    bgjobs: Bgjobs, queue: Queue, worker: subprocess.Popen[str]
) -> None:
    sleeper = queue.submit("Work", "sleep", [2])
    jobs = [queue.submit("Work", "nothing") for _ in range(50)]
    for _ in range(3):
        result = bgjobs("doctor", "--repair", "--json")
        assert result.returncode == 0, result.stdout
        assert report(result)["mended"] == []
    ended = [queue.wait_until_ended(job.id, PATIENCE_S) for job in [sleeper, *jobs]]
    assert {(job.state, len(job.attempts)) for job in ended} == {(State.DONE, 1)}


def test_what_repair_cannot_mend_is_told_and_exits_1(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    queue.submit_many([])
    (project / "spool" / "done" / "today").touch()
    result = bgjobs("doctor", "--repair")
    assert result.returncode == 1
    assert "wrong (I9)" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 wrong"


def test_quick_does_not_read_ended_jobs(bgjobs: Bgjobs, queue: Queue) -> None:
    job = queue.submit("Work", "nothing")
    queue.cancel(job.id)
    path = file_of(queue, job)
    path.write_bytes(b"overwritten")
    assert bgjobs("doctor", "--quick").returncode == 0
    assert "wrong (I2)" in bgjobs("doctor").stdout


def test_names_of_files_cannot_command_the_terminal(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    queue.submit_many([])
    if sys.platform == "win32":
        pytest.skip("no such names")
    (project / "spool" / "pending" / "\x1b[2J\n").touch()
    Path(os.fsdecode(bytes(project / "spool" / "pending") + b"/\xff")).touch()
    for options in ([], ["--json"], ["--repair"]):
        result = bgjobs("doctor", *options)
        assert result.returncode == (0 if options == ["--repair"] else 1), result.stderr
        assert result.stderr == ""
        assert "\x1b" not in result.stdout
        if "--json" in options:
            assert any(finding["path"].endswith("\\udcff") for finding in report(result)["findings"])


def test_a_spool_that_cannot_be_used_is_one_line(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    queue.submit("Work", "nothing")
    (project / "spool" / "VERSION").unlink()
    result = bgjobs("doctor", "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert "lost its VERSION" in error(result)["message"]
