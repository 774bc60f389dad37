"""`bgjobs batch`: what gets into the queue from a file of lines, in which order, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from bgjobs.cli import batch_lines
from bgjobs.job import State
from tests.cli.commands import PATIENCE_S, Bgjobs, Result, environment, error, objects, on_terminal

if TYPE_CHECKING:
    from bgjobs import Queue

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
CALL = {"class": "Work", "method": "echo", "args": ["x"]}
LINE = json.dumps(CALL)


def started(project: Path, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bgjobs", "batch", "-", *argv],
        cwd=project,
        env=environment(project.parent),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def batch(project: Path, lines: str | bytes, *argv: str, source: str = "-") -> Result:
    """Run the command with these lines as its input, or with this file."""
    return Bgjobs(project, project.parent)("batch", source, *argv, stdin=lines)


def many(count: int, **more: object) -> str:
    return "".join(json.dumps(CALL | {"args": [f"text {number}"]} | more) + "\n" for number in range(count))


def test_each_line_becomes_a_job_and_the_ids_come_in_order(bgjobs: Bgjobs, queue: Queue, project: Path) -> None:
    Path(project, "lines.jsonl").write_text(many(2500), encoding="utf-8")
    result = bgjobs("batch", "lines.jsonl")
    assert (result.returncode, result.stderr) == (0, "")
    ids = result.stdout.split()
    assert ids == sorted(ids)
    args = {job.id: job.args for job in queue.jobs()}
    assert [args[job_id] for job_id in ids] == [(f"text {number}",) for number in range(2500)]
    assert len(args) == 2500
    log = Path(project, "spool", "logs", "background_jobs.log").read_text(encoding="utf-8")
    assert log.count("Status: QUEUED") == 2500


def test_every_key_of_a_line_reaches_the_job(project: Path, queue: Queue) -> None:
    line = {
        "class": "Work",
        "method": "kinds",
        "args": ["1", 2, 3.5, True, None, [{}]],
        "kwargs": {"name": "Tony"},
        "priority": "HIGH",
        "delay": "2h",
        "retries": 7,
        "retry_delay": 9,
        "timeout": "1m",
        "tags": ["one", "two"],
    }
    job = queue.get(batch(project, json.dumps(line)).stdout.strip())
    assert (list(job.args), job.kwargs, job.text) == (line["args"], line["kwargs"], False)
    assert [type(value) for value in job.args] == [str, int, float, bool, type(None), list]
    assert (job.priority, job.retries, job.tags) == (8, 7, ("one", "two"))
    assert (job.retry_delay, job.timeout) == (timedelta(seconds=9), timedelta(minutes=1))
    assert job.not_before - job.submitted_at == timedelta(hours=2)


def test_a_line_may_name_the_moment(project: Path, queue: Queue) -> None:
    line = json.dumps(CALL | {"at": "2099-12-01T09:00Z", "delay": None})
    assert queue.get(batch(project, line).stdout.strip()).not_before == datetime(2099, 12, 1, 9, tzinfo=UTC)


def test_blank_lines_and_a_missing_last_line_end_are_no_matter(project: Path, queue: Queue) -> None:
    result = batch(project, f"\n{LINE}\r\n   \n\n{LINE}")
    assert (result.returncode, len(result.stdout.split()), result.stderr) == (0, 2, "")
    empty = batch(project, " \n\n")
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "")
    assert sum(queue.counts().values()) == 2


def test_ids_are_printed_as_objects_with_json(project: Path, queue: Queue) -> None:
    found = objects(batch(project, many(3), "--json"))
    assert [list(one) for one in found] == [["id"]] * 3
    assert queue.get(found[2]["id"]).args == ("text 2",)


BAD: list[tuple[str | bytes, int, str]] = [
    ("{", 2, "line 3: not JSON: truncated"),
    ("[]", 2, "line 3: it must be an object"),
    ("nothing", 2, "line 3: not JSON at character 1"),
    (LINE + LINE, 2, "line 3: not JSON: something follows its end, at character"),
    (json.dumps(CALL | {"colour": "red"}), 2, "line 3: 'colour' is unknown, known are class, method"),
    (json.dumps({"class": "Work"}), 2, "line 3: 'method' is missing"),
    (LINE[:-1] + ', "args": ["y"]}', 2, "line 3: a key is given twice: 'args'"),
    ('{"class": "Work", "method": "echo", "args": [{"a": 1, "a": 2}]}', 2, "line 3: a key is given twice: 'a'"),
    ('{"class": "Work", "method": "echo", "args": [NaN]}', 2, "line 3: NaN is not JSON"),
    ('{"class": "Work", "method": "echo", "args": [-Infinity]}', 2, "line 3: -Infinity is not JSON"),
    (
        '{"class": "Work", "method": "echo", "args": ["\\ud800"]}',
        2,
        "line 3: not JSON: a text holds half of a surrogate pair",
    ),
    (b'{"class": "Work", "method": "echo", "args": ["\xff"]}', 2, "line 3: not UTF-8 at byte 47"),
    (b"\xef\xbb\xbf" + LINE.encode(), 2, "line 3: not JSON: it begins with a byte order mark"),
    (LINE.encode("utf-16"), 2, "line 3: not UTF-8 at byte 1"),
    ("[" * 100_000, 2, "line 3: nested too deeply"),
    (json.dumps(CALL | {"args": ["x" * (1024 * 1024)]}), 2, "line 3: longer than 1048576 bytes"),
    (" " * (3 * 1024 * 1024), 2, "line 3: longer than 1048576 bytes"),
    (json.dumps(CALL | {"args": "x"}), 2, "line 3: 'args' must be a list or null"),
    (json.dumps(CALL | {"priority": "urgent"}), 2, "line 3: bad priority 'urgent'"),
    (json.dumps(CALL | {"priority": True}), 2, "line 3: 'priority' must be a whole number or text or null"),
    (json.dumps(CALL | {"delay": -1}), 2, "line 3: bad delay"),
    (json.dumps(CALL | {"retries": 1.5}), 2, "line 3: 'retries' must be a whole number or null"),
    (json.dumps(CALL | {"timeout": 0}), 2, "line 3: bad timeout"),
    (json.dumps(CALL | {"at": "soon"}), 2, "line 3: bad at 'soon'"),
    (json.dumps(CALL | {"at": "2099-01-01", "delay": 5}), 2, "line 3: both a delay and a moment"),
    (json.dumps(CALL | {"tags": ["two words"]}), 2, "line 3: bad tag"),
    (json.dumps(CALL | {"class": "Nobody"}), 3, "line 3: class Nobody is not in"),
    (json.dumps(CALL | {"class": "../x"}), 3, "line 3: "),
    (json.dumps({"class": "Missing", "method": "not_there"}), 3, "line 3: "),
    (json.dumps(CALL | {"args": []}), 3, "line 3: echo lacks text"),
    (json.dumps(CALL | {"args": ["x", "y"]}), 3, "line 3: "),
    ('{"class": "Work", "method": "echo", "args": [1e999]}', 3, "line 3: an argument of Work.echo is not a finite"),
    (json.dumps(CALL | {"args": ["x" * 300_000]}), 3, "line 3: the arguments of Work.echo take"),
]


@pytest.mark.parametrize(("bad", "status", "reason"), BAD, ids=[reason[:40] for *_, reason in BAD])
def test_a_bad_line_is_named_and_nothing_of_its_chunk_is_queued(
    project: Path, queue: Queue, bad: str | bytes, status: int, reason: str
) -> None:
    line = bad.encode() if isinstance(bad, str) else bad
    lines = project / "lines"  # a file: of what comes slowly through a pipe, the first lines may be queued alone
    lines.write_bytes(f"{LINE}\n\n".encode() + line + f"\n{LINE}\n".encode())
    result = batch(project, b"", source=str(lines))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (status, "", 1)
    assert reason in result.stderr
    assert result.stderr.endswith("nothing from line 1 on is queued\n")
    assert sum(queue.counts().values()) == 0


def test_the_chunks_before_a_bad_line_stay_queued_and_their_ids_were_printed(project: Path, queue: Queue) -> None:
    result = batch(project, many(batch_lines.MOST_LINES + 5) + "nothing\n", "--json")
    assert result.returncode == 2
    assert {found["id"] for found in objects(result)} == {job.id for job in queue.jobs()}
    assert queue.counts()[State.QUEUED] == batch_lines.MOST_LINES
    said = error(result)
    assert (said["code"], said["message"]) == ("bad-line", "line 1006: not JSON at character 1")
    assert said["hint"].endswith("nothing from line 1001 on is queued")


def test_ids_come_as_soon_as_a_chunk_is_full(project: Path, queue: Queue) -> None:
    process = started(project)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(many(batch_lines.MOST_LINES).encode())
    process.stdin.flush()
    ids = [process.stdout.readline().decode().strip() for _ in range(batch_lines.MOST_LINES)]  # the input goes on
    assert queue.get(ids[-1]).state is State.QUEUED
    assert queue.counts()[State.QUEUED] == batch_lines.MOST_LINES
    out, _ = process.communicate(LINE.encode(), timeout=PATIENCE_S)
    assert (process.returncode, len(out.split())) == (0, 1)


def test_a_chunk_of_long_lines_is_queued_before_it_takes_much_memory(project: Path, queue: Queue) -> None:
    process = started(project)
    assert process.stdin is not None
    assert process.stdout is not None
    long = json.dumps(CALL | {"args": ["x" * 250_000]}).encode() + b"\n"
    count = -(-batch_lines.MOST_BYTES // len(long))
    process.stdin.write(long * count)
    process.stdin.flush()
    assert len([process.stdout.readline() for _ in range(count)]) == count
    process.communicate(timeout=PATIENCE_S)
    assert queue.counts()[State.QUEUED] == count


def test_a_rehearsal_checks_every_line_and_queues_nothing(project: Path, queue: Queue) -> None:
    good = batch(project, many(1200), "--dry-run")
    assert (good.returncode, good.stdout, good.stderr) == (0, "1200 jobs would be queued\n", "")
    assert objects(batch(project, LINE, "--dry-run", "--json")) == [{"would_queue": 1}]
    bad = batch(project, many(1200) + json.dumps(CALL | {"args": []}), "--dry-run")
    assert (bad.returncode, bad.stdout) == (3, "")
    assert "line 1201: echo lacks text" in bad.stderr
    assert sum(queue.counts().values()) == 0


def test_a_file_that_cannot_be_read_is_named(bgjobs: Bgjobs, project: Path) -> None:
    result = bgjobs("batch", "nothing.jsonl")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("bgjobs: cannot read nothing.jsonl: No such file or directory: ")
    assert bgjobs("batch", ".").returncode == 2
    assert bgjobs("batch").returncode == 2


def test_what_a_secret_argument_holds_is_in_no_message(project: Path) -> None:
    line = {"class": "Work", "method": "login", "args": ["ann"], "kwargs": {"password": "hunter2", "more": "hunter2"}}
    result = batch(project, json.dumps(line))
    assert result.returncode == 3
    assert "hunter2" not in result.stderr
    log = Path(project, "spool", "logs", "background_jobs_errors.log")
    assert "hunter2" not in log.read_text(encoding="utf-8")


@posix
def test_a_terminal_gets_a_bar_and_all_ids(project: Path, queue: Queue) -> None:
    Path(project, "lines.jsonl").write_text(many(2100), encoding="utf-8")
    status, shown = on_terminal(["batch", "lines.jsonl"], cwd=project, env=environment(project.parent))
    assert status == 0
    assert "2000 jobs queued" in shown
    assert "━" in shown
    assert all(job.id in shown for job in queue.jobs())
    assert queue.counts()[State.QUEUED] == 2100


# Slow producers, and an early end


def test_a_line_of_a_slow_producer_is_queued_before_the_next_one_comes(project: Path, queue: Queue) -> None:
    process = started(project)
    assert process.stdin is not None
    assert process.stdout is not None
    for count in range(1, 4):
        process.stdin.write(f"{LINE}\n".encode())
        process.stdin.flush()
        job_id = process.stdout.readline().decode().strip()  # the next line comes only after that
        assert queue.get(job_id).state is State.QUEUED
        assert queue.counts()[State.QUEUED] == count
    assert process.communicate(LINE.encode(), timeout=PATIENCE_S)[1] == b""  # a last line needs no end
    assert (process.returncode, queue.counts()[State.QUEUED]) == (0, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is no error to read from such a terminal")
def test_who_cannot_read_on_is_told_from_which_line_to_go_on(project: Path) -> None:
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "bgjobs", "batch", "-"]
    process = subprocess.Popen(
        argv,
        cwd=project,
        env=environment(project.parent),
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(ours)
    os.write(theirs, f"{LINE}\n".encode())
    assert process.stdout is not None
    assert process.stdout.readline()
    os.close(theirs)  # the line was hung up
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert err.decode().startswith("bgjobs: cannot read on: ")
    assert err.decode().endswith(": go on from line 2, all jobs before are queued\n")


def test_lines_that_keep_coming_slowly_do_not_wait_for_each_other(project: Path) -> None:
    process = started(project)
    assert process.stdin is not None
    assert process.stdout is not None
    stop = threading.Event()

    def produce(stdin: IO[bytes]) -> None:
        for _ in range(900):  # fewer than a chunk has; they take 18 s
            stdin.write(f"{LINE}\n".encode())
            stdin.flush()
            if stop.wait(0.02):
                return

    producer = threading.Thread(target=produce, args=[process.stdin])
    producer.start()
    try:
        assert process.stdout.readline()
        assert producer.is_alive()
    finally:
        stop.set()
        producer.join()
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_a_batch_is_told_from_which_line_to_go_on(
    project: Path, queue: Queue, number: signal.Signals
) -> None:
    process = started(project, "--json")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"\n{LINE}\n{LINE}\n".encode())
    process.stdin.flush()
    ids = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
    process.stdin.write(LINE.encode())  # a line without an end is none yet
    process.stdin.flush()
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 130
    out, err = process.communicate()
    assert out == b""
    said = error(Result(process.args, 130, "", err.decode()))
    assert (said["code"], said["hint"]) == ("interrupted", "go on from line 4, all jobs before are queued")
    assert sorted(ids) == sorted(job.id for job in queue.jobs())


@posix
def test_who_takes_no_ids_is_told_that_the_jobs_are_queued_and_from_which_line_to_go_on(
    project: Path, queue: Queue
) -> None:
    with Path("/dev/full").open("wb") as full:
        argv = [sys.executable, "-m", "bgjobs", "batch", "-"]
        lines = f"{LINE}\n{LINE}\n"
        result = subprocess.run(
            argv,
            cwd=project,
            env=environment(project.parent),
            input=lines,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    newest, oldest = [job.id for job in queue.jobs()]
    assert result.stderr.count("\n") == 1
    assert f"2 jobs are queued, but their ids could not be printed, from {oldest} to {newest}: " in result.stderr
    assert result.stderr.endswith(": go on from line 3, all jobs before are queued\n")


def test_a_byte_order_mark_is_skipped(project: Path, bgjobs: Bgjobs, queue: Queue) -> None:
    marked = b"\xef\xbb\xbf" + LINE.encode()
    assert batch(project, marked).returncode == 0
    Path(project, "lines.jsonl").write_bytes(marked)
    assert bgjobs("batch", "lines.jsonl").returncode == 0
    assert bgjobs("submit", "Work", "echo", "--args", '\ufeff["x"]').returncode == 0
    allowlist = Path(project, "allowed_jobs.toml")
    allowlist.write_bytes(b"\xef\xbb\xbf" + allowlist.read_bytes())
    assert bgjobs("submit", "Work", "echo", "x").returncode == 0
    assert queue.counts()[State.QUEUED] == 4
