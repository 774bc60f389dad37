"""What a job is, and what is shown of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs.calls import masking
from bgjobs.config.settings import parse_priority
from bgjobs.errors import UsageError
from bgjobs.job import (
    Attempt,
    Job,
    JobError,
    Progress,
    State,
    milliseconds,
    moment,
    rfc3339,
    show_priority,
)

AT = datetime(2026, 11, 23, 3, 19, 0, 123_000, tzinfo=UTC)
JOB = Job(
    id="01k5q3v9zdf4gahbjcmkdnpeqf",
    class_name="SendNotificationJobs",
    method="pick_up",
    priority=8,
    not_before=AT,
    submitted_at=AT,
    retries=3,
    args=("Tony", "hunter2"),
    kwargs={"pin": 1234},
    submitted_by="ann@web1",
    tags=("night",),
)


@pytest.mark.parametrize(
    ("written", "priority"),
    [
        *((number, number) for number in range(10)),
        *((str(number), number) for number in range(10)),
        ("low", 2),
        ("normal", 5),
        ("medium", 5),
        ("high", 8),
        ("HIGH", 8),
        ("Medium", 5),
        (" high ", 8),
    ],
)
def test_a_priority_is_a_number_or_the_name_of_a_level(written: str | int, priority: int) -> None:
    assert parse_priority(written) == priority


@pytest.mark.parametrize(
    "written", [-1, 10, 55, "10", "-1", "05", "", " ", "5.0", "urgent", "highest", "\u0665", "²", "5\n5", True, False]
)
def test_anything_else_is_refused_as_a_priority(written: str | int) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_priority(written)
    assert refusal.value.code == "bad-priority"
    assert refusal.value.exit_status == 2


def test_a_refused_priority_is_shown_cut_and_escaped() -> None:
    with pytest.raises(UsageError) as refusal:
        parse_priority("\x1b[31m\n" * 1000)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(("priority", "shown"), [(0, "0"), (2, "low"), (3, "3"), (5, "normal"), (8, "high"), (9, "9")])
def test_a_priority_is_shown_by_its_name_where_it_has_one(priority: int, shown: str) -> None:
    assert show_priority(priority) == shown
    assert parse_priority(shown) == priority


def test_only_four_states_are_ends() -> None:
    assert {state for state in State if state.ended} == {State.DONE, State.FAILED, State.CANCELLED, State.CORRUPT}


def test_arguments_stay_out_of_repr() -> None:
    assert "hunter2" not in repr(JOB)
    assert "1234" not in repr(JOB)
    assert JOB.id in repr(JOB)
    assert "SendNotificationJobs.pick_up" in repr(JOB)


@given(st.integers(0, 9_999_999_999_999))
def test_a_moment_is_kept_as_whole_milliseconds(ms: int) -> None:
    assert milliseconds(moment(ms)) == ms


def test_moments_are_shown_in_utc_with_milliseconds() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert rfc3339(there) == "2026-11-23T03:19:00.123Z"
    assert rfc3339(None) is None


def test_a_fresh_job_is_shown_with_every_field_of_the_contract() -> None:
    assert JOB.to_json() == {
        "id": "01k5q3v9zdf4gahbjcmkdnpeqf",
        "class": "SendNotificationJobs",
        "method": "pick_up",
        "args": ["Tony", "hunter2"],
        "kwargs": {"pin": 1234},
        "priority": 8,
        "state": "queued",
        "attempt": 0,
        "retries": 3,
        "crashes": 0,
        "retry_of": None,
        "not_before": "2026-11-23T03:19:00.123Z",
        "submitted_at": "2026-11-23T03:19:00.123Z",
        "started_at": None,
        "finished_at": None,
        "submitted_by": "ann@web1",
        "from_user": None,
        "worker": None,
        "tags": ["night"],
        "result": None,
        "error": None,
        "progress": None,
        "attempts": [],
    }


def test_an_ended_job_is_shown_with_its_attempts_result_and_progress() -> None:
    error = JobError(type="ValueError", message="no such month", traceback="Traceback …")
    job = msgspec.structs.replace(
        JOB,
        state=State.DONE,
        charged=2,
        crashes=1,
        worker="web1:2211",
        finished_at=AT,
        result_json=msgspec.Raw(b'{"pages":[1,2]}'),
        progress=Progress(done=3, total=10, message="page 3"),
        attempts=(
            Attempt(number=1, started_at=AT, worker="web1:1", finished_at=AT, outcome="raised", error=error),
            Attempt(number=2, started_at=AT, worker="web1:2211", finished_at=AT, outcome="succeeded"),
        ),
    )
    shown = job.to_json()
    assert shown["state"] == "done"
    assert (shown["attempt"], shown["crashes"]) == (2, 1)
    assert shown["result"] == {"pages": [1, 2]}
    assert shown["progress"] == {"done": 3, "total": 10, "message": "page 3"}
    assert shown["started_at"] == "2026-11-23T03:19:00.123Z"
    assert shown["attempts"][0] == {
        "number": 1,
        "started_at": "2026-11-23T03:19:00.123Z",
        "finished_at": "2026-11-23T03:19:00.123Z",
        "outcome": "raised",
        "error": {"type": "ValueError", "message": "no such month", "traceback": "Traceback …"},
        "worker": "web1:1",
        "exit": None,
    }
    assert shown["attempts"][1]["outcome"] == "succeeded"


def test_what_is_shown_of_a_job_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(JOB.to_json())) == JOB.to_json()


def test_secret_arguments_are_masked() -> None:
    shown = masking.as_json(JOB, frozenset({"#1", "pin"}))
    assert shown["args"] == ["Tony", "***"]
    assert shown["kwargs"] == {"pin": "***"}


def test_every_argument_is_masked_when_nothing_is_known_of_the_method() -> None:
    shown = masking.as_json(JOB, masking.ALL)
    assert shown["args"] == ["***", "***"]
    assert shown["kwargs"] == {"pin": "***"}
