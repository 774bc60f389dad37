"""What a job was told in confidence is in its file, and nowhere else."""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgjobs.errors import BadArgumentsError
from bgjobs.job import Progress, State
from tests.cli.commands import Bgjobs
from tests.process.conftest import LIMIT, PROJECT, Project, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job

SECRET = "hunter2-\u2028'\"\\n\n-Zoë"


def ways() -> list[str]:
    text = (PROJECT / "indiscreet.py").read_text("utf-8")
    return re.findall(r'^    "([^"]+)": ', text, re.MULTILINE)


def said(project: Project, job: Job) -> str:
    """Return all that is written about a job, but for line 1 of its file, which holds its arguments."""
    found = []
    for words in (["status", job.id], ["status", job.id, "--json"], ["list"], ["list", "--json"], ["wait", job.id]):
        result = Bgjobs(project.root, project.root)(*words)
        found += [result.stdout.encode(), result.stderr.encode()]
    for path in project.spool.rglob("*"):
        if path.is_file() and job.id in path.name:
            found.append(path.read_bytes().partition(b"\n")[2])
        elif path.is_file() and path.parent.name == "logs":
            found.append(path.read_bytes())
    return b"\n".join(found).decode("utf-8", "replace")


def record(project: Project, job: Job) -> str:
    """Return what the job's file says of its attempts, and the two logs."""
    [path] = project.spool.glob(f"*/*/{job.id}.json")
    logs = "".join(path.read_text("utf-8") for path in (project.spool / "logs").glob("*.log"))
    return path.read_text("utf-8").partition("\n")[2] + logs


def traces_of(secret: str, text: str) -> list[str]:
    """Return the parts of the secret that can be read in the text, however it is escaped there."""
    parts = [part for part in ("hunter2", secret, ascii(secret)[1:-1], repr(secret)[1:-1]) if part in text]
    return [part for part in parts if len(part) >= 4]


@pytest.mark.parametrize("way", ways())
def test_what_a_method_says_of_its_secret_is_masked_wherever_it_is_said(shared: Project, way: str) -> None:
    job = shared.queue.submit("Indiscreet", "tell", [way], {"key": SECRET})
    job = shared.queue.wait_until_ended(job.id, LIMIT)
    assert job.state is State.FAILED
    assert job.error is not None
    assert "***" in job.error.type + job.error.message + job.error.traceback
    shared.whole_log(job)
    assert traces_of(SECRET, record(shared, job)) == []


def test_no_command_shows_what_a_method_says_of_its_secret(shared: Project) -> None:
    job = shared.queue.submit("Indiscreet", "tell", ["as a cause", SECRET])
    shared.queue.wait_until_ended(job.id, LIMIT)
    shared.whole_log(job)
    shown = said(shared, job)
    assert "***" in shown
    assert traces_of(SECRET, shown) == []


@pytest.mark.parametrize("secret", [{"card": ["hunter2", 4111]}, ["hunter2"], 41114111, 4111.25])
def test_numbers_and_what_lies_within_are_secret_too(shared: Project, secret: Any) -> None:
    job = shared.queue.submit("Indiscreet", "tell", ["with its neighbours", secret])
    shared.queue.wait_until_ended(job.id, LIMIT)
    shared.whole_log(job)
    text = record(shared, job).replace(job.id, "")
    assert "hunter2" not in text
    assert "4111" not in text


def test_what_became_of_a_secret_text_is_secret_too(shared: Project) -> None:
    job = shared.queue.submit("Indiscreet", "tell_converted", ["41e3"], text=True)
    job = shared.queue.wait_until_ended(job.id, LIMIT)
    assert job.error is not None
    assert job.error.message == "*** and [***]"


def test_a_secret_parameter_for_the_rest_makes_all_secret(shared: Project) -> None:
    job = shared.queue.submit("Indiscreet", "tell_rest", ["hunter2"], {"more": "hunter3"})
    job = shared.queue.wait_until_ended(job.id, LIMIT)
    assert job.error is not None
    assert job.error.message == "('***',) {'more': '***'}"


def test_a_result_with_a_secret_is_kept_but_not_shown(shared: Project) -> None:
    job = shared.queue.submit("Indiscreet", "give_back", [{"pin": 123456, "name": "hunter2"}])
    job = shared.queue.wait(job.id, LIMIT)
    assert job.result["key"] == {"pin": 123456, "name": "hunter2"}
    assert shared.whole_log(job)[-1]["message"] == "(not shown: a secret argument is in the result)"
    seen = shared.queue.to_json(job)
    assert seen["result"] == {"key": {"pin": "***", "name": "***"}, "all": [{"pin": "***", "name": "***"}]}


def test_a_note_on_a_lost_result_holds_no_secret(shared: Project) -> None:
    job = shared.queue.wait(shared.queue.submit("Indiscreet", "give_back_no_json", ["hunter2"]).id, LIMIT)
    message = shared.whole_log(job)[-1]["message"]
    assert message.startswith("result dropped: not JSON")
    assert "hunter2" not in message


def test_an_argument_that_does_not_fit_is_refused_without_its_secret(shared: Project) -> None:
    with pytest.raises(BadArgumentsError) as refusal:
        shared.queue.submit("Indiscreet", "tell_converted", ["hunter2"], text=True)
    assert "***" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    job = shared.put("Indiscreet", "tell_converted", "hunter2", text=True)
    job = shared.queue.wait_until_ended(job.id, LIMIT)
    assert job.error is not None
    assert job.error.type == "bad-arguments"
    assert "hunter2" not in record(shared, job).replace(job.id, "")


def test_a_running_job_shows_its_secret_in_no_command_line_and_no_file_but_its_own(
    project: Project, tmp_path: Path
) -> None:
    worker = project.start().ready()
    gate = tmp_path / "gate"
    job = project.queue.submit("Indiscreet", "wait", ["hunter2-in-confidence", str(gate)])
    wait_until(lambda: project.queue.get(job.id).progress is not None)
    try:
        for process in [psutil.Process(pid) for pid in worker.family()]:
            assert "in-confidence" not in " ".join(process.cmdline())
            assert "in-confidence" not in str(process.environ())
        files = [path for path in project.spool.rglob("*") if path.is_file()]
        holders = [path for path in files if b"in-confidence" in path.read_bytes()]
        assert [path.name.partition("-")[2] for path in holders] == [f"{job.id}.json"]
        assert project.queue.get(job.id).progress is not None
        modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in project.spool.rglob("*")}
        assert sys.platform == "win32" or {path for path, mode in modes.items() if mode & 0o077} == set()
    finally:
        gate.touch()
    assert int(project.queue.wait(job.id, LIMIT).result) != os.getpid()


def test_a_secret_number_is_no_measure_of_progress(project: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    project.start().ready()
    job = project.queue.submit("Indiscreet", "measure", [4_111_222_233_334_444, str(gate)])
    wait_until(lambda: project.queue.get(job.id).progress is not None)
    assert project.queue.get(job.id).progress == Progress(0, 0, "so far")
    gate.touch()
    project.queue.wait(job.id, LIMIT)
    assert "4111222233334444" not in said(project, job).replace(",", "")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=4, max_size=40)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("XYZ", min_size=5, max_size=12), TEXTS, st.sampled_from(ways()))
def test_random_secrets_stay_in_the_file(shared: Project, mark: str, more: str, way: str) -> None:
    secret = f"{mark}{more}"
    job = shared.queue.submit("Indiscreet", "tell", [way, secret])
    shared.queue.wait_until_ended(job.id, LIMIT)
    shared.whole_log(job)
    text = record(shared, job).replace(job.id, "")
    assert secret not in text
    assert repr(secret)[1:-1] not in text
    assert mark not in text
