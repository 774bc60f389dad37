"""The two logs: exact lines, one record a line whatever a job says, and no trouble of theirs is a job's."""

from __future__ import annotations

import ast
import io
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bgjobs import disk, events, lifecycle, plain_text
from bgjobs.event_log import ERROR_LOG, STATUS_LOG, Log
from bgjobs.job import (
    Cancelled,
    Crashed,
    Interrupted,
    Job,
    JobError,
    Outcome,
    Raised,
    Refused,
    Succeeded,
    TimedOut,
)
from bgjobs.lifecycle import Policy
from bgjobs.views import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 11, 23, 3, 19, 0, 123_456, tzinfo=UTC)
ID = "01k5q3v9zdf4gahbjcmkdnpeqf"
JOB = Job(
    id=ID,
    class_name="SendNotificationJobs",
    method="pick_up",
    priority=8,
    not_before=NOW - timedelta(minutes=1),
    submitted_at=NOW - timedelta(minutes=1),
    retries=3,
    submitted_by="ann@web1",
)
RUNNING = lifecycle.started(JOB, worker="web1:2211", at=NOW)
HEAD = "[2026-11-23 03:19:00.123+00:00] Class: SendNotificationJobs, Method: pick_up"
WRONG = JobError(type="ValueError", message="no such place", traceback="Traceback …")
POLICY = Policy(retries=3, retry_delay=timedelta(seconds=5))
LAST = replace(RUNNING, charged=4)


def logged(folder: Path) -> tuple[list[str], list[str]]:
    """Return the lines of the status log and of the error log."""
    return lines_of(folder / STATUS_LOG), lines_of(folder / ERROR_LOG)


def lines_of(path: Path) -> list[str]:
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return text.removesuffix("\n").split("\n")


def end(log: Log, before: Job, outcome: Outcome, policy: Policy = POLICY) -> Job:
    verdict = lifecycle.after(before, outcome, policy, NOW, 0.5)
    log(events.Decided(before, verdict, outcome, NOW))
    return lifecycle.applied(before, verdict, NOW)


# The table of the contract, one row after the other


def test_a_submitted_job_is_queued(tmp_path: Path) -> None:
    Log(str(tmp_path))(events.Submitted(JOB, NOW))
    line = f"{HEAD}, Priority: HIGH, Status: QUEUED, Job: {ID}, Attempt: -, Message: submitted by ann@web1"
    assert logged(tmp_path) == ([line], [])


def test_a_delayed_job_is_queued_and_its_moment_named(tmp_path: Path) -> None:
    later = replace(JOB, not_before=NOW + timedelta(hours=1))
    Log(str(tmp_path))(events.Submitted(later, NOW))
    when = "not before 2026-11-23 04:19:00.123+00:00"
    line = f"{HEAD}, Priority: HIGH, Status: QUEUED, Job: {ID}, Attempt: -, Message: submitted by ann@web1, {when}"
    assert logged(tmp_path) == ([line], [])


@pytest.mark.parametrize(("by", "shown"), [("ann@web1", ", by ann@web1"), ("", "")])
def test_a_job_whose_delay_was_dropped_is_queued(tmp_path: Path, by: str, shown: str) -> None:
    Log(str(tmp_path))(events.Undelayed(JOB, NOW, by))
    line = f"{HEAD}, Priority: HIGH, Status: QUEUED, Job: {ID}, Attempt: -, Message: not delayed any more{shown}"
    assert logged(tmp_path) == ([line], [])


def test_an_attempt_that_began_is_running(tmp_path: Path) -> None:
    Log(str(tmp_path))(events.Started(RUNNING, NOW))
    line = f"{HEAD}, Priority: HIGH, Status: RUNNING, Job: {ID}, Attempt: 1/4, Message: started on web1:2211"
    assert logged(tmp_path) == ([line], [])


def test_a_job_handed_back_uncharged_is_queued(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    end(log, RUNNING, Interrupted())
    log(events.HandedBack(JOB, NOW, "claimed ahead, but not begun"))
    status, errors = logged(tmp_path)
    assert [re.sub(r"Attempt: ./4, ", "", line) for line in status] == [
        f"{HEAD}, Priority: HIGH, Status: QUEUED, Job: {ID}, Message: handed back: the worker stops",
        f"{HEAD}, Priority: HIGH, Status: QUEUED, Job: {ID}, Message: handed back: claimed ahead, but not begun",
    ]
    assert errors == []


def test_an_attempt_that_succeeded_is_a_success_with_its_result(tmp_path: Path) -> None:
    end(Log(str(tmp_path)), RUNNING, Succeeded(msgspec.Raw(b'{"sent":["Tony"]}')))
    line = f'{HEAD}, Priority: HIGH, Status: SUCCESS, Job: {ID}, Attempt: 1/4, Message: {{"sent":["Tony"]}}'
    assert logged(tmp_path) == ([line], [])


def test_a_long_result_is_cut_at_200_characters(tmp_path: Path) -> None:
    end(Log(str(tmp_path)), RUNNING, Succeeded(msgspec.Raw(b'"' + b"x" * 100_000 + b'"')))
    assert logged(tmp_path)[0][0].partition("Message: ")[2] == '"' + "x" * 199


def test_a_result_that_could_not_be_kept_is_a_success_with_a_note(tmp_path: Path) -> None:
    end(Log(str(tmp_path)), RUNNING, Succeeded(note="result dropped: not JSON"))
    assert logged(tmp_path)[0][0].endswith(
        "Status: SUCCESS, Job: " + ID + ", Attempt: 1/4, Message: result dropped: not JSON"
    )


CRASH = Crashed(JobError(type="Crashed", message="killed by SIGSEGV"), exit=-11)
FAILURES: list[tuple[Outcome, str, str]] = [
    (Raised(WRONG, ("ValueError",)), "FAILED", "ValueError: no such place"),
    (TimedOut(timedelta(seconds=30)), "TIMEOUT", "JobTimeout: ran longer than 30 s"),
    (CRASH, "CRASHED", "Crashed: killed by SIGSEGV"),
]


@pytest.mark.parametrize(("outcome", "status", "why"), FAILURES)
def test_a_failed_attempt_that_is_followed_by_another_is_a_retry_and_an_error(
    tmp_path: Path, outcome: Outcome, status: str, why: str
) -> None:
    end(Log(str(tmp_path)), RUNNING, outcome)
    tail = f"Job: {ID}, Attempt: 1/4, Message:"
    assert logged(tmp_path) == (
        [f"{HEAD}, Priority: HIGH, Status: RETRY, {tail} again in 5.0 s: {why}"],
        [f"{HEAD}, Priority: HIGH, Status: {status}, {tail} {why}"],
    )


@pytest.mark.parametrize(("outcome", "status", "why"), FAILURES)
def test_a_failed_attempt_that_is_the_last_is_a_failure_and_an_error(
    tmp_path: Path, outcome: Outcome, status: str, why: str
) -> None:
    end(Log(str(tmp_path)), LAST, outcome)
    tail = f"Job: {ID}, Attempt: 4/4, Message: {why}"
    assert logged(tmp_path) == (
        [f"{HEAD}, Priority: HIGH, Status: FAILED, {tail}"],
        [f"{HEAD}, Priority: HIGH, Status: {status}, {tail}"],
    )


def test_a_job_lost_with_its_worker_is_a_retry_at_once_and_a_crash(tmp_path: Path) -> None:
    lost = Crashed(JobError(type="WorkerLost", message="worker web1:2211 died"), worker_lost=True)
    end(Log(str(tmp_path)), RUNNING, lost)
    status, errors = logged(tmp_path)
    assert status[0].endswith("Message: again at once: WorkerLost: worker web1:2211 died")
    assert "Status: RETRY" in status[0]
    assert "Status: CRASHED" in errors[0]


def test_a_cancelled_job_is_cancelled_and_no_error(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    end(log, RUNNING, Cancelled("ann@web1"))
    log(events.Cancelled(JOB, NOW, "ann@web1"))
    status, errors = logged(tmp_path)
    assert status == [
        f"{HEAD}, Priority: HIGH, Status: CANCELLED, Job: {ID}, Attempt: 1/4, Message: cancelled by ann@web1",
        f"{HEAD}, Priority: HIGH, Status: CANCELLED, Job: {ID}, Attempt: -, Message: cancelled by ann@web1",
    ]
    assert errors == []


def test_what_is_refused_at_submit_is_in_both_logs_without_a_job(tmp_path: Path) -> None:
    Log(str(tmp_path))(events.SubmissionRefused("Shell", "run", "not-allowed", "Shell.run is not in x.toml", NOW))
    line = (
        "[2026-11-23 03:19:00.123+00:00] Class: Shell, Method: run, Priority: -, Status: REFUSED, "
        "Job: -, Attempt: -, Message: not-allowed: Shell.run is not in x.toml"
    )
    assert logged(tmp_path) == ([line], [line])


@pytest.mark.parametrize(
    ("class_name", "method"), [("jobs.Mail", "send"), ("Mail", "send.all"), ("a.b", "c.d"), ("", "x")]
)
def test_a_refused_name_that_is_none_is_logged_as_it_was_given(tmp_path: Path, class_name: str, method: str) -> None:
    Log(str(tmp_path))(events.SubmissionRefused(class_name, method, "bad-name", "not a name", NOW))
    status, _ = logged(tmp_path)
    shown = class_name or "''"
    assert f"Class: {shown}, Method: {method}, Priority: -, Status: REFUSED, " in status[0]


def test_what_is_refused_at_claim_or_in_the_runner_is_in_both_logs_with_its_job(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    refusal = JobError(type="not-allowed", message="it is not in x.toml")
    log(events.Decided(JOB, lifecycle.failed(refusal), Refused(refusal), NOW))
    end(log, RUNNING, Refused(refusal))
    status, errors = logged(tmp_path)
    assert status == errors
    for line in status:
        assert re.sub(r"Attempt: ./4, ", "", line) == (
            f"{HEAD}, Priority: HIGH, Status: REFUSED, Job: {ID}, Message: not-allowed: it is not in x.toml"
        )


def test_a_file_that_is_no_job_is_in_both_logs(tmp_path: Path) -> None:
    Log(str(tmp_path))(events.Corrupt("x\ny.json", "line 1 is not a job", NOW))
    status, errors = logged(tmp_path)
    assert status == errors
    assert len(status) == 1
    assert status[0].startswith(
        "[2026-11-23 03:19:00.123+00:00] Class: -, Method: -, Priority: -, Status: REFUSED, Job: -, Attempt: -, "
    )
    assert r"x\ny.json" in status[0]
    assert "line 1 is not a job" in status[0]


@pytest.mark.parametrize(("priority", "shown"), [(0, "0"), (2, "LOW"), (4, "4"), (5, "NORMAL"), (8, "HIGH"), (9, "9")])
def test_a_priority_is_its_levels_name_or_its_number(tmp_path: Path, priority: int, shown: str) -> None:
    Log(str(tmp_path))(events.Started(replace(RUNNING, priority=priority), NOW))
    assert f", Priority: {shown}, " in logged(tmp_path)[0][0]


def test_moments_are_in_utc_whatever_zone_they_came_in(tmp_path: Path) -> None:
    Log(str(tmp_path))(events.Started(RUNNING, NOW.astimezone(timezone(timedelta(hours=-7)))))
    assert logged(tmp_path)[0][0].startswith("[2026-11-23 03:19:00.123+00:00] ")


def test_a_traceback_is_not_in_the_logs(tmp_path: Path) -> None:
    end(Log(str(tmp_path)), RUNNING, Raised(WRONG, ("ValueError",)))
    status, errors = logged(tmp_path)
    assert "Traceback" not in "".join(status + errors)


# One record is one line

ANY_TEXT = st.text(st.characters(), max_size=60) | st.sampled_from(
    [
        "two\nlines",
        "two\r\nlines",
        "\x1b[31mred\x1b[0m",
        "\x00",
        "\x7f\x80\x85\x9b",
        "\u2028\u2029",
        "\u202eright to left",
        "\ufeff",
        "\ud800",
        "\U000e0041",
        "a\tb",
        "[2026-11-23 03:19:00.123+00:00] Class: Forged",
    ]
)


NAMES = ("Class", "Method", "Priority", "Status", "Job", "Attempt", "Message")
WORD = r"[A-Za-z0-9_.-]+|'(?:[^'\\,:]|\\.)*'|\"(?:[^\"\\,:]|\\.)*\""
STRICT = re.compile(
    r"\[(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+00:00)\] "
    rf"Class: (?P<class_name>{WORD}), Method: (?P<method>{WORD}), "
    r"Priority: (?P<priority>LOW|NORMAL|HIGH|[0-9]|-), Status: (?P<status>[A-Z]+), "
    r"Job: (?P<job>[0-7][0-9a-hjkmnp-tv-z]{25}|-), Attempt: (?P<attempt>\d+/\d+|-), Message: (?P<message>.*)"
)
FORGED = f"x, Method: y, Priority: LOW, Status: SUCCESS, Job: {ID}, Attempt: 1/1, Message: '"
ANY_WORD = ANY_TEXT | st.sampled_from([FORGED, FORGED + '"', "'", "\\", "\\'", "a" * 101, "-", "--", "", "Status:"])
ANY_WORD |= st.lists(st.sampled_from([f"{name}{colon}" for name in NAMES for colon in (": ", ":")]) | ANY_TEXT).map(
    "".join
)


@given(ANY_WORD, ANY_WORD, ANY_WORD)
@example("two\nlines", "\u2028", "\ud800")
@example(FORGED, FORGED, FORGED)
def test_one_record_is_one_line_whatever_it_says(one: str, other: str, third: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = Log(name)
        error = JobError(type=one, message=other)
        records: list[Callable[[], object]] = [
            lambda: log(events.Submitted(replace(JOB, submitted_by=one), NOW)),
            lambda: log(events.Undelayed(JOB, NOW, other)),
            lambda: log(events.Cancelled(JOB, NOW, third)),
            lambda: log(events.Started(replace(RUNNING, worker=other), NOW)),
            lambda: log(events.HandedBack(JOB, NOW, third)),
            lambda: end(log, RUNNING, Succeeded(msgspec.Raw(one.encode("utf-8", "surrogatepass")))),
            lambda: end(log, RUNNING, Succeeded(note=other)),
            lambda: end(log, RUNNING, Raised(error)),
            lambda: end(log, LAST, Raised(error)),
            lambda: end(log, RUNNING, Cancelled(one)),
            lambda: log(events.Decided(JOB, lifecycle.failed(error), Refused(error), NOW)),
            lambda: log(events.SubmissionRefused(one, other, "not-allowed", third, NOW)),
            lambda: log(events.Corrupt(one, other, NOW)),
        ]
        for number, record in enumerate(records, 1):
            record()
            assert len(lines_of(folder / STATUS_LOG)) == number
        log(events.LeftAlone(one, other, NOW))
        for line in lines_of(folder / STATUS_LOG) + lines_of(folder / ERROR_LOG):
            assert line.isprintable()
            assert STRICT.fullmatch(line), line
            assert [len(re.findall(f"{name}:", line)) for name in NAMES] == [1] * len(NAMES)


def read_word(written: str) -> str:
    return str(ast.literal_eval(written)) if written[:1] in {"'", '"'} else written


@given(ANY_WORD, ANY_WORD, ANY_WORD)
@example(FORGED, FORGED, FORGED)
def test_the_fields_of_a_line_are_what_they_were_whatever_they_say(class_name: str, method: str, reason: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = Log(name)
        log(events.SubmissionRefused(class_name, method, "not-allowed", reason, NOW))
        log(events.HandedBack(replace(RUNNING, class_name=class_name, method=method), NOW, reason))
        first, second = lines_of(Path(name) / STATUS_LOG)
    for line, status, job, message in (
        (first, "REFUSED", "-", f"not-allowed: {reason}"),
        (second, "QUEUED", ID, f"handed back: {reason}"),
    ):
        found = STRICT.fullmatch(line)
        assert found, line
        assert read_word(found["class_name"]) == class_name[:100]
        assert read_word(found["method"]) == method[:100]
        assert (found["status"], found["job"]) == (status, job)
        assert [len(re.findall(f"{name}:", line)) for name in NAMES] == [1] * len(NAMES)
        assert found["message"] == re.sub(f"({'|'.join(NAMES)}):", r"\1\\u003a", plain_text.sanitized(message))
        taken_apart = logs.fields(f"{line}\n".encode())
        assert (taken_apart["status"], taken_apart["job"] or "-") == (status, job)
        assert taken_apart["message"] == found["message"]


def test_a_result_that_quotes_a_field_stays_json(tmp_path: Path) -> None:
    end(Log(str(tmp_path)), RUNNING, Succeeded(msgspec.Raw(b'{"said":"Status: SUCCESS, Job: 7","code":3}')))
    message = logged(tmp_path)[0][0].partition("Message: ")[2]
    assert msgspec.json.decode(message) == {"said": "Status: SUCCESS, Job: 7", "code": 3}


def test_lines_of_before_that_lack_fields_are_read_too() -> None:
    line = (
        "[2026-11-23 03:19:00.123+00:00] Class: Shell, Method: run, Status: REFUSED, Message: not-allowed: no, Job: x"
    )
    assert logs.fields(line.encode()) == {
        "at": "2026-11-23 03:19:00.123+00:00",
        "class": "Shell",
        "method": "run",
        "priority": None,
        "status": "REFUSED",
        "job": None,
        "attempt": None,
        "message": "not-allowed: no, Job: x",
    }


@given(st.text(st.characters()))
def test_a_sanitized_text_is_printable_and_a_plain_one_stays_as_it_is(text: str) -> None:
    clean = plain_text.sanitized(text)
    assert clean.isprintable()
    assert len(clean.splitlines()) <= 1
    if text.isprintable():
        assert clean == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u2028", r"\u2028"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("Zoë, 東京 😀", "Zoë, 東京 😀"),
    ],
)
def test_what_cannot_be_printed_is_escaped_as_in_a_python_text(text: str, clean: str) -> None:
    assert plain_text.sanitized(text) == clean


def test_a_message_is_cut_so_that_no_job_can_fill_the_disk(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    end(log, RUNNING, Raised(JobError(type="E" * 10_000, message="\n" * 100_000)))
    log(events.SubmissionRefused("C" * 10_000, "m" * 10_000, "bad-name", "r" * 100_000, NOW))
    status, errors = logged(tmp_path)
    for line in status + errors:
        assert len(line) < 12_000


# Trouble with a log is nobody else's


@pytest.fixture
def no_directory(tmp_path: Path) -> Path:
    """Return where no log can be written, not even by root."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    return tmp_path / "file" / "logs"


def test_a_log_that_cannot_be_written_is_said_once_and_counted(
    no_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(str(no_directory))
    for _ in range(3):
        log(events.Started(RUNNING, NOW))
    end(log, RUNNING, CRASH)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("bgjobs: cannot write ")
    assert log.dropped == 5


@pytest.mark.parametrize("error", [OSError("full"), BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_nothing_is_raised_even_if_there_is_nobody_to_tell(
    no_directory: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stderr", Closed())
    Log(str(no_directory))(events.Started(RUNNING, NOW))


def test_without_a_stderr_nothing_is_said_on_stdout(
    no_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    Log(str(no_directory))(events.Started(RUNNING, NOW))
    assert capsys.readouterr().out == ""


def test_a_log_that_can_be_written_again_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    folder.write_text("in the way", encoding="utf-8")
    log = Log(str(folder))
    log(events.Started(RUNNING, NOW))
    folder.unlink()
    log(events.Started(RUNNING, NOW))
    assert len(logged(folder)[0]) == 1
    assert capsys.readouterr().err


def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "a" / "logs"))
    log(events.Started(RUNNING, NOW))
    assert len(logged(tmp_path / "a" / "logs")[0]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links are POSIX")
def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_bytes(b"data")
    (tmp_path / STATUS_LOG).symlink_to(tmp_path / "precious")
    Log(str(tmp_path))(events.Started(RUNNING, NOW))
    assert (tmp_path / "precious").read_bytes() == b"data"
    assert capsys.readouterr().err


def test_a_record_is_whole_however_little_the_system_takes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(disk, "write", lambda descriptor, data: write(descriptor, bytes(data)[:50]))
    log = Log(str(tmp_path))
    log(events.Started(RUNNING, NOW))
    log(events.Started(RUNNING, NOW))
    status, _ = logged(tmp_path)
    assert len(status) == 2
    assert all(line.endswith("Message: started on web1:2211") for line in status)


# Together


def test_what_is_logged_together_is_one_write_to_each_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(disk, "write", counted)
    log = Log(str(tmp_path))
    with log.together():
        log(events.Started(RUNNING, NOW))
        with log.together():
            end(log, RUNNING, CRASH)
        log(events.Started(RUNNING, NOW))
        assert logged(tmp_path) == ([], [])
    assert len(writes) == 2
    status, errors = logged(tmp_path)
    assert [re.findall("Status: ([A-Z]+)", line) for line in status] == [["RUNNING"], ["RETRY"], ["RUNNING"]]
    assert len(errors) == 1


def test_what_was_logged_together_is_written_also_when_the_block_fails(tmp_path: Path) -> None:
    log = Log(str(tmp_path))

    def fail_in_the_middle() -> None:
        with log.together():
            log(events.Started(RUNNING, NOW))
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_the_middle()
    log(events.Started(RUNNING, NOW))
    assert len(logged(tmp_path)[0]) == 2


def test_the_status_of_a_job_that_failed_for_good_says_so() -> None:
    assert isinstance(lifecycle.after(LAST, CRASH, POLICY, NOW, 0.5), lifecycle.Ended)


class Keeping:
    """A subscriber that keeps what it is told, or fails at it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.dropped = 0
        self.batches: list[list[events.Event]] = [[]]
        self._fails = fails

    def __call__(self, event: events.Event, /) -> None:
        if self._fails:
            raise RuntimeError("a fault of the subscriber")
        self.batches[-1].append(event)

    @contextmanager
    def together(self) -> Iterator[None]:
        self.batches.append([])
        yield


def test_a_subscriber_that_raises_costs_no_other_one_its_event_and_is_counted() -> None:
    before, after = Keeping(), Keeping()
    bus = events.Bus(before, Keeping(fails=True), after)
    started, submitted = events.Started(RUNNING, NOW), events.Submitted(JOB, NOW)
    bus.emit(started)
    bus.emit(submitted)
    assert before.batches == after.batches == [[started, submitted]]
    assert (bus.failures, bus.dropped) == (2, 2)
    after.dropped = 3
    assert bus.dropped == 5


def test_every_subscriber_takes_what_is_emitted_together_as_one_batch() -> None:
    one, other = Keeping(), Keeping()
    bus, event = events.Bus(one, other), events.Started(RUNNING, NOW)
    with bus.together():
        bus.emit(event)
    assert one.batches == other.batches == [[], [event]]
