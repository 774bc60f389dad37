"""Code that changes under a running worker: what runs, and what is said."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bgjobs import Queue
from bgjobs.job import State
from bgjobs.worker import pool
from bgjobs.worker.loop import Worker as InProcess
from bgjobs.worker.options import WorkerOptions
from bgjobs.worker.shutdown import StopRequests
from tests.process.conftest import LIMIT, wait_until

if TYPE_CHECKING:
    from tests.process.conftest import Project

ENTRY = '[jobs.Shop]\nclass = "shop:Shop"\nmethods = ["sell"]\n\n[jobs.Functions]'
EDITS = 40
EARLIER = 1_600_000_000


def code(version: int, *, helper: bool = False) -> str:
    body = "stock.VERSION" if helper else str(version)
    return f"import stock\n\n\nclass Shop:\n    def sell(self):\n        return {body}\n"


def shop(project: Project, **options: object) -> None:
    project.rewrite("stock.py", "VERSION = 100\n")
    project.rewrite("shop.py", code(100))
    project.allow("[jobs.Functions]", ENTRY)
    project.queue = Queue.open(config=str(project.config))


def sold(project: Project) -> object:
    return project.queue.wait(project.queue.submit("Shop", "sell").id, LIMIT).result


@pytest.mark.sweep
@pytest.mark.timeout(300)
def test_with_reload_no_edit_is_missed(project: Project) -> None:
    """Each edit keeps the size of the file, most are within a second of the one before; some look older."""
    shop(project)
    project.start(reload=True, concurrency=2).ready()
    for number in range(101, 101 + EDITS):
        place = project.root / "shop.py"
        before = place.stat()
        match number % 4:
            case 0:
                place.write_text(code(number), "utf-8")  # in place
            case 1:
                project.rewrite("shop.py", code(number))
            case 2:
                project.rewrite("shop.py", code(number))
                os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
            case _:
                (project.root / "fresh").write_text(code(number), "utf-8")
                os.utime(project.root / "fresh", (EARLIER + number, EARLIER + number))
                (project.root / "fresh").replace(place)
        assert sold(project) == number


def test_with_reload_a_helper_counts_and_no_job_is_charged_for_it(project: Project) -> None:
    shop(project)
    project.rewrite("shop.py", code(0, helper=True))
    worker = project.start(reload=True).ready()
    for number in range(100, 106):
        project.rewrite("stock.py", f"VERSION = {number}\n")
        job = project.queue.wait(project.queue.submit("Shop", "sell").id, LIMIT)
        assert (job.result, job.charged, len(job.attempts)) == (number, 1, 1)
    assert "stock.py has changed" in worker.says()


def test_without_reload_old_code_runs_on_and_everybody_says_so(project: Project) -> None:
    shop(project)
    worker = project.start().ready()
    assert sold(project) == 100
    failing = "class Shop:\n    def sell(self):\n        raise ValueError('corrected')\n"
    project.rewrite("shop.py", failing)
    wait_until(lambda: sold(project) == 100 and "restart the worker" in worker.says())
    assert worker.says().count("shop.py has changed, and jobs still run the code from before") == 1
    wait_until(lambda: [view.stale for view in project.queue.workers()] == [True])
    assert worker.stop() == 0
    project.start()
    job = project.queue.wait_until_ended(project.queue.submit("Shop", "sell").id, LIMIT)
    assert job.error is not None
    assert job.error.message == "corrected"
    wait_until(lambda: [view.stale for view in project.queue.workers()] == [False])


def test_the_error_of_an_attempt_says_that_its_code_has_changed(project: Project) -> None:
    shop(project)
    failing = "class Shop:\n    def sell(self):\n        raise ValueError('first')\n"
    project.rewrite("shop.py", failing)
    project.start()
    jobs = []
    for word in "first", "second":
        project.rewrite("shop.py", failing.replace("first", word))
        jobs.append(project.queue.wait_until_ended(project.queue.submit("Shop", "sell").id, LIMIT))
    first, second = (job.error for job in jobs)
    assert first is not None
    assert first.message == "first"
    assert second is not None
    assert second.message == (
        "first (shop.py has changed since this process loaded it: what ran is the code from before)"
    )
    assert second.traceback.endswith("what ran is the code from before\n")


def test_the_death_of_a_process_with_changed_code_says_so(project: Project) -> None:
    shop(project)
    dying = "import os\n\n\nclass Shop:\n    def sell(self):\n        return os.path.exists('die') and os._exit(3)\n"
    project.rewrite("shop.py", dying)
    worker = project.start().ready()
    assert sold(project) is False
    project.rewrite("shop.py", code(101))
    wait_until(lambda: sold(project) is False and "restart the worker" in worker.says())
    (project.root / "die").touch()
    job = project.queue.wait_until_ended(project.queue.submit("Shop", "sell").id, LIMIT)
    assert job.error is not None
    assert "shop.py has changed since this process loaded it" in job.error.message


def test_renewed_processes_run_the_new_code_where_that_is_set(project: Project) -> None:
    shop(project)
    project.allow("[bgjobs]\n", '[bgjobs]\non_code_change = "renew"\n')
    worker = project.start(concurrency=2).ready()
    assert sold(project) == 100
    for number in 101, 102:
        project.rewrite("shop.py", code(number))
        wait_until(lambda number=number: sold(project) == number)  # type: ignore[misc]  # a default binds it
        assert sold(project) == number
    assert "the next jobs run in fresh processes" in worker.says()


def test_a_method_that_came_with_a_deployment_runs(project: Project) -> None:
    shop(project)
    worker = project.start(concurrency=2).ready()
    for _ in range(4):
        assert sold(project) == 100
    project.rewrite("shop.py", code(101) + "\n    def buy(self):\n        return 'bought'\n")
    project.allow('["sell"]', '["sell", "buy"]')
    for _ in range(4):
        job = project.queue.wait_until_ended(project.put("Shop", "buy").id, LIMIT)
        assert (job.state, job.result, len(job.attempts)) == (State.DONE, "bought", 1)
    assert worker.runs()


def test_an_argument_that_came_with_a_deployment_is_given(project: Project) -> None:
    shop(project)
    project.start(concurrency=2)
    for _ in range(4):
        assert sold(project) == 100
    project.rewrite("shop.py", "class Shop:\n    def sell(self, what):\n        return what\n")
    job = project.queue.wait_until_ended(project.put("Shop", "sell", "pears").id, LIMIT)
    assert (job.state, job.result, job.charged) == (State.DONE, "pears", 1)


@pytest.mark.parametrize("reload", [False, True])
def test_what_the_new_code_has_not_either_is_refused(project: Project, *, reload: bool) -> None:
    shop(project)
    project.start(reload=reload)
    assert sold(project) == 100
    project.rewrite("shop.py", code(101))
    project.allow('["sell"]', '["sell", "buy"]')
    job = project.queue.wait_until_ended(project.put("Shop", "buy").id, LIMIT)
    assert job.error is not None
    assert (job.state, job.error.type, len(job.attempts)) == (State.FAILED, "no-such-method", 1)
    job = project.queue.wait_until_ended(project.put("Shop", "sell", "pears").id, LIMIT)
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "bad-arguments")


def test_a_process_of_another_version_of_bgjobs_runs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job = project.queue.submit("Honest", "echo", ["never"])
    monkeypatch.setattr(pool, "version", lambda: "0.0.1")
    assert InProcess(project.queue, WorkerOptions(concurrency=2), StopRequests()).run() == 1
    assert "this worker 0.0.1: start it again" in capfd.readouterr().err
    assert project.state(job) is State.QUEUED
