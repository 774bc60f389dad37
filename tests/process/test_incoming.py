"""A real worker takes what other programs put into `incoming/`, and runs it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.errors import SpoolError
from bgjobs.job import State
from bgjobs.spool.session import SpoolSession
from bgjobs.worker.loop import Worker as InProcess
from bgjobs.worker.options import WorkerOptions
from bgjobs.worker.shutdown import StopRequests
from tests.process.conftest import lines, wait_until
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.job import Job
    from bgjobs.store import Claim
    from tests.process.conftest import Project

FILES = 100 if ON_WINE else 400


def hand_in(
    project: Project, name: str, method: str, *args: object, class_name: str = "Honest", **more: object
) -> None:
    folder = project.spool / "incoming"
    call = {"format": 1, "class": class_name, "method": method, "args": args, **more}
    (folder / f".{name}").write_text(json.dumps(call), "utf-8")
    (folder / f".{name}").rename(folder / f"{name}.json")


def wait_until_left(project: Project, most: int) -> None:
    """Wait until so many files at most are not taken yet."""
    wait_until(lambda: len(list((project.spool / "incoming").iterdir())) <= most, pause=0)


def ended(project: Project) -> list[Job]:
    return list(project.queue.jobs(state=["done", "failed", "cancelled"]))


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
def test_a_line_of_shell_is_enough_to_submit(project: Project, tmp_path: Path) -> None:
    worker = project.start().ready()
    signed = tmp_path / "signed"
    line = """printf '{"format":1,"class":"Honest","method":"sign","args":["%s"]}' "$0" > .x && mv .x x.json"""
    subprocess.run(["sh", "-c", line, str(signed)], cwd=project.spool / "incoming", check=True)
    wait_until(lambda: ended(project))
    (job,) = ended(project)
    assert job.state is State.DONE
    assert lines(signed) == [job.id]
    assert job.retries == 0  # as the allowlist of the project says
    wait_until(lambda: [record["status"] for record in project.log(job)] == ["QUEUED", "RUNNING", "SUCCESS"])
    assert worker.stop() == 0
    assert project.traces() == []


@pytest.mark.parametrize("options", [{"drain": True}, {"once": True}, {"once": True, "only": "Honest"}], ids=str)
def test_a_worker_that_ends_with_the_work_ends_after_what_was_handed_in(
    project: Project, options: dict[str, Any]
) -> None:
    project.queue.submit_many([])  # which sets up the spool
    for number in range(20):
        hand_in(project, str(number), "echo", number)
    assert project.start(**options).ended() == 0
    assert sorted(job.result for job in ended(project)) == list(range(20))
    assert list((project.spool / "incoming").iterdir()) == []


def test_what_the_allowlist_does_not_name_fails_and_what_is_no_job_is_put_aside(project: Project) -> None:
    project.start().ready()
    hand_in(project, "secret", "system", "rm -rf /", class_name="Os")
    hand_in(project, "wrong", "echo", colour="red")
    hand_in(project, "text", "echo", "7", text=True)
    wait_until(lambda: len(ended(project)) == 2 and project.queue.counts()[State.CORRUPT] == 1)
    refused, echoed = sorted(ended(project), key=lambda job: job.class_name, reverse=True)
    assert (refused.state, refused.attempts) == (State.FAILED, ())
    assert echoed.result == "7"
    wait_until(lambda: [record["status"] for record in project.errors(refused)] == ["REFUSED"])
    wait_until(lambda: any("incoming/wrong.json" in record["message"] for record in project.errors()))


@pytest.mark.sweep
def test_workers_that_are_killed_over_imports_make_one_job_of_each_file(project: Project) -> None:
    project.queue.submit_many([])  # which sets up the spool
    for number in range(FILES):
        hand_in(project, str(number), "echo", number)
    for share in range(1, 5):
        worker = project.start(concurrency=2)
        wait_until_left(project, FILES - FILES // 5 * share)
        worker.kill()
    project.drain(concurrency=2)
    assert Counter(job.result for job in ended(project)) == Counter(range(FILES))
    assert list((project.spool / "incoming").iterdir()) == list((project.spool / "claimed").iterdir()) == []


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "a disk that fails"), SpoolError("a disk that fails")])
def test_what_was_handed_in_runs_although_no_dead_worker_can_be_recovered(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], failure: Exception
) -> None:
    requests, failed = StopRequests(), []

    def fail(_: SpoolSession) -> Iterator[Claim]:
        failed.append(project.queue.counts()[State.DONE])
        if failed[-3:] == [1, 1, 1]:
            requests.add()
        raise failure

    monkeypatch.setattr(SpoolSession, "recover", fail)
    monkeypatch.setattr("bgjobs.worker.loop.RETRY_S", 0.01)
    project.queue.submit_many([])  # which sets up the spool
    hand_in(project, "one", "echo", "it runs")
    assert InProcess(project.queue, WorkerOptions(concurrency=1), requests).run() == 0
    assert [job.result for job in ended(project)] == ["it runs"]
    assert capfd.readouterr().err.count("cannot look after the queue: a disk that fails") == 1
