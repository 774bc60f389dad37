"""Where a job runs, what it sees of the worker, and that no job sees what another one left."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import system
from bgjobs.job import State
from tests.process.conftest import LIMIT, Project, Worker, gone, numbers, posix_only, wait_for_lines, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAKS = {
    "COLOUR": "green",  # in `pass_env`
    "LC_TIME": "C",
    "TZ": "UTC",
    "DATABASE_PASSWORD": "hush",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "LD_LIBRARY_PATH": "/nowhere",
    "DYLD_LIBRARY_PATH": "/nowhere",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Worker]]:
    made = Project(tmp_path_factory.mktemp("home") / "project")
    yield made, made.start(environ=LEAKS).ready()
    made.close()


def result(project: Project, class_name: str, method: str, *args: object) -> Any:
    return project.queue.wait(project.queue.submit(class_name, method, args).id, LIMIT).result


def test_a_job_sees_what_is_harmless_what_is_passed_on_and_what_bgjobs_adds(shared: Project) -> None:
    job = shared.queue.submit("Curious", "environment")
    seen = shared.queue.wait(job.id, LIMIT).result
    assert seen["COLOUR"] == "green"
    assert seen["PATH"] == os.environ["PATH"]
    if sys.platform != "win32":  # whose programs ask the system, and not these
        assert (seen["LC_TIME"], seen["TZ"]) == ("C", "UTC")
    ours = {name: text for name, text in seen.items() if name.startswith("BGJOBS_")}
    assert ours == {
        "BGJOBS_ID": job.id,
        "BGJOBS_ATTEMPT": "1",
        "BGJOBS_CLASS": "Curious",
        "BGJOBS_METHOD": "environment",
        "BGJOBS_CONFIG": str(shared.config),
        "BGJOBS_SPOOL": str(shared.spool),
    }
    assert "DATABASE_PASSWORD" not in seen
    assert [name for name in seen if name.startswith(("PYTHON", "LD_", "DYLD_"))] == []


def test_a_job_runs_in_the_directory_of_the_project(shared: Project) -> None:
    job = shared.queue.submit("Curious", "place")
    assert shared.queue.wait(job.id, LIMIT).result == [
        str(shared.root.resolve()),
        str(shared.root / "curious.py"),
        job.id,
        1,
    ]


def test_a_job_runs_in_the_directory_that_the_settings_name(project: Project) -> None:
    (project.root / "elsewhere").mkdir()
    project.allow("[bgjobs]", '[bgjobs]\ncwd = "elsewhere"')
    project.start()
    assert result(project, "Curious", "place")[0] == str((project.root / "elsewhere").resolve())


def test_a_worker_whose_runners_cannot_start_stops_and_says_why(project: Project) -> None:
    project.allow("[bgjobs]", '[bgjobs]\ncwd = "nowhere"')
    job = project.queue.submit("Curious", "place")
    worker = project.start()
    assert worker.ended(3 * LIMIT) == 1
    assert "stopping: 5 runners in a row died before they were ready" in worker.says()
    assert project.queue.get(job.id).state is State.QUEUED


def test_standard_input_is_empty(shared: Project) -> None:
    assert result(shared, "Curious", "read_input") == ["", ""]


@posix_only
def test_a_runner_leads_a_session_of_its_own_and_writes_for_its_user_alone(project: Project) -> None:
    project.start(through=["/bin/sh", "-c", 'umask 000; exec "$0" "$@"'])
    found = result(project, "Curious", "process")
    assert found["session"] == found["group"] == found["pid"]
    assert found["umask"] == 0o077


@posix_only
def test_a_job_has_none_of_the_workers_descriptors_and_what_it_starts_has_none_of_ours(project: Project) -> None:
    project.start(through=["/bin/sh", "-c", 'exec "$0" "$@" 7<allowed_jobs.toml'])
    found = result(project, "Curious", "descriptors")
    assert str(project.config) not in found["mine"]
    assert found["inherited"] == [0, 1, 2]


TRAP = "open({!r}, 'a').close()\nraise ImportError('planted')\n"


@pytest.mark.parametrize("name", ["json", "colorsys"])  # one that every runner has imported, one that none has
def test_what_is_planted_in_the_working_directory_or_on_pythonpath_is_not_imported(
    project: Project, tmp_path: Path, name: str
) -> None:
    marker, elsewhere, planted = tmp_path / "marker", project.root / "elsewhere", tmp_path / "planted"
    for place, names in ((elsewhere, ("json", "colorsys", "usercustomize")), (planted, ("colorsys",))):
        place.mkdir()
        for module in names:
            (place / f"{module}.py").write_text(TRAP.format(str(marker)), "utf-8")
    project.allow("[bgjobs]", '[bgjobs]\ncwd = "elsewhere"')
    project.allow('pass_env    = ["COLOUR"]', 'pass_env    = ["COLOUR", "PYTHONPATH"]')
    project.start(environ={"PYTHONPATH": str(planted)})
    assert result(project, "Curious", "environment")["PYTHONPATH"] == str(planted)  # for what the job starts
    assert result(project, "Curious", "import_module", name).startswith(sys.base_prefix)
    path = result(project, "Curious", "process")["path"]
    assert (path[0], path.count(str(project.root))) == (str(project.root), 1)  # from `import_paths` alone
    assert not {"", ".", str(elsewhere), str(planted)}.intersection(path)
    assert not marker.exists()


def test_a_job_can_submit_jobs(shared: Project) -> None:
    child = result(shared, "Curious", "submit", "from a job")
    assert shared.queue.wait(child, LIMIT).result == "from a job"


def test_jobs_share_a_process_while_they_leave_it_clean(shared: Project) -> None:
    assert len({result(shared, "Honest", "who") for _ in range(5)}) == 1


def test_the_next_job_sees_nothing_of_what_one_changed(shared: Project) -> None:
    before = result(shared, "Messy", "look")
    result(shared, "Messy", "change_surroundings")
    assert result(shared, "Messy", "look") == before


@posix_only
def test_an_alarm_that_a_job_has_set_does_not_hit_the_next_one(shared: Project) -> None:
    result(shared, "Messy", "leave_alarm")
    assert result(shared, "Honest", "nap", 0.4) == "slept well"


@pytest.mark.parametrize(
    "names", [["SIGTERM", "SIGINT"], pytest.param(["SIGALRM", "SIGUSR1", "SIGCHLD"], marks=posix_only)]
)
def test_the_next_job_sees_no_signal_handler_of_another(shared: Project, names: list[str]) -> None:
    before = result(shared, "Messy", "look")
    result(shared, "Messy", "replace_handlers", names)
    assert result(shared, "Messy", "look") == before


def test_a_thread_that_a_job_left_behind_is_gone_for_the_next_one(shared: Project) -> None:
    before = result(shared, "Messy", "look")
    process = result(shared, "Honest", "who")
    result(shared, "Messy", "leave_thread")
    assert result(shared, "Messy", "look")["threads"] == before["threads"]
    assert result(shared, "Honest", "who") != process


@pytest.mark.parametrize("method", ["leave_child", pytest.param("leave_daemon", marks=posix_only)])
def test_a_process_that_a_job_left_behind_is_killed(shared: Project, tmp_path: Path, method: str) -> None:
    pids = tmp_path / "pids"
    job = shared.queue.submit("Messy", method, [str(pids)])
    assert shared.queue.wait(job.id, LIMIT).state is State.DONE
    wait_for_lines(pids)
    wait_until(lambda: gone(*numbers(pids)))


def test_a_worker_that_runs_as_root_says_so_once(project: Project) -> None:
    worker = project.drain()
    assert worker.says().count("running as root: so do all jobs") == system.is_elevated()
