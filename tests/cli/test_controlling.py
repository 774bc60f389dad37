"""`bgjobs cancel` and `bgjobs retry`: what becomes of each job, and the exit status for all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from bgjobs.requests import Request
from tests.cli.commands import Bgjobs, Finished, environment, error, objects, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue


def test_a_job_that_has_not_begun_is_cancelled_at_once(bgjobs: Bgjobs, queue: Queue) -> None:
    job = queue.submit("Work", "echo", ["x"])
    result = bgjobs("cancel", job.id[-8:])
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{job.id} cancelled\n", "")
    assert queue.get(job.id).state is State.CANCELLED


def test_a_running_job_is_asked_to_stop(bgjobs: Bgjobs, queue: Queue, worker: subprocess.Popen[str]) -> None:
    job = queue.submit("Work", "sleep", [60])
    wait_until(lambda: queue.get(job.id).attempts)  # one that is only claimed may be cancelled before we look again
    [said] = objects(bgjobs("cancel", job.id, "--json"))
    # A quick worker has stopped it before the command can say that it was asked to.
    assert said in ({"id": job.id, "result": "stopping"}, {"id": job.id, "result": "cancelled"})
    assert queue.wait_until_ended(job.id, timeout=20).state is State.CANCELLED


def test_each_job_is_cancelled_whatever_becomes_of_the_others(bgjobs: Bgjobs, queue: Queue) -> None:
    first, second, ended = (queue.submit("Work", "echo", [text]) for text in "abc")
    queue.cancel(ended.id)
    unknown = "01m00000000000000000000000"
    result = bgjobs("cancel", first.id, ended.id, unknown, second.id)
    assert result.returncode == 4
    assert result.stdout == f"{first.id} cancelled\n{second.id} cancelled\n"
    assert result.stderr.splitlines() == [
        f"bgjobs: job {ended.id} has already ended: it is cancelled: nothing to cancel",
        f"bgjobs: no job {unknown}: see `bgjobs list`",
    ]
    again = bgjobs("cancel", first.id, "--json")
    assert (again.returncode, again.stdout, error(again)["code"]) == (1, "", "already-ended")


def test_jobs_are_cancelled_by_condition(bgjobs: Bgjobs, queue: Queue) -> None:
    kept = queue.submit("Work", "echo", ["kept"], tags=["keep"])
    gone = [queue.submit("Work", "echo", ["x"], tags=["drop"], delay=delay).id for delay in (0, 60)]
    result = bgjobs("cancel", "--all", "--tag", "drop")
    assert result.returncode == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} == set(gone)
    assert queue.get(kept.id).state is State.QUEUED
    assert bgjobs("cancel", "--all", "--class", "Other").stdout == ""


@pytest.mark.parametrize(
    "argv",
    [
        ["cancel"],
        ["retry"],
        ["cancel", "--class", "Work"],
        ["cancel", "--all", "01m00000000000000000000000"],
        ["retry", "--state", "failed", "01m00000000000000000000000"],
        ["cancel", "--all", "--state", "done"],
        ["retry", "--all", "--state", "running"],
    ],
    ids=str,
)
def test_it_must_be_clear_which_jobs_are_meant(finished: Finished, argv: list[str]) -> None:
    before = finished.queue.counts()
    result = finished.bgjobs(*argv)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert finished.queue.counts() == before


def test_retry_submits_an_ended_job_again_and_prints_the_new_id(bgjobs: Bgjobs, queue: Queue) -> None:
    old = queue.submit("Work", "add", ["2"], {"b": "3"}, text=True, priority="high", tags=["x"])
    queue.cancel(old.id)
    result = bgjobs("retry", old.id)
    assert (result.returncode, result.stderr) == (0, "")
    new = queue.get(result.stdout.strip())
    assert (new.retry_of, new.args, new.kwargs, new.text, new.priority) == (old.id, ("2",), {"b": "3"}, True, 8)
    assert json.loads(bgjobs("retry", old.id, "--json").stdout)["retry_of"] == old.id
    early = bgjobs("retry", new.id, "--json")
    assert (early.returncode, error(early)["code"]) == (2, "not-ended")


def test_retry_by_condition_takes_the_failed_ones(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    failed = queue.submit("Work", "fail")
    done = queue.submit("Work", "nothing")
    assert bgjobs("worker", "--drain", "-q", "-c", "1").returncode == 0
    before = queue.counts()
    assert bgjobs("retry", "--all", "--dry-run").stdout == f"{failed.id}\n"
    assert queue.counts() == before
    [new] = bgjobs("retry", "--all").stdout.split()
    assert queue.get(new).retry_of == failed.id
    [again] = objects(bgjobs("retry", "--all", "--state", "done", "--json"))
    assert again["retry_of"] == done.id


def cancelled(queue: Queue, count: int) -> list[str]:
    ids = [queue.submit("Work", "echo", [str(number)]).id for number in range(count)]
    for job_id in ids:
        queue.cancel(job_id)
    return ids


def test_retrying_all_again_and_again_retries_each_failure_once(bgjobs: Bgjobs, queue: Queue) -> None:
    old = cancelled(queue, 2)
    for _ in range(3):
        [*new] = bgjobs("retry", "--all", "--state", "cancelled").stdout.split()
        assert sorted(str(queue.get(job_id).retry_of) for job_id in new) == sorted(old)
        # While they wait, and as long as they have not ended in the same way, there is nothing left to retry.
        for dry_run in ([], ["--dry-run"]):
            result = bgjobs("retry", "--all", "--state", "cancelled", *dry_run)
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        for job_id in new:
            queue.cancel(job_id)
        old = new
    assert len(list(queue.jobs())) == 8
    assert bgjobs("retry", "--all", "--state", "cancelled", "--again", "--dry-run").stdout.count("\n") == 8
    by_id = bgjobs("retry", queue.get(old[0]).retry_of or "")
    assert (by_id.returncode, by_id.stdout.count("\n")) == (0, 1)
    assert error(bgjobs("retry", old[0], "--again", "--json"))["code"] == "usage"


def test_a_job_whose_retry_is_gone_is_retried_again(bgjobs: Bgjobs, queue: Queue) -> None:
    [old] = cancelled(queue, 1)
    first = queue.retry(old)
    queue.cancel(first.id)
    queue.delete(first.id)
    [new] = bgjobs("retry", "--all", "--state", "cancelled").stdout.split()
    assert queue.get(new).retry_of == old


def test_what_was_retried_is_shown(bgjobs: Bgjobs, queue: Queue) -> None:
    old, other = cancelled(queue, 2)
    queue.retry(old)
    new = queue.retry(old)
    assert f"retried as  {new.id}" in bgjobs("status", old).stdout
    assert f"retry of    {old}" in bgjobs("status", new.id).stdout
    rows = {line.split("\t")[0]: line.split("\t")[6] for line in bgjobs("list").stdout.splitlines()}
    assert rows[old].startswith(f"retried as {new.id}")
    assert "retried" not in rows[other] + rows[new.id]
    for shown in (objects(bgjobs("list", "--json")), objects(bgjobs("status", old, "--json"))):
        assert {record["id"]: record["retried_by"] for record in shown if "retried_by" in record} == {old: new.id}


def test_two_who_retry_all_at_once_retry_each_job_once(bgjobs: Bgjobs, queue: Queue) -> None:
    old = cancelled(queue, 20)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: bgjobs.process("retry", "--all", "--state", "cancelled"), range(2)))
    assert [result.returncode for result in results] == [0, 0]
    new = "".join(result.stdout for result in results).split()
    assert sorted(str(queue.get(job_id).retry_of) for job_id in new) == sorted(old)


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe is closed there with another error, at another time")
def test_a_reader_who_has_seen_enough_stops_no_work_and_is_told_nothing(project: Path, queue: Queue) -> None:
    queue.submit_many([Request(class_name="Work", method="echo", args=["x"], delay=3600) for _ in range(50)])
    with subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "cancel", "--all"],
        cwd=project,
        env=environment(project.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1
    assert queue.counts()[State.CANCELLED] == 50
