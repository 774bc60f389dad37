"""A running worker takes a changed allowlist over by itself, if it is valid, and says so.

When a file counts as changed is decided in tests/unit/test_worker_duties.py; here the pauses are short.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bgjobs import Queue
from bgjobs.job import State
from tests.process.conftest import LIMIT, lines, posix_only, request, wait_for_lines, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Project, Worker

# A worker that looks at its allowlist four times a second, and takes it over at the next look if it has not changed.
WORKER = """
import sys
from bgjobs.cli import main
from bgjobs.worker.duties import reload
reload.LOOK_EVERY_S = reload.STILL_S = 0.2
reload.LONG_STILL_S = reload.RECHECK_S = 0.4
sys.argv = ["bgjobs", *sys.argv[4:]]
sys.exit(main())
"""


def start(project: Project, **options: Any) -> Worker:
    return project.start(through=[sys.executable, "-c", WORKER], **options).ready()


def taken_over(project: Project, old: str, new: str) -> None:
    """Change the allowlist and wait until the only worker has said that it knows."""
    worker = start(project)
    project.allow(old, new)
    wait_until(lambda: "took over the changed allowlist" in worker.says())


def test_a_pair_that_was_added_may_run(project: Project) -> None:
    job = project.put("Honest", "added", "x")
    addition = '[jobs.Added]\nclass = "added:Added"\nmethods = ["run"]\n'
    project.rewrite("added.py", "class Added:\n    def run(self):\n        return 'allowed'\n")
    taken_over(project, "[jobs.Functions]", f"{addition}\n[jobs.Functions]")
    queue = Queue.open(config=str(project.config))
    assert queue.wait(queue.submit("Added", "run").id, LIMIT).result == "allowed"
    assert project.queue.wait_until_ended(job.id, LIMIT).state is State.FAILED  # this one is still not in it


def test_a_pair_that_was_removed_is_refused(project: Project) -> None:
    taken_over(project, '"echo", ', "")
    # Our own `Queue` still knows the old file, as a submitter may that was faster than the change.
    job = project.queue.wait_until_ended(project.queue.submit("Honest", "echo", retries=5).id, LIMIT)
    assert (job.state, job.attempts) == (State.FAILED, ())
    assert job.error is not None
    assert job.error.type == "not-allowed"
    assert [record["status"] for record in project.whole_log(job)] == ["QUEUED", "REFUSED"]
    wait_until(lambda: [record["status"] for record in project.errors(job)] == ["REFUSED"])
    assert project.queue.wait(project.queue.submit("Honest", "who").id, LIMIT)  # type: ignore[truthy-bool]  # it raises otherwise


def test_a_pair_that_was_removed_is_refused_even_if_its_job_had_been_claimed_ahead(
    project: Project, tmp_path: Path
) -> None:
    go, begun, signed = tmp_path / "go", tmp_path / "begun", tmp_path / "signed"
    worker = start(project, concurrency=1)
    quick = [request("Honest", "echo", n) for n in range(60)]
    gated = request("Honest", "wait_for", str(go), str(begun))
    jobs = project.queue.submit_many([*quick, gated, *(request("Honest", "sign", str(signed)) for _ in range(20))])
    wait_for_lines(begun)
    project.allow('"sign",', "")
    wait_until(lambda: "took over the changed allowlist" in worker.says())
    wait_until(lambda: len(list(project.spool.glob("claimed/*/*.json"))) == 1)  # nothing is in a runner's hands
    go.touch()
    for job in jobs[61:]:
        ended = project.queue.wait_until_ended(job.id, LIMIT)
        assert (ended.state, ended.attempts) == (State.FAILED, ())
    assert lines(signed) == []
    assert project.state(jobs[60]) is State.DONE


def test_a_changed_policy_holds_for_the_next_attempt(project: Project) -> None:
    taken_over(project, "[jobs.Stubborn]\n", "[jobs.Stubborn]\ntimeout = 0.2\n")
    job = project.queue.wait_until_ended(project.queue.submit("Stubborn", "sleep", [60]).id, LIMIT)
    assert [attempt.outcome for attempt in job.attempts] == ["timed_out"]


def test_changed_surroundings_hold_for_the_next_job(project: Project) -> None:
    worker = start(project, environ={"COLOUR": "green", "FLAVOUR": "sour"})
    seen = project.queue.wait(project.queue.submit("Curious", "environment").id, LIMIT).result
    assert (seen.get("COLOUR"), seen.get("FLAVOUR")) == ("green", None)
    project.allow('pass_env    = ["COLOUR"]', 'pass_env    = ["FLAVOUR"]')
    wait_until(lambda: "took over the changed allowlist" in worker.says())
    seen = project.queue.wait(project.queue.submit("Curious", "environment").id, LIMIT).result
    assert (seen.get("COLOUR"), seen.get("FLAVOUR")) == (None, "sour")


def test_an_invalid_file_is_reported_and_the_old_one_stays(project: Project) -> None:
    worker = start(project)
    good = project.config.read_text("utf-8")
    for number, (bad, place) in enumerate(
        [
            ("not toml at all [", ":1: not valid TOML"),
            (good.replace("[jobs.Functions]", "[jobs.Functions]\ncolour = 1"), "jobs.Functions.colour: unknown key"),
        ]
    ):
        project.rewrite("allowed_jobs.toml", bad)
        wait_until(lambda number=number: worker.says().count("the changed allowlist is not taken over: ") == number + 1)  # type: ignore[misc]  # a default binds the loop variable
        assert place in worker.says().splitlines()[-1]
        assert project.queue.wait(project.queue.submit("Honest", "echo", [number]).id, LIMIT).result == number
    project.rewrite("allowed_jobs.toml", good.replace('"echo", ', ""))
    wait_until(lambda: "took over the changed allowlist" in worker.says())
    assert project.queue.wait_until_ended(project.queue.submit("Honest", "echo").id, LIMIT).state is State.FAILED


@posix_only
def test_a_changed_file_that_others_can_write_to_is_not_taken_over(project: Project) -> None:
    worker = start(project)
    project.config.chmod(0o666)
    project.config.write_text(project.config.read_text("utf-8") + "# theirs\n", "utf-8")
    wait_until(lambda: "the changed allowlist is not taken over: " in worker.says())
    assert f"can be changed by every user: chmod o-w {project.config}" in worker.says()
    assert project.queue.wait(project.queue.submit("Honest", "echo", ["as before"]).id, LIMIT).result == "as before"


@posix_only
def test_a_changed_file_that_names_a_module_which_others_can_write_to_is_not_taken_over(project: Project) -> None:
    worker = start(project)
    (project.root / "theirs.py").write_text("class Theirs:\n    def run(self): ...\n", "utf-8")
    (project.root / "theirs.py").chmod(0o666)
    project.allow("[jobs.Functions]", '[jobs.Theirs]\nclass = "theirs:Theirs"\nmethods = ["run"]\n\n[jobs.Functions]')
    wait_until(lambda: "the changed allowlist is not taken over: " in worker.says())
    assert f"{project.root / 'theirs.py'} can be changed by every user" in worker.says()


def test_a_job_whose_pair_was_added_a_moment_ago_waits_until_the_worker_knows_it(project: Project) -> None:
    worker = start(project)
    project.rewrite("added.py", "class Added:\n    def run(self):\n        return 'allowed'\n")
    project.allow("[jobs.Functions]", '[jobs.Added]\nclass = "added:Added"\nmethods = ["run"]\n\n[jobs.Functions]')
    job = project.put("Added", "run")
    assert project.queue.wait(job.id, LIMIT).result == "allowed"
    assert "REFUSED" not in {record["status"] for record in project.whole_log(job)}
    assert "took over the changed allowlist" in worker.says()


def test_a_job_that_waits_for_a_changing_list_can_be_cancelled_and_goes_back_when_its_worker_stops(
    project: Project,
) -> None:
    worker = start(project)
    project.config.write_text("[half", "utf-8")
    doomed, kept = project.put("Honest", "added"), project.put("Honest", "added")
    wait_until(lambda: len(list(project.spool.glob("claimed/*/*.json"))) == 2)
    project.queue.cancel(doomed.id)
    assert project.queue.wait_until_ended(doomed.id, LIMIT).state is State.CANCELLED
    assert worker.stop() == 0
    assert project.state(kept) is State.QUEUED
    assert project.queue.get(kept.id).attempts == ()


@posix_only
def test_a_switched_link_is_a_change_of_list_and_code(project: Project, tmp_path: Path) -> None:
    releases, current = tmp_path / "releases", tmp_path / "current"
    for number, methods in (11, ["run", "other"]), (12, ["run", "other", "fresh"]):
        home = releases / str(number)
        home.mkdir(parents=True)
        listed = ", ".join(f'"{method}"' for method in methods)
        code = "".join(f"    def {name}(self):\n        return {number}, os.getcwd()\n" for name in methods)
        (home / "released.py").write_text(f"import os\n\n\nclass Released:\n{code}", "utf-8")
        entry = f'[bgjobs]\ndurability = "os"\n\n[jobs.Released]\nclass = "released:Released"\nmethods = [{listed}]\n'
        (home / "allowed_jobs.toml").write_text(entry, "utf-8")
    current.symlink_to(releases / "11")
    worker = start(project, config=current / "allowed_jobs.toml", spool=project.spool)
    assert project.queue.wait(project.put("Released", "run").id, LIMIT).result == [11, str(releases / "11")]
    (tmp_path / "switched").symlink_to(releases / "12")
    (tmp_path / "switched").replace(current)
    assert project.queue.wait(project.put("Released", "fresh").id, LIMIT).result == [12, str(releases / "12")]
    wait_until(lambda: "lead to other directories now" in worker.says())
    assert project.queue.wait(project.put("Released", "run").id, LIMIT).result == [12, str(releases / "12")]
