"""The limits of an attempt: each is kept and named, and no job has those of another, nor hurts what bgjobs writes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue
    from bgjobs.job import Job
    from tests.process.conftest import Project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce all of them")
MIB = 1 << 20


def result(queue: Queue, class_name: str, method: str, *args: object) -> Any:
    return queue.wait(queue.submit(class_name, method, args).id, LIMIT).result


def failure(queue: Queue, method: str, *args: object) -> tuple[Job, str, str]:
    job = queue.wait_until_ended(queue.submit("Greedy", method, args).id, LIMIT)
    assert job.state is State.FAILED
    assert job.error is not None
    return job, job.error.type, job.error.message


def test_an_attempt_has_the_limits_of_the_allowlist_and_the_next_one_has_its_own(queue: Queue) -> None:
    usual = result(queue, "Free", "limits")
    for _ in range(2):
        limited = result(queue, "Greedy", "limits")
        assert [limited[kind][0] for kind in ("AS", "FSIZE", "NOFILE")] == [512 * MIB, 65536, 64]
        assert 1 <= limited["CPU"][0] < 600
        assert {kind: hard for kind, (_, hard) in limited.items()} == {kind: hard for kind, (_, hard) in usual.items()}
        assert result(queue, "Free", "limits") == usual
    assert usual["CORE"] == [0, 0]


def test_no_limit_gives_more_than_the_worker_has(project: Project) -> None:
    project.start(through=["/bin/sh", "-c", 'ulimit -n 50 && exec "$0" "$@"'])
    assert result(project.queue, "Greedy", "limits")["NOFILE"] == [50, 50]


def test_an_attempt_that_needs_more_memory_fails_and_its_message_names_the_limit(queue: Queue) -> None:
    before = result(queue, "Greedy", "allocate", 100)
    _, kind, message = failure(queue, "allocate", 600)
    assert (kind, message) == ("MemoryError", f"max_memory is {512 * MIB} bytes")
    assert result(queue, "Free", "allocate", 600) != before  # and nothing half imported is left to the next one


def test_what_earlier_jobs_left_in_memory_is_not_counted_against_the_next_one(shared: Project) -> None:
    crowded = result(shared.queue, "Free", "reserve", 600)
    job = shared.queue.submit("Greedy", "allocate", [100])
    assert shared.queue.wait(job.id, LIMIT).result != crowded
    log = shared.whole_log(job)
    assert [record["status"] for record in log[:3]] == ["QUEUED", "RUNNING", "QUEUED"]
    assert log[2]["message"] == "handed back: earlier jobs left too little memory in its process"
    assert [record["status"] for record in log[-2:]] == ["RUNNING", "SUCCESS"]
    assert len(shared.queue.get(job.id).attempts) == 1


def test_an_attempt_has_room_for_a_thread(queue: Queue) -> None:
    assert result(queue, "Greedy", "start_thread")


def test_an_attempt_that_uses_too_much_processor_time_is_killed_and_says_so(shared: Project) -> None:
    job, kind, message = failure(shared.queue, "spin", 60)
    assert (kind, message) == ("CpuLimit", "used more than 1 s of processor time (max_cpu)")
    assert [(attempt.outcome, attempt.exit) for attempt in job.attempts] == [("crashed", -24)]
    [record] = shared.errors(job)
    assert "CpuLimit: used more than 1 s of processor time (max_cpu)" in record["message"]


def test_no_job_can_take_the_limit_of_processor_time_from_the_next_one(queue: Queue) -> None:
    assert result(queue, "Free", "ignore_the_limit") == result(queue, "Greedy", "allocate", 1)
    assert failure(queue, "spin", 60)[1] == "CpuLimit"


def test_the_processor_time_of_earlier_attempts_in_the_same_process_does_not_count(queue: Queue) -> None:
    processes = {result(queue, "Greedy", "spin", 0.4) for _ in range(3)}
    assert len(processes) == 1
    assert result(queue, "Free", "clock") > 1.19
    assert result(queue, "Free", "spin", 1.2) in processes  # and one without a limit has none


def test_what_a_job_starts_inherits_its_limits(queue: Queue, tmp_path: Path) -> None:
    assert result(queue, "Greedy", "spin_in_child") == -24  # SIGXCPU
    assert result(queue, "Greedy", "write_in_child", str(tmp_path / "big"), 100_000) == -25  # SIGXFSZ
    assert (tmp_path / "big").stat().st_size == 65536


def test_an_attempt_that_opens_too_many_files_fails_and_its_message_names_the_limit(queue: Queue) -> None:
    _, kind, message = failure(queue, "open_files", 100)
    assert kind == "OSError"
    assert message.startswith("[Errno 24] Too many open files")
    assert message.endswith("(max_files is 64)")
    assert result(queue, "Free", "open_files", 100)


def test_an_attempt_that_writes_too_long_a_file_fails_and_its_message_names_the_limit(
    queue: Queue, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    _, kind, message = failure(queue, "write_file", str(path), 100_000)
    assert (kind, message) == ("OSError", "[Errno 27] File too large (max_file_size is 65536 bytes)")
    assert path.stat().st_size == 65536
    assert result(queue, "Free", "write_file", str(path), 100_000) == 100_000


def test_the_limit_of_a_file_does_not_hold_for_the_record_of_the_job(queue: Queue) -> None:
    value = "x" * 150_000  # line 1 alone is longer than the limit, and each event is written behind it
    assert result(queue, "Greedy", "echo", value) == value


def test_output_that_is_too_long_for_the_limit_of_a_file_is_cut_and_the_job_is_done(shared: Project) -> None:
    job = shared.queue.submit("Greedy", "talk", [100_000])
    assert shared.queue.wait(job.id, LIMIT).result == "said all"
    printed = shared.output(job)
    assert printed.startswith(b"x" * 99 + b"\n")
    assert printed[:65536].count(b"\n") == 655
    assert b"[output cut: " in printed


@pytest.mark.parametrize("class_name", ["Free", "Greedy"])
def test_a_job_that_changes_its_own_limits_changes_none_of_the_next_one(queue: Queue, class_name: str) -> None:
    usual = result(queue, "Free", "limits")
    changed = result(queue, class_name, "change_limits", "NOFILE", 60)
    assert result(queue, "Free", "limits") == usual
    assert result(queue, "Free", "allocate", 1) != changed


@pytest.mark.parametrize(("kind", "most"), [("FSIZE", 0), ("NOFILE", 20), ("CPU", 100), ("STACK", MIB)])
def test_a_job_that_lowers_its_limits_for_good_ends_and_its_process_is_replaced(
    queue: Queue, kind: str, most: int
) -> None:
    usual = result(queue, "Free", "limits")
    changed = result(queue, "Free", "lower_for_good", kind, most)
    assert result(queue, "Free", "limits") == usual
    assert result(queue, "Free", "allocate", 1) != changed


def test_limits_hold_in_the_foreground_too(project: Project) -> None:
    command = [sys.executable, "-m", "bgjobs", "run", "Greedy", "spin", "60"]
    ended = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert ended.returncode != 0
    assert "used more than 1 s of processor time (max_cpu)" in ended.stderr


def test_what_an_attempt_has_given_back_does_not_count_against_the_next_one(queue: Queue) -> None:
    assert len({result(queue, "Greedy", "allocate", 300) for _ in range(5)}) == 1
