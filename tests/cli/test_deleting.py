"""`bgjobs run-now`, `bgjobs delete` and `bgjobs prune`: what becomes of each job, and the exit status for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.errors import NoSuchJobError, NotEndedError, UsageError
from bgjobs.job import State
from tests.cli.commands import Bgjobs, Finished, error, objects, wait_until

if TYPE_CHECKING:
    import subprocess

    from bgjobs import Queue

UNKNOWN = "01m00000000000000000000000"


# run-now


def test_a_delayed_job_runs_now(bgjobs: Bgjobs, queue: Queue, worker: subprocess.Popen[str]) -> None:
    job = queue.submit("Work", "echo", ["x"], delay="1h")
    result = bgjobs("run-now", job.id[-8:])
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{job.id} now\n", "")
    assert queue.wait_until_ended(job.id, timeout=60).state is State.DONE
    late = bgjobs("run-now", job.id, "--json")
    assert (late.returncode, late.stdout, error(late)["code"]) == (1, "", "already-ended")


def test_the_log_says_who_dropped_the_delay(bgjobs: Bgjobs, queue: Queue) -> None:
    job = queue.submit("Work", "echo", ["x"], delay="1h")
    assert bgjobs("run-now", job.id).returncode == 0
    [*_, last] = objects(bgjobs("logs", "--json"))
    assert (last["job"], last["status"]) == (job.id, "QUEUED")
    assert last["message"] == f"not delayed any more, by {job.submitted_by}"


def test_each_job_is_looked_at_whatever_becomes_of_the_others(
    bgjobs: Bgjobs, queue: Queue, worker: subprocess.Popen[str]
) -> None:
    running = queue.submit("Work", "sleep", [60])
    wait_until(lambda: queue.get(running.id).state is State.RUNNING)
    gone = queue.submit("Work", "echo", ["x"], delay="1h")
    queue.cancel(gone.id)
    delayed = queue.submit("Work", "sleep", [60], delay="1h")
    result = bgjobs("run-now", running.id, gone.id, UNKNOWN, delayed.id)
    assert (result.returncode, result.stdout) == (4, f"{delayed.id} now\n")
    assert result.stderr.splitlines() == [
        f"bgjobs: job {running.id} has already begun: nothing to do",
        f"bgjobs: job {gone.id} has already ended: it is cancelled: `bgjobs retry` repeats it",
        f"bgjobs: no job {UNKNOWN}: see `bgjobs list`",
    ]


def test_a_job_that_may_start_anyway_is_no_error(bgjobs: Bgjobs, queue: Queue) -> None:
    job = queue.submit("Work", "echo", ["x"])
    assert objects(bgjobs("run-now", job.id, "--json")) == [{"id": job.id, "result": "already due"}]
    assert bgjobs("run-now", job.id).stdout == f"{job.id} already due\n"


def test_delayed_jobs_run_now_by_condition(bgjobs: Bgjobs, queue: Queue) -> None:
    chosen = queue.submit("Work", "echo", ["x"], delay="1h", tags=["soon"])
    other = queue.submit("Work", "echo", ["x"], delay="1h")
    assert bgjobs("run-now", "--all", "--tag", "soon", "--dry-run").stdout == f"{chosen.id}\n"
    assert queue.get(chosen.id).state is State.SCHEDULED
    assert bgjobs("run-now", "--all", "--tag", "soon").stdout == f"{chosen.id} now\n"
    assert queue.get(chosen.id).state is State.QUEUED
    assert queue.get(other.id).state is State.SCHEDULED
    assert bgjobs("run-now", "--all", "--tag", "soon").stdout == ""


# delete


def test_an_ended_job_is_deleted_with_its_output(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    job, kept = queue.submit("Work", "echo", ["x"]), queue.submit("Work", "echo", ["x"])
    assert bgjobs("worker", "--drain", "-q", "-c", "1").returncode == 0
    assert len(list(Path(project, "spool").rglob(f"{job.id}*"))) == 2
    result = bgjobs("delete", job.id[-8:])
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{job.id} deleted\n", "")
    assert list(Path(project, "spool").rglob(f"*{job.id}*")) == []
    assert queue.get(kept.id).state is State.DONE
    assert objects(bgjobs("delete", kept.id, "--json")) == [{"id": kept.id, "result": "deleted"}]
    again = bgjobs("delete", kept.id, "--json")
    assert (again.returncode, again.stdout, error(again)["code"]) == (4, "", "no-such-job")


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=str)
def test_a_job_that_has_not_ended_is_not_deleted(bgjobs: Bgjobs, queue: Queue, options: list[str]) -> None:
    job = queue.submit("Work", "echo", ["x"], delay="1h")
    result = bgjobs("delete", job.id, *options)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith(": cancel it first\n")
    assert error(bgjobs("delete", job.id, *options, "--json"))["code"] == "not-ended"
    assert queue.get(job.id).state is State.SCHEDULED


def test_ended_jobs_are_deleted_by_condition(bgjobs: Bgjobs, queue: Queue) -> None:
    gone, kept, left = (queue.submit("Work", "echo", ["x"], tags=[tag]) for tag in ("old", "new", "old"))
    for job in (gone, kept):
        queue.cancel(job.id)
    rehearsed = bgjobs("delete", "--all", "--tag", "old", "--dry-run")
    assert (rehearsed.returncode, rehearsed.stdout) == (0, f"{gone.id}\n")
    assert queue.counts()[State.CANCELLED] == 2
    assert bgjobs("delete", "--all", "--tag", "old").stdout == f"{gone.id} deleted\n"
    assert {job.id for job in queue.jobs()} == {kept.id, left.id}


# prune


def test_prune_deletes_what_ended_long_enough_ago(bgjobs: Bgjobs, queue: Queue) -> None:
    for _ in range(2):
        queue.cancel(queue.submit("Work", "echo", ["x"]).id)
    done = queue.submit("Work", "nothing")
    assert bgjobs("worker", "--drain", "-q", "-c", "1").returncode == 0
    waiting = queue.submit("Work", "echo", ["x"])
    assert bgjobs("prune").stdout == "0 jobs deleted\n"  # the settings keep them for days
    assert bgjobs("prune", "--older", "1h").stdout == "0 jobs deleted\n"
    assert bgjobs("prune", "--older", "0", "--dry-run").stdout == "3 jobs would be deleted\n"
    assert objects(bgjobs("prune", "--older", "0", "--dry-run", "--json")) == [{"would_delete": 3}]
    assert objects(bgjobs("prune", "--older", "0", "--state", "cancelled", "--json")) == [{"deleted": 2}]
    assert queue.get(done.id).state is State.DONE
    assert bgjobs("prune", "--older", "0").stdout == "1 job deleted\n"
    assert [job.id for job in queue.jobs()] == [waiting.id]


def test_prune_follows_the_settings_of_the_project(bgjobs: Bgjobs, queue: Queue) -> None:
    queue.submit("Work", "nothing")
    failed = queue.submit("Work", "fail")
    assert bgjobs("worker", "--drain", "-q", "-c", "1").returncode == 0
    assert bgjobs("prune", env={"BGJOBS_KEEP_DONE": "0.001s"}).stdout == "1 job deleted\n"
    assert [job.id for job in queue.jobs()] == [failed.id]
    assert bgjobs("prune", env={"BGJOBS_KEEP_FAILED": "0.001s"}).stdout == "1 job deleted\n"


def test_what_is_corrupt_is_pruned_when_it_is_named(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    queue.submit_many([])
    corrupt = project / "spool" / "corrupt"
    (corrupt / "1-strange").write_text("no job", encoding="utf-8")
    (corrupt / "1-strange.reason").write_text("line 1 is not a job\n", encoding="utf-8")
    assert bgjobs("prune", "--older", "0").stdout == "0 jobs deleted\n"
    assert bgjobs("prune", "--older", "0", "--state", "corrupt").stdout == "1 job deleted\n"
    assert list(corrupt.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["run-now"],
        ["delete"],
        ["delete", "--class", "Work"],
        ["delete", "--all", UNKNOWN],
        ["delete", "--all", "--state", "running"],
        ["delete", "--all", "--state", "corrupt"],
        ["run-now", "--all", "--state", "done"],
        ["prune", "--state", "queued"],
        ["prune", "--older", "soon"],
        ["prune", "--older", "-1"],
    ],
    ids=str,
)
def test_it_must_be_clear_what_is_meant(finished: Finished, argv: list[str]) -> None:
    before = finished.queue.counts()
    result = finished.bgjobs(*argv)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert finished.queue.counts() == before


# The same from Python


def test_the_same_from_python(queue: Queue) -> None:
    job = queue.submit("Work", "echo", ["x"], delay=3600)
    with pytest.raises(NotEndedError, match="has not ended: cancel it first"):
        queue.delete(job.id)
    assert queue.run_now(job.id[-10:]) == "now"
    queue.cancel(job.id)
    assert queue.run_now(job.id) == "too late"
    queue.delete(job.id)
    for act in (queue.delete, queue.run_now):
        with pytest.raises(NoSuchJobError):
            act(job.id)
    other = queue.submit("Work", "echo", ["x"])
    queue.cancel(other.id)
    assert queue.prune() == queue.prune(older="1d") == queue.prune(older=0, state="done") == 0
    wait_until(lambda: queue.prune(older=0, dry_run=True) == 1)
    assert queue.prune(older=0, state=["cancelled", "corrupt"]) == 1
    with pytest.raises(UsageError, match="bad state 'queued'"):
        queue.prune(state="queued")
    with pytest.raises(UsageError, match="bad age"):
        queue.prune(older="long")
