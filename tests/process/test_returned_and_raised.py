"""What methods return and raise in strange shapes, what they say of themselves, and what a job knows of its starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import Queue
from bgjobs.job import State
from tests.cli.commands import Bgjobs
from tests.process.conftest import LIMIT, Project, lines, posix_only, wait_for_lines, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Worker

ALLOWED = """
[bgjobs]
durability  = "os"
retries     = 2
retry_delay = "0"

[jobs.Odd]
class   = "odd"
methods = [
    "generator", "awaitable", "lazy", "coroutine", "coroutine_of_a_generator", "list_of_coroutines", "submitting",
    "group", "numbers", "no_number", "interrupted_progress", "lossy", "subclasses", "lines",
    "strange_error", "strange_retry", "starts", "within_a_session",
]

[jobs.Picky]
class    = "odd:Picky"
methods  = ["group"]
fail_on  = ["ValueError"]
retry_on = ["TimeoutError"]

[jobs.Submitter]
class   = "odd:Submitter"
methods = ["run"]
"""
MODULE = '''
import asyncio
import decimal
import fractions
import functools
import json
import os
import signal
import time

import msgspec

from bgjobs import Fail, JobTimeout, Retry, current_job, run_background_job


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@decorated
def generator(path):
    open(path, "a").close()
    yield 1


class Promise:
    def __await__(self):
        yield


@decorated
def awaitable():
    return Promise()


def session(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("SESSION", *args, **kwargs)

    return wrapper


@session
def within_a_session(session, month, pages: int = 1):
    return [session, month, pages]


def lazy():
    return map(print, [1, 2])


async def added(first, second):
    await asyncio.sleep(0)
    return first + second


@decorated
def coroutine(first, second):
    return added(first, second)


async def coroutine_of_a_generator():
    return (number for number in [1])


def list_of_coroutines():
    return [added(1, 2)]


class Submitter:
    def __init__(self):
        run_background_job("Odd", "lazy", [1])  # one argument too many: it is refused

    def run(self):
        pass


def submitting():
    run_background_job("Nobody", "knows")


ERRORS = {
    "Fail": lambda: Fail("no such month"),
    "Retry": lambda: Retry("not yet", delay=0.01),
    "LongRetry": lambda: Retry("not yet", delay=3600),
    "PlainRetry": lambda: Retry("soon"),
    "KeyError": lambda: KeyError("gone"),
    "ValueError": lambda: ValueError("bad"),
    "TimeoutError": lambda: TimeoutError("slow"),
    "MemoryError": lambda: MemoryError("big"),
}


def group(names, seen=""):
    """Raise these errors as a TaskGroup does; a list within the list is a group in the group."""
    if seen:
        with open(seen, "a") as file:
            file.write("x\\n")

    async def fail(name):
        if isinstance(name, list):
            await tasks(name)
        raise ERRORS[name]()

    async def tasks(names):
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(fail(name))

    asyncio.run(tasks(names))


class Picky:
    def group(self, names, seen=""):
        group(names, seen)


class Number:
    def __float__(self):
        return 2.5


NUMBERS = {
    "Decimal": lambda: decimal.Decimal("1.5"),
    "Fraction": lambda: fractions.Fraction(3, 2),
    "float": lambda: Number(),
    "bool": lambda: True,
    "negative": lambda: -1,
    "huge": lambda: 2**70,
}
NO_NUMBERS = {
    "text": lambda: "1.5",
    "None": lambda: None,
    "nan": lambda: float("nan"),
    "Decimal nan": lambda: decimal.Decimal("nan"),
    "Decimal snan": lambda: decimal.Decimal("snan"),
    "infinity": lambda: float("inf"),
    "too large": lambda: 10**400,
    "complex": lambda: 1j,
    "list": lambda: [1],
}


def numbers(name, message):
    text = {"surrogate": "\\ud800 \\udcff", "long": "x" * 1_000_000, "none": None, "number": 5, "lines": "a\\nb\\0"}
    text = text[message]
    current_job().progress(NUMBERS[name](), 3, text)
    current_job().progress(3, NUMBERS[name](), text)
    current_job().progress(2**80, 2**80, text)
    return "said"


def no_number(name):
    said = []
    for call in (lambda value: (value, 3), lambda value: (1, value)):
        try:
            current_job().progress(*call(NO_NUMBERS[name]()))
        except (TypeError, ValueError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def interrupted_progress():
    count = 0

    def handler(number, frame):
        nonlocal count
        count += 1
        current_job().progress(1, 1, "from the handler")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    while count < 200:
        current_job().progress(1, 1, "from the method")
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    return count >= 200


def lossy():
    return {"value": float("nan"), "other": 1}


class Text(str):
    pass


class Amount(float):
    pass


def subclasses():
    return {"a": Amount(1.5), "b": Text("x"), Text("c"): [Text("y")]}


def lines():
    return [msgspec.Raw(b'1\\n{"type":"Ready","pid":1,"birth":""}')]


class Meta(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class Strange(Exception, metaclass=Meta):
    __module__ = 5
    __traceback__ = property(lambda self: 1 / 0)

    def __str__(self):
        return "\\ud800"


Strange.__qualname__ = "Str\\udcffange"


def strange_error(in_group):
    if in_group:
        raise ExceptionGroup("\\udcff", [Strange()])
    raise Strange()


class Bare(Retry):
    def __init__(self):
        Exception.__init__(self, "bare")


def strange_retry(delay):
    error = Bare()
    if delay:
        error.delay = delay
    raise error


def starts(path, wait_for=""):
    job = current_job()
    with open(path, "a") as file:
        file.write(json.dumps([os.environ["BGJOBS_ATTEMPT"], job.number, job.attempt, job.crashes]) + "\\n")
    while wait_for and not os.path.exists(wait_for):
        time.sleep(0.005)
    if not wait_for:
        raise OSError("again")
'''


def odd(project: Project) -> Project:
    (project.root / "odd.py").write_text(MODULE, "utf-8")
    project.rewrite("allowed_jobs.toml", ALLOWED)
    project.queue = Queue.open(config=str(project.config))
    return project


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Worker]]:
    made = odd(Project(tmp_path_factory.mktemp("home") / "project"))
    yield made, made.start().ready()
    made.close()


@pytest.fixture
def queue(home: tuple[Project, Worker]) -> Queue:
    """The queue of a project whose worker has one runner."""
    return home[0].queue


def ended(queue: Queue, method: str, *args: Any, class_name: str = "Odd", **options: Any) -> Job:
    return queue.wait_until_ended(queue.submit(class_name, method, args, **options).id, LIMIT)


# What has not run


NEVER_RUN = "it would be called, and never run"


def test_a_generator_that_a_decorator_hides_is_a_failed_attempt_in_the_words_for_a_plain_one(
    queue: Queue, tmp_path: Path
) -> None:
    job = ended(queue, "generator", str(tmp_path / "ran"))
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "not-a-method")
    assert job.error.message == f"odd.generator is a generator: {NEVER_RUN}: return a value instead of yielding some"
    assert [attempt.outcome for attempt in job.attempts] == ["raised"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("method", ["awaitable", "lazy", "coroutine_of_a_generator", "list_of_coroutines"])
def test_whatever_has_not_run_yet_is_a_failed_attempt(queue: Queue, method: str) -> None:
    job = ended(queue, method)
    assert job.error is not None
    assert (job.state, job.error.type, len(job.attempts)) == (State.FAILED, "not-a-method", 1)
    assert NEVER_RUN in job.error.message


def test_a_coroutine_that_a_decorator_hides_is_run(queue: Queue) -> None:
    assert ended(queue, "coroutine", 1, 2).result == 3


def test_a_refusal_that_user_code_meets_is_an_error_of_that_code(queue: Queue) -> None:
    for class_name, method, error in (
        ("Odd", "submitting", "NotAllowedError"),
        ("Submitter", "run", "BadArgumentsError"),
    ):
        job = ended(queue, method, class_name=class_name)
        assert job.error is not None
        assert (job.error.type, len(job.attempts)) == (f"bgjobs.errors.{error}", 3), job.error


# Decorators that hand in an argument


def test_a_decorator_may_hand_in_an_argument(home: tuple[Project, Worker]) -> None:
    project, _ = home
    assert "within_a_session" not in bgjobs(project, "check").stderr
    submitted = bgjobs(project, "submit", "Odd", "within_a_session", "2026-11", "7", "--wait")
    assert (submitted.returncode, submitted.stderr) == (0, "")
    job = project.queue.get(submitted.stdout.strip())
    assert (job.result, len(job.attempts)) == (["SESSION", "2026-11", 7], 1)
    assert ended(project.queue, "within_a_session", "2026-11", 8).result == ["SESSION", "2026-11", 8]
    refused = ended(project.queue, "within_a_session", "2026-11", "many", text=True)
    assert refused.error is not None
    assert (refused.error.type, len(refused.attempts)) == ("bad-arguments", 1)


# Groups of exceptions


def test_a_fail_in_a_group_fails_the_job_whatever_else_is_in_it(queue: Queue) -> None:
    for names in (["Fail"], ["KeyError", "Fail"], ["Retry", "Fail"], [["TimeoutError", ["Fail"]], "Retry"]):
        job = ended(queue, "group", names)
        assert job.error is not None
        assert (job.state, len(job.attempts), job.error.type) == (State.FAILED, 1, "bgjobs.job_context.Fail"), names
        assert job.error.message.startswith("no such month (in ExceptionGroup: "), names
        assert "no such month" in job.error.traceback


def test_a_retry_in_a_group_waits_as_long_as_the_longest_one_says(queue: Queue) -> None:
    job = queue.submit("Odd", "group", [["Retry", ["LongRetry"], "PlainRetry"]])
    wait_until(lambda: queue.get(job.id).state is State.SCHEDULED)
    found = queue.get(job.id)
    assert found.attempts[0].finished_at is not None
    assert (found.not_before - found.attempts[0].finished_at).total_seconds() == pytest.approx(3600, abs=1)
    queue.cancel(job.id)


def test_fail_on_and_retry_on_look_into_groups(queue: Queue) -> None:
    attempts = {}
    for names in (
        ["KeyError"],
        ["TimeoutError"],
        ["KeyError", "TimeoutError"],
        ["ValueError"],
        ["TimeoutError", ["ValueError"]],
        ["Retry"],
        ["Retry", "KeyError"],
        ["Retry", "ValueError"],
    ):
        attempts[json.dumps(names)] = len(ended(queue, "group", names, class_name="Picky").attempts)
    assert list(attempts.values()) == [1, 3, 3, 1, 1, 3, 3, 1], attempts


# What a job says of itself


@pytest.mark.parametrize("message", ["surrogate", "long", "none", "number", "lines"])
def test_any_number_and_any_message_will_do_for_progress(queue: Queue, message: str) -> None:
    for name in ("Decimal", "Fraction", "float", "bool", "negative", "huge"):
        job = ended(queue, "numbers", name, message)
        assert (job.result, len(job.attempts)) == ("said", 1), (name, job.error)
        assert job.progress is not None
        assert job.progress.done == job.progress.total == 2.0**80
        assert len(job.progress.message) <= 2000


def test_what_is_no_finite_number_is_refused_where_it_is_said(queue: Queue) -> None:
    kinds = {"text": "TypeError", "None": "TypeError", "complex": "TypeError", "list": "TypeError"}
    for name in ("text", "None", "nan", "Decimal nan", "Decimal snan", "infinity", "too large", "complex", "list"):
        job = ended(queue, "no_number", name)
        assert job.state is State.DONE, (name, job.error)
        said = [text.partition(":")[0] for text in job.result]
        expected = [kinds.get(name, "ValueError")] * (1 if name == "None" else 2)
        assert said == expected, job.result
        assert all(": progress: " in text for text in job.result)


@posix_only
def test_a_signal_handler_may_say_progress_in_the_middle_of_saying_progress(queue: Queue) -> None:
    job = ended(queue, "interrupted_progress", timeout="60s", retries=0)
    assert job.result is True, job.error


def test_an_error_without_a_name_or_a_text_is_a_failed_attempt_like_any_other(queue: Queue) -> None:
    for in_group in (False, True):
        job = ended(queue, "strange_error", in_group)
        assert job.error is not None
        assert ([attempt.outcome for attempt in job.attempts], job.error.type) == (["raised"] * 3, "Str\\udcffange")


@pytest.mark.parametrize("delay", [None, "5m", 5, [1]])
def test_a_retry_whose_delay_is_none_waits_as_usual(queue: Queue, delay: object) -> None:
    job = ended(queue, "strange_retry", delay)
    assert job.error is not None
    assert (len(job.attempts), job.error.type, job.error.message) == (3, "odd.Bare", "bare")


# Results that JSON cannot hold


def bgjobs(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    return Bgjobs(project.root, project.root)(*words)


def test_subclasses_in_a_result_are_kept(queue: Queue) -> None:
    job = ended(queue, "subclasses")
    assert (job.result, job.note) == ({"a": 1.5, "b": "x", "c": ["y"]}, "")
    assert "note" not in job.to_json()


def test_a_result_that_lost_something_says_so_wherever_it_is_shown(home: tuple[Project, Worker]) -> None:
    project, _ = home
    job = ended(project.queue, "lossy")
    note = "NaN, an infinity or a number out of range became null (1 time)"
    assert (job.result, job.note, job.to_json()["note"]) == ({"value": None, "other": 1}, note, note)
    assert project.whole_log(job)[-1]["message"] == f'{{"value":null,"other":1}} ({note})'
    shown = bgjobs(project, "status", job.id).stdout
    assert f"note        {note}\n" in shown
    assert json.loads(bgjobs(project, "status", job.id, "--json").stdout)["note"] == note
    waited = bgjobs(project, "wait", job.id, "--result")
    assert waited.stdout == '{"value":null,"other":1}\n'
    assert waited.stderr == f"bgjobs: job {job.id}: {note}\n"
    assert bgjobs(project, "wait", job.id).stderr == ""
    submitted = bgjobs(project, "submit", "Odd", "lossy", "--wait")
    assert (submitted.returncode, submitted.stderr.endswith(f": {note}\n")) == (0, True)
    ran = bgjobs(project, "run", "Odd", "lossy")
    assert (ran.stdout, ran.stderr) == ('{"value":null,"other":1}\n', f"bgjobs: Odd.lossy: {note}\n")


def test_a_result_that_is_dropped_says_so_wherever_it_is_shown(home: tuple[Project, Worker]) -> None:
    project, _ = home
    job = ended(project.queue, "lines")
    assert (job.state, job.result, len(job.attempts)) == (State.DONE, None, 1)
    assert job.note.startswith("result dropped: not JSON")
    assert project.whole_log(job)[-1]["message"] == job.note
    assert f"note        {job.note}\n" in bgjobs(project, "status", job.id).stdout
    assert bgjobs(project, "wait", job.id, "--result").stderr == f"bgjobs: job {job.id}: {job.note}\n"


# What a job knows of its starts


def told(path: Path) -> list[Any]:
    return [json.loads(line) for line in lines(path)]


def test_a_job_that_is_tried_again_knows_its_starts(queue: Queue, tmp_path: Path) -> None:
    ended(queue, "starts", str(tmp_path / "told"))
    assert told(tmp_path / "told") == [["1", 1, 1, 0], ["2", 2, 2, 0], ["3", 3, 3, 0]]


def test_a_job_whose_worker_died_knows_that_it_ran_before(project: Project, tmp_path: Path) -> None:
    odd(project)
    path, go = tmp_path / "told", tmp_path / "go"
    job = project.queue.submit("Odd", "starts", [str(path), str(go)])
    first = project.start()
    wait_for_lines(path, 1)
    first.kill()
    second = project.start()
    wait_for_lines(path, 2)
    for _ in range(2):  # the second time, it does not wait for its job
        second.ask_to_stop()
        wait_until(lambda: "stopping" in second.says() or not second.runs())
    second.ended()
    project.start()
    wait_for_lines(path, 3)
    go.touch()
    found = project.queue.wait_until_ended(job.id, LIMIT)
    # Killed, handed back, ended.
    assert told(path) == [["1", 1, 1, 0], ["2", 2, 1, 1], ["3", 3, 1, 1]]
    assert [attempt.number for attempt in found.attempts] == [1, 2, 3]
    assert (found.attempt, found.crashes) == (1, 1)


def test_a_job_in_the_foreground_is_in_its_first_start(home: tuple[Project, Worker], tmp_path: Path) -> None:
    project, _ = home
    ran = bgjobs(project, "run", "Odd", "starts", str(tmp_path / "told"))
    assert (ran.returncode, told(tmp_path / "told")) == (5, [["1", 1, 1, 0]])
