"""`bgjobs status`, `list`, `jobs` and `check`: what a person and a program see."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from bgjobs.job import State
from tests.cli.commands import Bgjobs, Finished, environment, error, objects, on_terminal, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals in its Python")
FIELDS = (  # noqa: SIM905 - as the contract lists them, and who had handed it in to a shared spool
    "id class method args kwargs priority state attempt retries crashes retry_of not_before submitted_at started_at "
    "finished_at submitted_by from_user worker tags result error progress attempts"
).split()


def test_status_counts_jobs_and_names_workers_and_failures(finished: Finished) -> None:
    result = finished.bgjobs("status")
    assert (result.returncode, result.stderr) == (0, "")
    assert "queued 1, scheduled 1, waiting 0, running 0, done 4, failed 2, cancelled 1, corrupt 0" in result.stdout
    assert "none, start one with `bgjobs worker`" in result.stdout
    assert finished.jobs["failed"].id in result.stdout


def test_status_as_json_has_the_shape_of_the_contract(finished: Finished) -> None:
    [seen] = objects(finished.bgjobs("status", "--json"))
    assert set(seen) == {"counts", "oldest_queued_s", "workers", "running"}
    assert seen["counts"] == {
        "queued": 1,
        "scheduled": 1,
        "waiting": 0,
        "running": 0,
        "done": 4,
        "failed": 2,
        "cancelled": 1,
        "corrupt": 0,
    }
    assert seen["oldest_queued_s"] > 0
    assert (seen["workers"], seen["running"]) == ([], [])


def test_status_shows_a_running_job_with_its_progress(
    project: Path, bgjobs: Bgjobs, queue: Queue, worker: object
) -> None:
    gate = project / "gate"
    job = queue.submit("Work", "step_by_step", [str(gate)])
    try:
        seen = _running(bgjobs)
        assert [part["id"] for part in seen["running"]] == [job.id]
        assert seen["running"][0]["progress"] == {"done": 1.0, "total": 4.0, "message": "first"}
        [one] = seen["workers"]
        about = {"id", "name", "host", "pid", "concurrency", "started_at", "version"}
        assert set(one) == about | {"alive", "responsive", "stale", "log_lines_dropped"}
        assert (one["concurrency"], one["alive"], one["responsive"]) == (2, True, True)
        text = bgjobs("status").stdout
        assert "Work.step_by_step" in text
        assert "1/4 (25%) first" in text
        assert "alive" in text
    finally:
        gate.touch()
    queue.wait(job.id, 20)


def _running(bgjobs: Bgjobs) -> dict[str, list[dict[str, object]]]:
    """Return the status as JSON once it shows a job that runs, with its progress."""
    shown: list[dict[str, list[dict[str, object]]]] = []

    def is_running() -> bool:
        shown[:] = objects(bgjobs("status", "--json"))
        return bool(shown[0]["running"] and shown[0]["running"][0]["progress"])

    wait_until(is_running, "the progress of the job")
    return shown[0]


def test_status_of_a_job_shows_everything_about_it(finished: Finished) -> None:
    failed = finished.jobs["failed"]
    text = finished.bgjobs("status", failed.id[-8:]).stdout
    for part in (failed.id, "Work.fail", "failed", "ValueError: bad\\nnews", "1 of 1", "raised", "Traceback"):
        assert part in text
    assert "+00:00 (" in text  # local with the zone, and relative


def test_status_of_a_job_that_has_not_begun_says_what_it_waits_for(
    finished: Finished, bgjobs: Bgjobs, queue: Queue, tmp_path: Path
) -> None:
    assert "waits for   a worker: none runs" in finished.bgjobs("status", finished.jobs["queued"].id).stdout
    assert "waits for   its moment, 2" in finished.bgjobs("status", finished.jobs["scheduled"].id).stdout
    assert "waits for" not in finished.bgjobs("status", finished.jobs["failed"].id).stdout
    job = queue.submit("Other", "handle")
    worker = subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "worker", "-c", "1", "--only", "Work"],
        cwd=queue.settings.root,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any(seen.alive for seen in queue.workers()), "the start of the worker")
        assert "waits for   a worker that takes it: each" in bgjobs("status", job.id).stdout
    finally:
        worker.terminate()
        worker.wait()


def test_status_of_a_job_as_json_has_every_field_of_the_contract(finished: Finished) -> None:
    [done] = objects(finished.bgjobs("status", finished.jobs["done"].id, "--json"))
    assert list(done) == FIELDS
    assert (done["state"], done["result"], done["tags"], done["priority"], done["attempt"]) == (
        "done",
        5,
        ["good"],
        8,
        1,
    )
    assert done["args"] == ["2"]
    assert done["submitted_at"].endswith("Z")
    assert datetime.fromisoformat(done["finished_at"]) >= datetime.fromisoformat(done["started_at"])
    [attempt] = done["attempts"]
    assert set(attempt) == {"number", "started_at", "finished_at", "outcome", "error", "worker", "exit"}
    assert attempt["outcome"] == "succeeded"


def test_a_secret_argument_is_shown_nowhere(finished: Finished) -> None:
    login = finished.jobs["login"].id
    for argv in (["status", login], ["status", login, "--json"], ["list"], ["list", "--json"], ["logs"]):
        shown = finished.bgjobs(*argv)
        assert "hunter2" not in shown.stdout + shown.stderr
    assert '"password":"***"' in finished.bgjobs("status", login, "--json").stdout


@pytest.mark.parametrize(
    ("command", "job_id", "status", "code"),
    [
        ("status", "01m00000000000000000000000", 4, "no-such-job"),
        ("status", "zzzzzzzz", 4, "no-such-job"),
        ("status", "../../x", 2, "bad-id"),
        ("logs", "01m00000000000000000000000", 4, "no-such-job"),
        ("wait", "01m00000000000000000000000", 4, "no-such-job"),
        ("cancel", "01m00000000000000000000000", 4, "no-such-job"),
        ("cancel", "short", 2, "bad-id"),
        ("retry", "01m00000000000000000000000", 4, "no-such-job"),
    ],
)
def test_an_id_that_is_unknown_and_what_is_no_id_are_told_apart(
    finished: Finished, command: str, job_id: str, status: int, code: str
) -> None:
    result = finished.bgjobs(command, job_id, "--json")
    assert (result.returncode, result.stdout) == (status, "")
    assert error(result)["code"] == code


def test_list_prints_one_line_for_each_job_newest_first(finished: Finished) -> None:
    result = finished.bgjobs("list")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == sorted((job.id for job in finished.jobs.values()), reverse=True)
    by_id = {row[0]: row for row in rows}
    assert by_id[finished.jobs["done"].id][1:5] == ["done", "high", "Work.add", "1/1"]
    assert by_id[finished.jobs["failed"].id][6] == "ValueError: bad\\nnews"


def test_list_as_json_is_one_object_a_line_like_that_of_status(finished: Finished) -> None:
    found = objects(finished.bgjobs("list", "--json"))
    assert len(found) == len(finished.jobs)
    assert all(list(one) == FIELDS for one in found)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--state", "failed"], {"failed", "hostile"}),
        (["--state", "failed,cancelled", "--state", "queued"], {"failed", "hostile", "cancelled", "queued"}),
        (["--class", "Other"], {"low"}),
        (["--priority", "high"], {"done"}),
        (["--tag", "good"], {"done"}),
        (["--error", "BAD\nNEWS"], {"failed"}),
        (["--since", "1h"], None),
        (["--until", "1h"], set()),
        (["--class", "Work", "--method", "add", "--state", "done"], {"done"}),
        (["--limit", "0"], None),
    ],
    ids=lambda value: repr(sorted(value)) if isinstance(value, set) else str(value),
)
def test_list_takes_conditions(finished: Finished, options: list[str], names: set[str] | None) -> None:
    wanted = set(finished.jobs) if names is None else names
    found = {one["id"] for one in objects(finished.bgjobs("list", "--json", *options))}
    assert found == {finished.jobs[name].id for name in wanted}


def test_list_sorts_and_limits(finished: Finished) -> None:
    newest = [one["id"] for one in objects(finished.bgjobs("list", "--json"))]
    oldest = [one["id"] for one in objects(finished.bgjobs("list", "--json", "--sort", "oldest", "--limit", "3"))]
    first, *_, last = objects(finished.bgjobs("list", "--json", "--sort", "priority"))
    assert oldest == newest[::-1][:3]
    assert (first["id"], last["id"]) == (finished.jobs["done"].id, finished.jobs["low"].id)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--state", "finished"], "bad-state"),
        (["--priority", "11"], "bad-priority"),
        (["--since", "yesterday"], "bad-since"),
        (["--sort", "size"], "bad-sort"),
        (["--limit", "-1"], "usage"),
    ],
    ids=lambda value: repr(sorted(value)) if isinstance(value, set) else str(value),
)
def test_list_refuses_conditions_that_cannot_be(finished: Finished, options: list[str], code: str) -> None:
    result = finished.bgjobs("list", "--json", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert error(result)["code"] == code


def test_what_jobs_say_cannot_command_a_terminal(finished: Finished) -> None:
    hostile = finished.jobs["hostile"].id
    for argv in (
        ["status"],
        ["status", hostile],
        ["list"],
        ["list", "--json"],
        ["status", hostile, "--json"],
        ["logs"],
    ):
        shown = finished.bgjobs(*argv)
        assert shown.returncode == 0
        assert "\x1b" not in shown.stdout + shown.stderr
    row = next(line for line in finished.bgjobs("list").stdout.splitlines() if hostile in line)
    assert row.endswith("RuntimeError: line\\nbreak \\x1b[2J [/nope]")


@posix
def test_markup_and_escapes_from_jobs_are_shown_as_they_are_on_a_terminal(finished: Finished) -> None:
    status, shown = on_terminal(["list"], cwd=finished.root, env=environment(finished.root.parent), columns=200)
    assert status == 0
    assert "RuntimeError: line\\nbreak \\x1b[2J [/nope]" in shown
    assert "\x1b[32m" in shown  # colours are for terminals
    status, shown = on_terminal(
        ["logs", finished.jobs["hostile"].id], cwd=finished.root, env=environment(finished.root)
    )
    assert status == 0
    assert shown == "\\x1b]0;owned\\x07\\x1b[2J[bold]markup[/nope]\ttab\r\n"


@posix
@pytest.mark.parametrize("command", ["list", "status"])
def test_there_are_no_colours_where_nobody_wants_them(finished: Finished, command: str) -> None:
    env = environment(finished.root.parent)
    _, shown = on_terminal([command], cwd=finished.root, env=env | {"NO_COLOR": "1"})
    assert "\x1b" not in shown
    assert "\x1b" not in finished.bgjobs(command, env={"FORCE_COLOR": "1"}).stdout


@posix
def test_a_watched_status_is_drawn_again_until_somebody_stops_it(finished: Finished) -> None:
    status, shown = on_terminal(
        ["status", "--watch"],
        cwd=finished.root,
        env=environment(finished.root.parent),
        until=lambda text: text.count("queued 1") > 1,
    )
    assert status == 130
    assert "Traceback" not in shown


def test_a_watched_job_is_shown_until_it_has_ended(finished: Finished) -> None:
    result = finished.bgjobs("status", finished.jobs["done"].id, "--watch", "--json")
    assert [one["state"] for one in objects(result)] == ["done"]


def test_jobs_shows_what_may_run_without_importing_it(bgjobs: Bgjobs, project: Path) -> None:
    work = project / "work.py"
    work.write_text(work.read_text() + "\nraise SystemExit('imported')\n")
    result = bgjobs("jobs")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Work  What tests need" in result.stdout
    assert "  echo(text: str)\n      Print the text and return it." in result.stdout
    assert "add(a: int, b: int = 1)" in result.stdout
    assert "cannot run" in result.stdout  # Missing.not_there


def test_jobs_as_json_is_one_object_for_each_method(bgjobs: Bgjobs) -> None:
    found = {(one["class"], one["method"]): one for one in objects(bgjobs("jobs", "--json"))}
    login = found["Work", "login"]
    assert login["signature"] == "login(user: str, password: str)"
    assert [(part["name"], part["secret"]) for part in login["parameters"]] == [("user", False), ("password", True)]
    assert found["Missing", "not_there"]["problem"].startswith("work:Work has no method not_there")
    assert found["Other", "handle"]["priority"] == 2


def test_the_schema_of_a_job_file_fits_the_files_that_are_written(finished: Finished) -> None:
    schema = json.loads(finished.bgjobs("jobs", "--schema").stdout)
    assert schema["required"][:4] == ["format", "id", "class", "method"]
    [path] = (finished.root / "spool" / "pending").rglob(f"*{finished.jobs['queued'].id}.json")
    line = json.loads(path.read_text().splitlines()[0])
    assert set(schema["required"]) <= set(line) <= set(schema["properties"])
    assert schema["properties"]["priority"]["maximum"] == 9


def test_check_lists_every_problem_and_exits_1(bgjobs: Bgjobs, project: Path) -> None:
    allowlist = project / "allowed_jobs.toml"
    allowlist.write_text(
        allowlist.read_text().replace('["password"]', '["pasword"]').replace('"kinds", ', "")
        + '\n[jobs.Broken]\nclass = "broken:Broken"\nmethods = ["run"]\n'
        + '\n[jobs.Gone]\nclass = "gone:Gone"\nmethods = ["run"]\n'
    )
    (project / "broken.py").write_text("class Broken:\n    def run(self): pass\nraise RuntimeError('at import')\n")
    result = bgjobs("check")
    assert (result.returncode, result.stderr) == (1, "")
    assert "Work: secret 'pasword' is no argument" in result.stdout
    assert "Missing.not_there: work:Work has no method not_there" in result.stdout
    assert "Broken.run: RuntimeError: at import" in result.stdout
    assert "Gone.run: no module gone" in result.stdout
    [found] = objects(bgjobs("check", "--json"))
    assert not found["ok"]
    assert {"class": "Broken", "method": "run", "reason": "RuntimeError: at import"} in found["problems"]


def test_check_finds_a_mistake_in_the_allowlist_itself(bgjobs: Bgjobs, project: Path) -> None:
    (project / "allowed_jobs.toml").write_text("[bgjobs]\nretries = -1\n")
    result = bgjobs("check")
    assert result.returncode == 1
    assert f"{project / 'allowed_jobs.toml'}:2: bgjobs.retries: must be a whole number" in result.stdout


def test_check_finds_nothing_where_nothing_is_wrong(bgjobs: Bgjobs, project: Path) -> None:
    allowlist = project / "allowed_jobs.toml"
    allowlist.write_text(allowlist.read_text().partition("[jobs.Missing]")[0])
    result = bgjobs("check")
    assert (result.returncode, result.stderr) == (0, "")
    unchecked = "" if system.CHECKS_WRITERS else "; who may change them is not checked on this system"
    assert result.stdout == f"no problem found: 12 methods may run{unchecked}\n"


def test_every_state_can_be_asked_for(finished: Finished) -> None:
    listable = ",".join(state.value for state in State if state is not State.CORRUPT)
    assert len(finished.bgjobs("list", "--state", listable).stdout.splitlines()) == len(finished.jobs)
