"""The example project: what is in `jobs/`, and what `allowed_jobs.toml` says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.calls.binding import check, convert
from bgjobs.calls.resolve import resolve
from bgjobs.calls.signatures import Signature, read
from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist, Target
from bgjobs.job_context import CurrentJob, set_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Progress

ROOT = Path(__file__).parents[2]
PROJECT = settings.load(config=str(ROOT / "allowed_jobs.toml"), environ={}, strict=False)  # whoever owns this checkout
ALLOWED = Allowlist(PROJECT)


@pytest.fixture(autouse=True)
def _project_is_importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)  # what the jobs write stays in the test's folder


@pytest.fixture
def running() -> Iterator[Callable[[int], list[Progress]]]:
    """Make an attempt of this number the running one; what it says of its progress is collected."""

    def start(attempt: int) -> list[Progress]:
        said: list[Progress] = []
        set_current(CurrentJob("0" * 26, attempt=attempt, retries=3, report=said.append))
        return said

    yield start
    set_current(None)


def run(class_name: str, method: str, *args: str, **kwargs: str) -> Any:
    """Do what submit and the runner do with these words of a command line."""
    target = ALLOWED.target(class_name, method)
    signature = read(target.module, target.owner, method, PROJECT.import_paths)
    assert isinstance(signature, Signature)
    check(signature, args, kwargs, text=True)
    function = resolve(target.module, target.owner, method)
    places, names = convert(function, args, kwargs, text=True)
    return function(*places, **names)


def named(target: Target) -> str:
    return f"{target.class_name}.{target.method}"


@pytest.mark.parametrize("target", list(ALLOWED), ids=named)
def test_everything_that_is_allowed_is_there_and_says_what_it_does(target: Target) -> None:
    signature = read(target.module, target.owner, target.method, PROJECT.import_paths)
    assert isinstance(signature, Signature)
    assert signature.doc
    assert target.description
    assert callable(resolve(target.module, target.owner, target.method))


@pytest.mark.parametrize("target", list(ALLOWED), ids=named)
def test_the_errors_that_a_policy_names_exist(target: Target) -> None:
    for name in (*target.policy.retry_on, *target.policy.fail_on):
        module, _, error = name.rpartition(".")
        assert issubclass(getattr(import_module(module or "builtins"), error), Exception)


def test_every_class_of_the_examples_is_allowed() -> None:
    assert {target.class_name for target in ALLOWED} == {
        "BackgroundJobs",
        "DelayedJob",
        "ErrorJob",
        "ExampleJob",
        "LessonCreatedService",
        "LessonEndedService",
        "LessonStartedService",
        "SendNotificationJobs",
        "UserLoginService",
        "UserLogoutService",
    }


# Payments


def test_a_debit_returns_what_was_debited(capsys: pytest.CaptureFixture[str]) -> None:
    result = run("BackgroundJobs", "automatic_debit_success", "1000", "rent")
    assert json.dumps(result) == '{"debited": "1000", "purpose": "rent"}'
    assert capsys.readouterr().out == "debited 1000 for rent\n"


@pytest.mark.parametrize("amount", [1000, "1000", 1000.0, Decimal(1000)])
def test_a_debit_takes_an_amount_from_json_too(amount: Decimal) -> None:
    jobs = import_module("jobs.payments").BackgroundJobs()
    assert Decimal(jobs.automatic_debit_success(amount, "rent")["debited"]) == 1000


def test_a_debit_that_is_declined_fails_each_time() -> None:
    with pytest.raises(import_module("jobs.payments").PaymentDeclined, match="declined 1000 for rent"):
        run("BackgroundJobs", "automatic_debit_failure", "1000", "rent")


@pytest.mark.parametrize("method", ["automatic_debit_success", "automatic_debit_failure"])
@pytest.mark.parametrize("amount", ["0", "-5"])
def test_a_wrong_amount_is_an_error_that_another_attempt_would_not_change(method: str, amount: str) -> None:
    with pytest.raises(ValueError, match="must be more than zero"):
        run("BackgroundJobs", method, amount, "rent")
    assert "ValueError" in ALLOWED.target("BackgroundJobs", method).policy.fail_on


def test_a_debit_succeeds_on_the_third_attempt(running: Callable[[int], list[Progress]]) -> None:
    method = "automatic_debit_failures_then_success"
    for attempt in (1, 2):
        running(attempt)
        with pytest.raises(ConnectionError, match=f"attempt {attempt}"):
            run("BackgroundJobs", method, "1000", "rent")
    running(3)
    assert run("BackgroundJobs", method, "1000", "rent")["purpose"] == "rent"
    assert ALLOWED.target("BackgroundJobs", method).policy.retries >= 2


# Notifications and the smallest jobs


@pytest.mark.parametrize(
    ("method", "args", "message"),
    [
        ("pick_up", ["Tony", "2PM", "Central Park"], "Tony, you are picked up at 2PM, at Central Park."),
        ("date_with_me", ["Ann", "the harbour", "8PM"], "Ann, will you meet me at the harbour, at 8PM?"),
        ("save_me", ["Bo"], "Bo, please save me from this meeting!"),
    ],
)
def test_a_notification_is_printed_and_returned(
    capsys: pytest.CaptureFixture[str], method: str, args: list[str], message: str
) -> None:
    assert run("SendNotificationJobs", method, *args) == message
    assert capsys.readouterr().out == f"{message}\n"


def test_the_second_argument_of_the_example_may_be_left_out() -> None:
    assert run("ExampleJob", "handle", "one") == "got one and nothing else"
    assert run("ExampleJob", "handle", "one", param2="two") == "got one and two"


def test_the_failing_example_fails() -> None:
    with pytest.raises(RuntimeError, match="always fails"):
        run("ErrorJob", "handle")


def test_the_long_example_says_how_far_it_is(running: Callable[[int], list[Progress]]) -> None:
    said = running(1)
    assert run("DelayedJob", "handle", "3", seconds="0") == 3
    assert [(progress.done, progress.total) for progress in said] == [(1, 3), (2, 3), (3, 3)]
    assert said[-1].message == "step 3 of 3"


# Diaries


@pytest.mark.parametrize(
    ("class_name", "log", "event"),
    [
        ("LessonCreatedService", "lessons", "created"),
        ("LessonStartedService", "lessons", "started"),
        ("LessonEndedService", "lessons", "ended"),
        ("UserLoginService", "logins", "logged in"),
        ("UserLogoutService", "logins", "logged out"),
    ],
)
def test_an_event_is_one_line_of_its_diary_whatever_it_is_about(class_name: str, log: str, event: str) -> None:
    for about in ("Algebra", "two\nlines"):
        run(class_name, "handle", about)
    lines = Path("app_logs", f"{log}.log").read_text(encoding="utf-8").splitlines()
    assert [line.partition("Z ")[2] for line in lines] == [f"{event}: 'Algebra'", f"{event}: 'two\\nlines'"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows finds the end of a file first and writes to it second")
def test_lines_that_are_written_at_the_same_time_do_not_mix() -> None:
    code = """if True:
        import sys
        sys.path[:0] = sys.argv[1:]
        from jobs.app_log import append
        for _ in range(300):
            append("busy", "noted", "x" * 500)
    """
    paths = [str(ROOT), str(ROOT / "src")]
    writers = [subprocess.Popen([sys.executable, "-c", code, *paths]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = Path("app_logs", "busy.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 900
    assert {line.partition("Z ")[2] for line in lines} == {f"noted: '{'x' * 500}'"}
