"""The job file: what is written is read again, what is torn counts as not written, what is strange is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bgjobs import ids, lifecycle
from bgjobs.job import (
    LATEST_MS,
    MOST_ARGUMENTS,
    MOST_DEPTH,
    TAG,
    Cancelled,
    Crashed,
    Interrupted,
    Job,
    JobError,
    Outcome,
    Progress,
    Raised,
    Refused,
    State,
    Succeeded,
    TimedOut,
    milliseconds,
    moment,
)
from bgjobs.lifecycle import Policy
from bgjobs.spool import record
from bgjobs.spool.line1 import MOST_LINE_1, CorruptError, NewerFormatError

ID = "01k5q3v9zdf4gahbjcmkdnpeqf"
WID = "01k5q3v9zdf4gahbjcmkdnw0rk"
AT = 1_795_400_000_000
PLAIN = {
    "format": 1,
    "id": ID,
    "class": "Shop",
    "method": "charge",
    "args": [1000],
    "priority": 5,
    "not_before": AT,
    "retries": 3,
    "submitted_at": AT,
    "submitted_by": "ann@web1",
}

MILLISECONDS = st.integers(0, LATEST_MS)
LENGTHS = st.timedeltas(timedelta(microseconds=1), timedelta(days=36_525))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True)
IDS = st.integers(0, 2**124 - 1).map(ids._encode)
JOBS = st.builds(
    Job,
    id=IDS,
    class_name=NAMES,
    method=NAMES,
    priority=st.integers(0, 9),
    not_before=st.builds(moment, MILLISECONDS),
    submitted_at=st.builds(moment, MILLISECONDS),
    retries=st.integers(0, 1_000_000),
    args=st.lists(VALUES, max_size=4).map(tuple),
    kwargs=st.dictionaries(TEXTS, VALUES, max_size=4),
    text=st.booleans(),
    submitted_by=TEXTS,
    retry_delay=st.none() | st.just(timedelta(0)) | LENGTHS,
    timeout=st.none() | LENGTHS,
    tags=st.lists(st.from_regex(TAG.pattern, fullmatch=True), max_size=3).map(tuple),
    retry_of=st.none() | IDS,
)


def read(data: bytes, *, job_id: str = ID, state: State = State.QUEUED) -> Job:
    return record.decode(data, job_id=job_id, state=state, priority=None, not_before_ms=None)


def line(**changed: Any) -> bytes:
    """Return line 1 of a plain job, with some fields changed."""
    return json.dumps(PLAIN | changed).encode() + b"\n"


def with_value(text: str) -> bytes:
    """Return line 1 of a plain job whose only argument is this JSON text."""
    return line().replace(b"[1000]", f"[{text}]".encode())


def reason(data: bytes) -> str:
    with pytest.raises(CorruptError) as found:
        read(data)
    text = str(found.value)
    assert text
    assert len(text) < 400
    return text


# What is written is read again


@given(JOBS)
def test_a_job_that_was_never_tried_is_one_json_document_and_comes_back_as_it_was(job: Job) -> None:
    data = record.line_1(job)
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")
    assert json.loads(data)["class"] == job.class_name
    assert read(data, job_id=job.id) == job


def test_the_path_is_the_truth_about_priority_moment_and_state() -> None:
    job = record.decode(line(), job_id=ID, state=State.RUNNING, priority=9, not_before_ms=AT + 5)
    assert (job.state, job.priority, job.not_before) == (State.RUNNING, 9, moment(AT + 5))


def test_a_job_file_of_another_program_may_leave_out_what_has_a_default_and_space_it_as_it_likes() -> None:
    document = {name: value for name, value in PLAIN.items() if name != "args"}
    job = read(json.dumps(document, separators=(" , ", " : ")).encode())
    assert (job.args, job.kwargs, job.tags, job.timeout) == ((), {}, (), None)


WRONG = JobError(type="ValueError", message="no such month", traceback="Traceback …")
LIVES = st.lists(
    st.one_of(
        st.just(Interrupted()),
        st.just(Crashed(JobError(type="WorkerLost", message="died"), worker_lost=True)),
        st.just(Crashed(JobError(type="Crashed", message="killed by SIGKILL"), exit=-9)),
        st.just(TimedOut(timedelta(seconds=30), exit=-9)),
        st.just(Raised(WRONG, ("ValueError", "Exception"))),
        st.just(Raised(WRONG, ("ValueError",), final=True)),
        st.just(Refused(WRONG)),
        st.just(Cancelled("ann@web1")),
        st.builds(Succeeded, VALUES.map(msgspec.json.encode).map(msgspec.Raw)),
        st.just(Succeeded()),
    ),
    max_size=8,
)


def lived(life: list[Outcome]) -> tuple[Job, list[bytes]]:
    """Return a job after these endings, and the lines of its file as a worker writes them."""
    job = read(line())
    lines, now = [line()], datetime(2026, 11, 23, 3, 20, tzinfo=UTC)
    for outcome in life:
        if job.state.ended:
            break
        number = len(job.attempts) + 1
        start = record.Start(
            at=milliseconds(now), wid=WID, number=number, worker="web1:7", slot=0, pid=7, birth="1", boot="b"
        )
        begun = replace(lifecycle.started(job, worker="web1:7", at=now), progress=Progress(done=1, total=2))
        now += timedelta(seconds=1)
        verdict = lifecycle.after(begun, outcome, Policy(max_crashes=3), now, 0.5)
        job = lifecycle.applied(begun, verdict, now)
        event = record.ending(verdict, at=milliseconds(now), wid=WID, progress=begun.progress)
        lines += [record.encoded(start), record.encoded(event)]
    return job, lines


def comparable(job: Job) -> dict[str, Any]:
    """Return all that a file tells of a job; the path tells its moment and state."""
    shown = job.to_json()
    return {name: value for name, value in shown.items() if name not in {"not_before", "state"}}


@given(LIVES)
@example([Succeeded(msgspec.Raw(b"[1]"))])
def test_the_file_tells_the_same_of_a_jobs_life_as_the_rules_did(life: list[Outcome]) -> None:
    job, lines = lived(life)
    told = read(b"".join(lines), state=job.state)
    assert comparable(told) == comparable(job)


@pytest.mark.parametrize("result", [b"null", b"0", b"true", b'"text"', b"[1,2]", b'{"a":{"b":[]}}', b"1.5"])
def test_a_result_comes_back_as_it_was(result: bytes) -> None:
    end = record.End(at=AT, wid=WID, state=State.DONE, outcome="succeeded", result=msgspec.Raw(result))
    job = read(line() + record.encoded(end), state=State.DONE)
    assert job.result == json.loads(result)
    assert job.finished_at == moment(AT)


@given(LIVES)
def test_every_line_of_a_file_is_a_json_object(life: list[Outcome]) -> None:
    _, lines = lived(life)
    for text in b"".join(lines).splitlines():
        assert isinstance(json.loads(text), dict)


def test_texts_of_an_error_are_cut_to_what_a_record_may_hold() -> None:
    long = JobError(type="E" * 1000, message="m" * 10_000, traceback="first" + "t" * 100_000 + "last")
    cut = record.cut_error(long)
    assert cut is not None
    assert len(cut.type) == 200
    assert len(cut.message) == record.MOST_MESSAGE
    assert len(cut.traceback) == record.MOST_TRACEBACK
    assert cut.traceback.endswith("last")


# What a power cut can leave


@given(LIVES.filter(bool), st.data())
def test_a_torn_last_line_counts_as_not_written(life: list[Outcome], data: st.DataObject) -> None:
    _, lines = lived(life)
    kept = data.draw(st.integers(0, len(lines[-1]) - 2))
    torn = b"".join(lines[:-1]) + lines[-1][:kept]
    assert comparable(read(torn)) == comparable(read(b"".join(lines[:-1])))


@given(LIVES, st.integers(1, 5000))
def test_a_zero_filled_last_line_counts_as_not_written(life: list[Outcome], zeros: int) -> None:
    _, lines = lived(life)
    assert comparable(read(b"".join(lines) + b"\0" * zeros)) == comparable(read(b"".join(lines)))


@given(st.binary(max_size=200))
@example(b'{"event":"end"')
@example(b'{"event":"end","at":1,"state":"nonsense"}')
@example(b'{"event":"someday","at":1}')
@example(b"[" * 100_000)
@example(b"9" * 5_000)
def test_garbage_after_line_1_counts_as_not_written(garbage: bytes) -> None:
    assert comparable(read(line() + garbage)) == comparable(read(line()))


def test_an_event_after_a_torn_line_counts() -> None:
    _, lines = lived([Succeeded()])
    torn = lines[0] + lines[1] + lines[2][:20] + b"\n" + lines[2]
    assert read(torn).attempts[0].outcome == "succeeded"


def test_line_1_without_its_line_end_still_holds_the_job() -> None:
    assert read(line().rstrip()) == read(line())


OUT_OF_RANGE = [-1, LATEST_MS + 1, 10**18, 2**64]


@pytest.mark.parametrize("at", OUT_OF_RANGE)
@pytest.mark.parametrize(
    "event",
    [
        {"event": "start", "wid": WID, "number": 1, "worker": "w", "slot": 0, "pid": 1, "birth": "", "boot": ""},
        {"event": "try", "outcome": "raised", "not_before": AT},
        {"event": "lost", "outcome": "crashed", "not_before": AT},
        {"event": "back"},
        {"event": "end", "state": "done", "outcome": "succeeded"},
    ],
)
def test_an_event_at_a_moment_that_does_not_exist_counts_as_not_written(event: dict[str, Any], at: int) -> None:
    text = json.dumps(event | {"at": at}).encode()
    assert read(line() + text + b"\n") == read(line())
    assert record.events(line() + text + b"\n") == []


@pytest.mark.parametrize("at", OUT_OF_RANGE)
@pytest.mark.parametrize("event", ["try", "lost"])
def test_an_event_that_names_a_moment_that_does_not_exist_counts_as_not_written(event: str, at: int) -> None:
    text = json.dumps({"event": event, "at": AT, "outcome": "raised", "not_before": at}).encode()
    assert record.events(line() + text + b"\n") == []


@pytest.mark.parametrize("result", [b"1e999", b"9" * 5000, b'"\xff"', b'"\\ud800"', b"NaN"])
def test_a_result_that_is_no_json_value_is_never_shown(result: bytes) -> None:
    text = b'{"event":"end","at":1,"state":"done","outcome":"succeeded","result":' + result + b"}\n"
    assert read(line() + text).to_json()["result"] is None


# What is not a job


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n" + line(),
        b"\0" * 4096,
        line().rstrip() + b"\0" * 100,
        b"\0" + line(),
        b"\xef\xbb\xbf" + line(),
        line().decode().encode("utf-16"),
        line().decode().encode("utf-16-le"),
        line().decode().encode("utf-32"),
        b"\x1f\x8b" + line(),
        b"null\n",
        b"true\n",
        b"[]\n",
        b"{}\n",
        b'"text"\n',
        b"[" + line().rstrip() + b"]\n",
        line().rstrip() * 2 + b"\n",
        line().rstrip() + b" trailing\n",
        line()[:-20],
        line()[:-3] + b"\n",
        line().replace(b"}", b",}"),
        line().replace(b'"', b"'"),
        b"// remark\n" + line(),
        line().replace(b"ann", b"\xff\xfe"),
        line().replace(b"ann", b"a\tb"),
        line().replace(b"ann", b"\\ud800"),
        line().replace(b"ann", b"\\udc00\\ud800"),
        line().replace(b"ann", b"\\x41"),
    ],
)
def test_what_is_not_one_json_object_is_corrupt(data: bytes) -> None:
    reason(data)


@pytest.mark.parametrize(
    "value",
    ["NaN", "nan", "Infinity", "-Infinity", "1e999", "-1e999", "01", "1.", ".5", "+1", "0x10", "1_000", "9" * 5000],
)
def test_a_number_that_json_has_not_or_nothing_can_hold_is_corrupt(value: str) -> None:
    reason(with_value(value))
    reason(line(kwargs={"a": [0]}).replace(b"[0]", value.encode()))


@pytest.mark.parametrize("field", ["format", "priority", "not_before", "retries", "submitted_at"])
@pytest.mark.parametrize(
    "value", ["true", "false", "1.0", "1e0", '"1"', "null", "[1]", "{}", "1" * 5000, "1e999", "-1"]
)
def test_only_a_whole_number_is_a_whole_number(field: str, value: str) -> None:
    old = f'"{field}": {PLAIN[field]}'.encode()
    assert old in line()
    reason(line().replace(old, f'"{field}": {value}'.encode()))


@pytest.mark.parametrize(
    "field", ["format", "id", "class", "method", "priority", "not_before", "retries", "submitted_at"]
)
def test_a_missing_field_is_corrupt_and_named(field: str) -> None:
    rest = {name: value for name, value in PLAIN.items() if name != field}
    assert field in reason(json.dumps(rest).encode())


@pytest.mark.parametrize("field", ["state", "status", "Priority", "attempt", "event", "", "argsx", "\u0441lass"])
def test_an_unknown_field_is_corrupt(field: str) -> None:
    reason(line(**{field: 1}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 10),
        ("priority", 55),
        ("retries", 1_000_001),
        ("not_before", LATEST_MS + 1),
        ("submitted_at", 2**70),
        ("retry_delay", -1),
        ("retry_delay", 1e300),
        ("timeout", 0),
        ("timeout", -0.5),
        ("timeout", 4e-7),  # would be read as zero
        ("timeout", 1e300),
        ("class", ""),
        ("class", "../Shop"),
        ("class", "os:system"),
        ("class", "Sh\u043ep"),
        ("class", "Shop\n"),
        ("class", "A" * 65),
        ("method", "__init__"),
        ("method", "a.b"),
        ("method", "*"),
        ("args", {}),
        ("args", "text"),
        ("kwargs", []),
        ("text", 1),
        ("tags", "night"),
        ("tags", [""]),
        ("tags", ["two words"]),
        ("tags", ["\x1b[31m"]),
        ("tags", ["t" * 65]),
        ("tags", [1]),
        ("tags", ["t"] * 33),
        ("retry_of", "../../etc/passwd"),
        ("retry_of", ""),
        ("submitted_by", 1),
        ("submitted_by", None),
    ],
)
def test_a_value_that_is_not_allowed_is_corrupt_and_its_field_named(field: str, value: object) -> None:
    assert field in reason(line(**{field: value}))


@pytest.mark.parametrize(
    "job_id",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "",
        ID.upper(),
        ID + "\n",
        ID[:-1] + "/",
        ID[:-1] + "\0",
        ID[:-1] + "u",
        "8" + ID[1:],
        "0" * 300,
        "con",
    ],
)
def test_an_id_that_is_not_one_is_corrupt_even_if_the_path_says_the_same(job_id: str) -> None:
    with pytest.raises(CorruptError):
        read(line(id=job_id), job_id=job_id)


def test_an_id_that_differs_from_the_path_is_corrupt() -> None:
    assert "differs" in reason(line(id=ID[:-1] + "0"))


# Keys given twice: one reader takes the first, another the last


@pytest.mark.parametrize(
    "value",
    [
        '{"a":1,"a":1}',
        '{"a":1,"b":2,"a":3}',
        '[{"a":{"a":{"a":[{"b":1,"b":1}]}}}]',
        '{"a":1,"\\u0061":2}',
        '{"":1,"":2}',
    ],
)
def test_a_key_given_twice_at_any_depth_is_corrupt(value: str) -> None:
    assert "twice" in reason(with_value(value))


@pytest.mark.parametrize("field", sorted(PLAIN))
def test_a_field_given_twice_is_corrupt(field: str) -> None:
    text = json.dumps({field: PLAIN[field]}).encode()[1:-1]
    assert "twice" in reason(line().replace(b'{"format"', b"{" + text + b', "format"', 1))
    assert "twice" in reason(line().rstrip()[:-1] + b", " + text + b"}")


def test_one_key_in_two_objects_is_no_key_given_twice() -> None:
    assert read(with_value('{"a":{"a":1}}, {"a":[{"a":1}, {"a":1}]}')).args[0] == {"a": {"a": 1}}


# Depth and size


@pytest.mark.parametrize("depth", [31, 100, 1_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_what_is_nested_too_deeply_is_corrupt_closed_or_not(opened: str, closed: str, depth: int) -> None:
    assert "deep" in reason(with_value(opened * depth + "0" + closed * depth))
    reason(with_value(opened * depth))
    reason((opened * depth).encode())


def test_what_is_nested_deeply_but_not_too_deeply_is_a_job() -> None:
    depth = MOST_DEPTH - 2  # the object itself and its list of arguments
    value = read(with_value("[" * depth + "]" * depth)).args[0]
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


def test_brackets_in_texts_are_not_nesting() -> None:
    brackets = '[{"\\' * 100
    assert read(line(args=[brackets, brackets])).args == (brackets, brackets)


def test_line_1_may_be_as_long_as_one_mebibyte() -> None:
    short = line(args=["x"]).rstrip()
    assert read(short + b" " * (MOST_LINE_1 - len(short))).args == ("x",)
    assert "longer" in reason(short + b" " * (MOST_LINE_1 - len(short) + 1))


def test_a_job_file_may_hold_no_larger_arguments_than_submit_lets_through() -> None:
    room = MOST_ARGUMENTS - len(msgspec.json.encode([[""], {}]))
    assert read(line(args=["x" * room], kwargs={})).args == ("x" * room,)
    assert "arguments take more" in reason(line(args=["x" * (room + 1)], kwargs={}))
    assert "arguments take more" in reason(line(args=[], kwargs={"x": "x" * room}))


# What a newer bgjobs wrote


@pytest.mark.parametrize(
    "data",
    [
        line(format=2),
        line(format=2**40),
        line(format=2, isolation="fresh"),
        line(format=2, priority="urgent"),
        b'{"format":2}\n',
        b'{"format":7,"id":7,"class":[]}\n',
    ],
)
def test_a_newer_format_is_left_alone_rather_than_corrupt(data: bytes) -> None:
    with pytest.raises(NewerFormatError):
        read(data)


@pytest.mark.parametrize("number", ["0", "-1", "2.0", '"2"', "true", "null"])
def test_an_impossible_format_is_corrupt(number: str) -> None:
    reason(line().replace(b'"format": 1', f'"format": {number}'.encode()))


# Whatever else lies there


def decode_anything(data: bytes) -> None:
    """Decode, show and list; no other error than the two expected ones may come out."""
    try:
        job = read(data)
    except (CorruptError, NewerFormatError):
        return
    msgspec.json.encode(job.to_json())
    assert job.id == ID


@given(st.binary(max_size=300))
def test_random_bytes_are_corrupt_and_nothing_worse(data: bytes) -> None:
    decode_anything(data)


@given(LIVES, st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), min_size=1, max_size=4))
def test_damaged_files_are_corrupt_or_read_and_nothing_worse(
    life: list[Outcome], wounds: list[tuple[int, bytes]]
) -> None:
    data = b"".join(lived(life)[1])
    for place, piece in wounds:
        at = place % len(data)
        data = data[:at] + piece + data[at + len(piece) :]
    decode_anything(data)


STRANGE: st.SearchStrategy[Any] = (
    st.sampled_from([*OUT_OF_RANGE, 0, AT, True, 1.5, None, "", "../..", "\x1b[31m", [], {}])
    | st.text()
    | st.integers()
)
SOUND: list[dict[str, Any]] = [
    {"event": "start", "at": AT, "wid": WID, "number": 1, "worker": "w", "slot": 0, "pid": 1, "birth": "", "boot": ""},
    {"event": "try", "at": AT, "wid": WID, "outcome": "raised", "not_before": AT, "error": {"type": "OSError"}},
    {"event": "lost", "at": AT, "wid": WID, "outcome": "crashed", "not_before": AT, "exit": -9},
    {"event": "back", "at": AT, "wid": WID},
    {
        "event": "end",
        "at": AT,
        "state": "done",
        "outcome": "succeeded",
        "result": 1,
        "progress": {"done": 1, "total": 2},
    },
    {"event": "end", "at": AT, "state": "failed", "outcome": "crashed", "lost": True},
]


@st.composite
def strange_events(draw: st.DrawFn) -> dict[str, Any]:
    """Return an event that is sound but for one field at most."""
    event = dict(draw(st.sampled_from(SOUND)))
    field = draw(st.sampled_from([*event, "more"]))
    return event | {field: draw(STRANGE)} if draw(st.booleans()) else event


@given(st.lists(strange_events(), max_size=6))
def test_strange_events_are_taken_or_left_and_nothing_worse(events: list[dict[str, Any]]) -> None:
    decode_anything(line() + b"".join(json.dumps(event).encode() + b"\n" for event in events))
