"""What a job prints is kept in a file of its own, and what happens to it is told in the two logs."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bgjobs import RefusedError
from bgjobs.job import State
from tests.process.conftest import LIMIT, wait_for_lines, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs.job import Job
    from tests.process.conftest import Project, Worker

MIB = 1024 * 1024
MOST = 8 * MIB  # as it is by default
LITTLE = 16 * 1024  # as the allowlist says for `Terse`


def run(project: Project, class_name: str, method: str, *args: Any, **options: Any) -> Job:
    job = project.queue.submit(class_name, method, args, **options)
    return project.queue.wait_until_ended(job.id, LIMIT)


def marker(most: int) -> bytes:
    return f"\n[output cut: more than {most} bytes]\n".encode()


# What is printed


def test_all_that_a_job_and_its_children_print_is_kept(shared: Project) -> None:
    job = run(shared, "Noisy", "print_both")
    assert sorted(shared.output(job).decode().splitlines()) == [
        "from a child",
        "to descriptor 1",
        "to descriptor 2",
        "to standard error",
        "to standard output",
    ]


def test_logging_is_kept_too(shared: Project) -> None:
    job = run(shared, "Noisy", "log", "all is well")
    assert re.fullmatch(r"\d{4}-\S+ \S+ INFO noisy: all is well\n", shared.output(job).decode())


def test_bytes_that_are_no_text_are_kept_as_they_are(shared: Project) -> None:
    job = run(shared, "Noisy", "write_binary")
    assert shared.output(job) == bytes(range(256)) * 4


def test_a_job_that_prints_nothing_leaves_no_file(shared: Project) -> None:
    job = run(shared, "Honest", "echo", 1)
    assert list((shared.spool / "output").rglob(f"{job.id}*")) == []


def test_each_attempt_has_a_file_of_its_own(shared: Project) -> None:
    job = run(shared, "Noisy", "crash", "goodbye", retries=1)
    assert [shared.output(job, number) for number in (1, 2)] == [b"goodbye\n", b"goodbye\n"]


def test_what_a_job_printed_before_it_died_is_kept(shared: Project) -> None:
    job = run(shared, "Fatal", "leave_unsaid")
    assert shared.output(job) == b"these are my last words"


def test_output_can_be_read_while_the_job_runs(shared: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = shared.queue.submit("Noisy", "write_raw_and_wait", [65_536, str(gate)])
    wait_until(lambda: len(shared.output(job)) == 65_536)
    gate.touch()
    shared.queue.wait(job.id, LIMIT)
    assert len(shared.output(job)) == 65_536


@pytest.mark.parametrize("method", ["print_lines", "start_writer", "write_raw"])
def test_output_is_cut_at_the_limit_and_says_so(shared: Project, method: str) -> None:
    size = {"print_lines": 100_000, "start_writer": 6_000_000, "write_raw": 6_000_000}[method]
    whole = run(shared, "Noisy", method, size // 4)
    cut = run(shared, "Terse", method, size)
    assert (whole.state, cut.state) == (State.DONE, State.DONE)
    assert b"output cut" not in shared.output(whole)
    kept = shared.output(cut)
    assert kept.endswith(marker(LITTLE))
    body = kept.removesuffix(marker(LITTLE))
    assert LITTLE - 100 < len(body) <= LITTLE
    assert shared.output(whole).startswith(body)


def test_ten_megabytes_are_cut_at_eight(shared: Project) -> None:
    job = run(shared, "Noisy", "print_lines", 10 * MIB // 62)
    kept = shared.output(job)
    assert kept.startswith(b"line 000000 ..")
    assert kept.endswith(marker(MOST))
    assert MOST - 100 < len(kept) <= MOST + len(marker(MOST))


def test_one_endless_line_is_cut_in_the_middle_and_the_worker_does_not_grow(
    shared: Project, home: tuple[Project, Worker]
) -> None:
    worker = psutil.Process(home[1].pid)
    before = worker.memory_info().rss
    job = run(shared, "Noisy", "print_one_line", 100 * MIB)
    kept = shared.output(job)
    assert kept.startswith(b"beginxxx")
    assert kept.endswith(marker(MOST))
    assert len(kept) == MOST + len(marker(MOST))
    assert worker.memory_info().rss - before < 50 * MIB


def test_output_past_python_is_bounded_while_the_job_still_runs(shared: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = shared.queue.submit("Terse", "write_raw_and_wait", [20 * MIB, str(gate)])
    wait_until(lambda: 0 < len(shared.output(job)) <= 2 * LITTLE)
    gate.touch()
    shared.queue.wait(job.id, LIMIT)
    assert shared.output(job) == b"y" * LITTLE + marker(LITTLE)


def test_output_of_a_job_that_dies_is_bounded_too(shared: Project) -> None:
    job = run(shared, "Terse", "write_raw_and_crash", 5 * MIB)
    assert shared.output(job).startswith(b"yyyy")
    assert len(shared.output(job)) <= 2 * LITTLE + 2


def test_the_next_job_prints_into_its_own_file_whatever_the_last_one_did(shared: Project) -> None:
    run(shared, "Terse", "print_lines", 100_000)
    assert shared.output(run(shared, "Terse", "say", "second")) == b"second\n"
    run(shared, "Noisy", "close_streams")
    assert shared.output(run(shared, "Noisy", "say", "third")) == b"third\n"
    run(shared, "Noisy", "close_streams")
    assert shared.output(run(shared, "Noisy", "log", "fourth")).endswith(b" INFO noisy: fourth\n")
    if sys.platform == "win32":  # which closes nothing that a thread reads from
        return
    run(shared, "Fatal", "close_descriptors")
    assert shared.output(run(shared, "Noisy", "say", "fifth")) == b"fifth\n"


# What is told


def status(project: Project, job: Job) -> list[tuple[str, str | None]]:
    return [(record["status"], record["attempt"]) for record in project.whole_log(job)]


def test_a_success_is_told_with_its_result(shared: Project) -> None:
    job = run(shared, "Honest", "echo", "a\nb")
    submitted, started, ended = shared.whole_log(job)
    assert submitted["message"].startswith("submitted by ")
    assert (submitted["status"], submitted["class_name"], submitted["method"]) == ("QUEUED", "Honest", "echo")
    assert started["status"] == "RUNNING"
    assert re.fullmatch(r"started on \S+:\d+", started["message"])
    assert (ended["status"], ended["message"]) == ("SUCCESS", '"a\\nb"')
    assert {record["priority"] for record in (submitted, started, ended)} == {"NORMAL"}
    assert [record["attempt"] for record in (submitted, started, ended)] == [None, "1/1", "1/1"]
    assert shared.errors(job) == []


def test_a_long_result_is_cut(shared: Project) -> None:
    job = run(shared, "Honest", "echo", "x" * 1000)
    assert shared.whole_log(job)[-1]["message"] == '"' + "x" * 199


def test_a_delay_is_told(shared: Project) -> None:
    job = shared.queue.submit("Honest", "echo", delay=3600, priority=8)
    (record,) = shared.log(job)
    assert re.fullmatch(r"submitted by \S+, not before \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+00:00", record["message"])
    assert record["priority"] == "HIGH"
    shared.queue.cancel(job.id)


FAILURES: dict[str, tuple[str, str, list[Any], dict[str, Any], str]] = {
    "FAILED": ("Honest", "fail", ["no luck"], {}, "ValueError: no luck"),
    "TIMEOUT": ("Stubborn", "sleep", [60], {"timeout": 0.1}, "JobTimeout: ran longer than 0.1 s"),
    "CRASHED": ("Fatal", "segfault", [], {}, "Crashed: its process was killed by SIGSEGV (11)"),
}
if sys.platform == "win32":
    died = "Crashed: its process exited with status 3 before the method returned"
    FAILURES["CRASHED"] = ("Fatal", "exit_at_once", [3], {}, died)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failed_attempt_is_told_in_both_logs(shared: Project, kind: str) -> None:
    class_name, method, args, options, why = FAILURES[kind]
    job = run(shared, class_name, method, *args, retries=1, priority=2, **options)
    records = shared.whole_log(job)
    assert status(shared, job) == [
        ("QUEUED", None),
        ("RUNNING", "1/2"),
        ("RETRY", "1/2"),
        ("RUNNING", "2/2"),
        ("FAILED", "2/2"),
    ]
    assert records[2]["message"] == f"again at once: {why}"
    assert records[4]["message"] == why
    assert {record["priority"] for record in records} == {"LOW"}
    wait_until(lambda: len(shared.errors(job)) == 2)
    told = [(record["status"], record["attempt"], record["message"]) for record in shared.errors(job)]
    assert told == [(kind, "1/2", why), (kind, "2/2", why)]


def test_another_attempt_after_a_wait_is_told_with_the_wait(shared: Project) -> None:
    job = shared.queue.submit("Honest", "fail", retries=1, retry_delay=100)

    def told() -> list[str]:
        return [record["message"] for record in shared.log(job) if record["status"] == "RETRY"]

    wait_until(told)
    assert re.fullmatch(r"again in \d+\.\d s: ValueError: no luck", told()[0])
    shared.queue.cancel(job.id)


def test_a_cancellation_is_told(shared: Project, tmp_path: Path) -> None:
    job = shared.queue.submit("Willing", "back_away", [str(tmp_path / "notes")])
    wait_for_lines(tmp_path / "notes")
    shared.queue.cancel(job.id)
    shared.queue.wait_until_ended(job.id, LIMIT)
    assert status(shared, job) == [("QUEUED", None), ("RUNNING", "1/1"), ("CANCELLED", "1/1")]
    assert re.fullmatch(r"cancelled by \S+@\S+", shared.whole_log(job)[-1]["message"])
    assert shared.errors(job) == []


def test_a_refusal_at_submit_is_told_without_a_job(shared: Project) -> None:
    with pytest.raises(RefusedError):
        shared.queue.submit("Honest", "steal")
    for records in (shared.log(), shared.errors()):
        *_, record = [record for record in records if record["job"] is None]
        assert (record["method"], record["status"], record["attempt"]) == ("steal", "REFUSED", None)
        assert record["message"].startswith("not-allowed: Honest.steal is not in ")


def test_a_refusal_at_claim_is_told(shared: Project) -> None:
    job = shared.queue.wait_until_ended(shared.put("Honest", "steal").id, LIMIT)
    assert job.state is State.FAILED
    wait_until(lambda: shared.errors(job))
    for record in (shared.whole_log(job)[-1], shared.errors(job)[-1]):
        assert record["status"] == "REFUSED"
        assert record["message"].startswith("not-allowed: Honest.steal is not in ")


def test_what_a_job_says_stays_on_one_line_and_cannot_colour_a_terminal(shared: Project) -> None:
    nasty = "one\ntwo\r\x1b[31mred\x1b[0m\x00\u202eback\u2028next, Status: SUCCESS"
    job = run(shared, "Honest", "fail", nasty)
    for record in (shared.whole_log(job)[-1], shared.errors(job)[-1]):
        assert record["status"] == "FAILED"
        assert record["message"].isprintable()
        assert record["message"].startswith("ValueError: one\\ntwo\\r\\x1b[31mred")


def test_secret_arguments_are_in_no_log(shared: Project) -> None:
    job = run(shared, "Curious", "report", "hush-hush")
    assert job.result == "a key of 9 characters"
    with pytest.raises(RefusedError):
        shared.queue.submit("Curious", "report", ["hush-hush", "too many"])
    for name in ("background_jobs.log", "background_jobs_errors.log"):
        assert "hush-hush" not in (shared.spool / "logs" / name).read_text("utf-8")
