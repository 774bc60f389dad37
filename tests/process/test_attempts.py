"""What becomes of a job however its attempt ends; the worker lives on and runs the next job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT, posix_only

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue
    from bgjobs.job import Job
    from tests.process.conftest import Project


# Such a job stands still until its time is over.
not_while_read = pytest.mark.skipif(sys.platform == "win32", reason="Windows closes nothing that a thread reads from")


def end(queue: Queue, job: Job) -> Job:
    return queue.wait_until_ended(job.id, LIMIT)


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def test_a_job_is_done_with_what_its_method_returned(queue: Queue) -> None:
    job = queue.submit("Honest", "echo", [{"a": [1, None, "ü"]}])
    done = queue.wait(job.id, LIMIT)
    assert (done.state, done.result) == (State.DONE, {"a": [1, None, "ü"]})
    assert (done.attempt, done.crashes, outcomes(done), done.error) == (1, 0, ["succeeded"], None)
    assert done.submitted_at <= done.attempts[0].started_at <= done.attempts[0].finished_at == done.finished_at  # type: ignore[operator]  # both are there once it has ended


def test_a_function_of_a_module_is_a_job_too(queue: Queue) -> None:
    job = queue.submit("Functions", "twice", ["ab"])
    assert queue.wait(job.id, LIMIT).result == "abab"


def test_a_job_that_raises_is_tried_again_and_fails_in_the_end_with_the_traceback_in_its_record(queue: Queue) -> None:
    job = end(queue, queue.submit("Honest", "fail", ["no luck"], retries=2))
    assert job.state is State.FAILED
    assert (job.attempt, outcomes(job)) == (3, ["raised", "raised", "raised"])
    for attempt in job.attempts:
        assert attempt.error is not None
        assert (attempt.error.type, attempt.error.message) == ("ValueError", "no luck")
        assert "honest.py" in attempt.error.traceback
        assert "raise ValueError(message)" in attempt.error.traceback
        assert "bgjobs/worker" not in attempt.error.traceback.replace("\\", "/")
    assert job.error == job.attempts[-1].error


def test_further_attempts_wait_longer_and_longer(shared: Project) -> None:
    job = end(shared.queue, shared.queue.submit("Honest", "fail", retries=3, retry_delay=0.1))
    waits = [
        (later.started_at - earlier.finished_at).total_seconds()
        for earlier, later in zip(job.attempts, job.attempts[1:], strict=False)
        if earlier.finished_at
    ]
    for wait, shortest in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert wait >= shortest * 0.75 - 0.002  # moments are whole milliseconds
    said = [record["message"] for record in shared.log(job) if record["status"] == "RETRY"]
    announced = [float(message.split(" s: ")[0].removeprefix("again in ")) for message in said]
    for wait, shortest in zip(announced, (0.1, 0.2, 0.4), strict=True):
        assert shortest * 0.75 - 0.05 <= wait <= shortest * 1.25 + 0.05  # it says tenths of a second


def test_a_job_that_fails_twice_and_then_succeeds_is_done(queue: Queue, tmp_path: Path) -> None:
    job = end(queue, queue.submit("Honest", "fail_first", [str(tmp_path / "tries"), 2], retries=3))
    assert (job.state, job.result, job.attempt) == (State.DONE, 3, 3)
    assert outcomes(job) == ["raised", "raised", "succeeded"]
    assert job.error is None


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        ("ConnectionError", 2),
        ("ConnectionResetError", 2),  # a subclass counts
        ("NotTodayError", 2),
        ("ConnectionRefusedError", 1),  # `fail_on` is asked first
        ("NotEverError", 1),
        ("ValueError", 1),
        ("KeyboardInterrupt", 1),
    ],
)
def test_only_the_errors_that_the_allowlist_names_are_worth_another_attempt(
    queue: Queue, error: str, attempts: int
) -> None:
    job = end(queue, queue.submit("Picky", "raise_error", [error]))
    assert (job.state, job.attempt) == (State.FAILED, attempts)


def test_a_method_can_ask_for_another_attempt_at_a_time_of_its_choice(queue: Queue, tmp_path: Path) -> None:
    job = end(queue, queue.submit("Honest", "ask_again", [str(tmp_path / "tries"), 0.3], retries=1, retry_delay="1h"))
    assert (job.state, job.result) == (State.DONE, 2)
    first, second = job.attempts
    assert first.error is not None
    assert first.finished_at is not None
    assert first.error.message == "not yet"
    assert (second.started_at - first.finished_at).total_seconds() >= 0.3 - 0.002


def test_a_request_for_another_attempt_uses_one_up(queue: Queue, tmp_path: Path) -> None:
    job = end(queue, queue.submit("Honest", "ask_again", [str(tmp_path / "tries"), 0]))
    assert (job.state, job.attempt) == (State.FAILED, 1)


def test_a_method_can_give_up_for_good(queue: Queue) -> None:
    job = end(queue, queue.submit("Honest", "give_up", retries=5))
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error.message == "no such month"


@pytest.mark.parametrize("kind", ["object", "cycle", "huge", "deep", "garbled"])
def test_a_result_that_json_cannot_hold_is_dropped_with_a_note(shared: Project, kind: str) -> None:
    job = end(shared.queue, shared.queue.submit("Honest", "return_strange", [kind]))
    assert (job.state, job.result, outcomes(job)) == (State.DONE, None, ["succeeded"])
    assert job.finished_at is not None
    assert shared.whole_log(job)[-1]["message"].startswith("result dropped: ")


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_number_that_json_cannot_hold_becomes_null(queue: Queue, kind: str) -> None:
    job = end(queue, queue.submit("Honest", "return_strange", [kind]))
    assert (job.state, job.result) == (State.DONE, None)


RAISED: dict[str, tuple[list[Any], str, str]] = {
    "exit": ([3], "SystemExit", "the method called sys.exit(3)"),
    "exhaust_memory": ([], "MemoryError", ""),
    "overflow_stack": ([], "RecursionError", "maximum recursion depth"),
    "raise_unprintable": ([], "fatal.UnprintableError", "cannot be shown"),
    "raise_garbled": ([], "ValueError", "no file caf\\udce9"),
    "raise_deep": ([], "ValueError", "cause 99"),
}


@pytest.mark.parametrize("method", RAISED)
def test_whatever_a_method_raises_is_a_failed_attempt_with_its_true_cause(queue: Queue, method: str) -> None:
    args, kind, text = RAISED[method]
    job = end(queue, queue.submit("Fatal", method, args, retries=1))
    assert (job.state, outcomes(job)) == (State.FAILED, ["raised", "raised"])
    assert job.error is not None
    assert job.error.type == kind
    assert text in job.error.message
    assert "fatal.py" in job.error.traceback


CRASHED: dict[str, tuple[list[Any], str, int | None]] = {
    "exit_at_once": ([0], "exited with status 0 before the method returned", 0),
    "forge": ([], "exited with status 0 before the method returned", 0),  # an answer counts on the private pipe alone
    "leave_unsaid": ([], "exited with status 1 before the method returned", 1),
}
if sys.platform == "win32":
    CRASHED |= {"kill_itself": ([], "exited with status 9 before the method returned", 9)}
else:
    CRASHED |= {
        "segfault": ([], "killed by SIGSEGV (11)", -11),
        "kill_itself": ([], "killed by SIGKILL (9)", -9),
    }


@pytest.mark.parametrize("method", CRASHED)
def test_a_method_that_takes_its_process_with_it_is_a_failed_attempt_that_says_how_it_died(
    queue: Queue, method: str
) -> None:
    args, text, status = CRASHED[method]
    job = end(queue, queue.submit("Fatal", method, args, retries=1))
    assert (job.state, outcomes(job)) == (State.FAILED, ["crashed", "crashed"])
    assert (job.attempt, job.crashes) == (2, 0)  # the worker lived: it is an ordinary failure
    assert job.error is not None
    assert text in job.error.message
    assert job.attempts[-1].exit == status


@not_while_read
def test_a_job_that_closes_all_descriptors_is_a_failed_attempt(queue: Queue) -> None:
    job = end(queue, queue.submit("Fatal", "close_descriptors"))
    assert (job.state, outcomes(job)) == (State.FAILED, ["crashed"])


def test_a_job_that_writes_rubbish_to_every_descriptor_is_a_failed_attempt(queue: Queue) -> None:
    job = end(queue, queue.submit("Fatal", "write_everywhere"))
    assert (job.state, outcomes(job)) == (State.FAILED, ["crashed"])


def test_a_job_cannot_make_the_worker_take_another_process_for_its_runner(shared: Project) -> None:
    process = shared.queue.wait(shared.queue.submit("Fatal", "pose").id, LIMIT).result
    job = shared.queue.submit("Honest", "who")
    assert shared.queue.wait(job.id, LIMIT).result == process
    [path] = shared.spool.glob(f"done/**/*{job.id}*")
    text = path.read_text("utf-8")
    assert f'"pid":{process},' in text  # whom a later worker would end, if this one died
    assert '"pid":1,' not in text


@posix_only
def test_a_job_that_comes_back_in_two_processes_ends_once(shared: Project) -> None:
    job = end(shared.queue, shared.queue.submit("Fatal", "fork_and_return"))
    assert (job.state, outcomes(job)) == (State.DONE, ["succeeded"])
    assert [record["status"] for record in shared.whole_log(job)] == ["QUEUED", "RUNNING", "SUCCESS"]


def test_a_module_that_cannot_be_imported_fails_each_attempt_with_the_true_cause(shared: Project) -> None:
    shared.rewrite("missing.py", "import no_such_module_at_all\n")
    job = end(shared.queue, shared.put("Missing", "run", retries=1))
    assert (job.state, outcomes(job)) == (State.FAILED, ["raised", "raised"])
    assert job.error is not None
    assert job.error.type == "ModuleNotFoundError"
    assert "no_such_module_at_all" in job.error.message


def test_a_module_that_is_not_python_fails_with_the_line_that_is_not(shared: Project) -> None:
    shared.rewrite("torn.py", "class Torn:\n    def run(self:\n")
    job = end(shared.queue, shared.put("Torn", "run"))
    assert (job.state, outcomes(job)) == (State.FAILED, ["raised"])
    assert job.error is not None
    assert job.error.type == "SyntaxError"
    assert "torn.py" in job.error.traceback


def test_a_module_that_is_mended_works_at_the_next_attempt(shared: Project) -> None:
    shared.rewrite("missing.py", "raise RuntimeError('not finished')\n")
    job = shared.put("Missing", "run", retries=1000)
    while not shared.queue.get(job.id).attempts:
        pass
    shared.rewrite("missing.py", "class Missing:\n    def run(self):\n        return 'at last'\n")
    assert shared.queue.wait(job.id, LIMIT).result == "at last"


def test_a_class_that_is_not_there_is_refused_without_another_attempt(shared: Project) -> None:
    job = end(shared.queue, shared.put("Elsewhere", "run", retries=3))
    assert (job.state, len(job.attempts)) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error.type == "no-such-class"
    assert [record["status"] for record in shared.whole_log(job)][-1] == "REFUSED"


@pytest.mark.parametrize("args", [(), (1, 2, 3), ("soon",)], ids=["too few", "too many", "of the wrong kind"])
def test_arguments_that_do_not_fit_are_refused_without_another_attempt(shared: Project, args: tuple[Any, ...]) -> None:
    job = end(shared.queue, shared.put("Honest", "nap", *args, retries=3))
    if args == ("soon",):  # the values of a job file keep their types; the method itself stumbles over this one
        assert (job.state, job.attempt) == (State.FAILED, 4)
        return
    assert (job.state, len(job.attempts)) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error.type == "bad-arguments"
    assert [record["status"] for record in shared.whole_log(job)][-1] == "REFUSED"


@pytest.mark.sweep
def test_a_job_that_fails_very_often_with_long_tracebacks_is_still_a_job(shared: Project) -> None:
    job = end(shared.queue, shared.queue.submit("Honest", "wide_trace", [100_000], retries=30))
    assert (job.state, job.attempt) == (State.FAILED, 31)
    assert shared.queue.counts()[State.CORRUPT] == 0
