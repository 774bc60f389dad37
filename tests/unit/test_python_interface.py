"""What the Python interface accepts, as the command line does, and how it refuses all else: by the argument's name."""

from __future__ import annotations

import copy
import enum
import math
import pickle
import re
import sys
import time
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgjobs import BgjobsError, Queue, RefusedError, Request, Retry, UsageError, run_background_job
from bgjobs.errors import ConfigError, JobFailed, JobWasCancelled, NoSuchJobError, SpoolError
from bgjobs.ids import new_id
from bgjobs.job import MOST_DEPTH, State
from bgjobs.lifecycle import Policy
from bgjobs.queue import full_id
from bgjobs.spool import record
from bgjobs.spool.line1 import decode_line_1

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = '[jobs.Mail]\nclass = "mail:Mail"\nmethods = ["send", "note", "count"]\nsecret = ["key"]\n'
MAIL = """
class Mail:
    def send(self, *args, **kwargs): ...
    def note(self, text: str, key: int = 0): ...
    def count(self, number: int, when: "datetime | None" = None): ...
"""
HOUR = timedelta(hours=1)
# Names of files on Windows are UTF-16, and may hold half a pair.
NO_PATH = () if sys.platform == "win32" else ("\ud800",)
LAST = datetime.fromisoformat("9999-12-31 23:59:59")


def ident(part: object) -> str:
    """Name what a test is about, the same in every process."""
    if isinstance(part, str | bytes | bool | float | None):
        return ascii(part)[:30]
    return type(part).__name__


def refusal_of(call: Callable[[], object]) -> str:
    """Return why a call was refused, if it was, in one line."""
    try:
        call()
    except BgjobsError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "allowed_jobs.toml").write_text(f'[bgjobs]\ndurability = "os"\n{CONFIG}', "utf-8")
    (root / "mail.py").write_text(f"from datetime import datetime\n{MAIL}", "utf-8")
    return root


@pytest.fixture(scope="module")
def queue(project: Path) -> Queue:
    return Queue.open(config=project / "allowed_jobs.toml", strict=False)


LOOKS: list[Callable[[Queue], object]] = [
    lambda queue: queue.counts(),
    lambda queue: list(queue.jobs()),
    lambda queue: queue.workers(),
    lambda queue: queue.get(new_id()),
    lambda queue: queue.get(new_id()[-8:]),
    lambda queue: queue.retried([new_id()]),
    lambda queue: queue.wait(new_id(), timeout=0),
    lambda queue: queue.cancel(new_id()),
    lambda queue: queue.run_now(new_id()),
    lambda queue: queue.delete(new_id()),
    lambda queue: queue.retry(new_id()),
    lambda queue: queue.prune(),
]


@pytest.mark.parametrize("look", range(len(LOOKS)))
def test_a_look_makes_no_spool(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    config, typo, own = project / "allowed_jobs.toml", tmp_path / "typo", tmp_path / "allowed_jobs.toml"
    with pytest.raises(SpoolError, match="there is no spool at ") as named:
        LOOKS[look](Queue.open(config=config, spool=typo, strict=False))
    assert named.value.code == "no-spool"
    monkeypatch.setenv("BGJOBS_SPOOL", str(typo))
    with pytest.raises(SpoolError, match="BGJOBS_SPOOL") as named:
        LOOKS[look](Queue.open(config=config, strict=False))
    assert named.value.code == "no-spool"
    monkeypatch.delenv("BGJOBS_SPOOL")
    own.write_bytes(config.read_bytes())
    try:
        found = LOOKS[look](Queue.open(config=own, strict=False))
    except NoSuchJobError:
        found = None
    assert not found or set(found.values()) == {0}  # type: ignore[attr-defined]  # counts, by the line above
    assert [path.name for path in tmp_path.iterdir()] == ["allowed_jobs.toml"]


def test_who_looked_before_there_was_a_spool_sees_what_comes_later(project: Path, tmp_path: Path) -> None:
    config, spool = project / "allowed_jobs.toml", tmp_path / "spool"
    early = Queue.open(config=config, spool=spool, strict=False)
    with pytest.raises(SpoolError):
        early.counts()
    job = Queue.open(config=config, spool=spool, strict=False).submit("Mail", "send", ["x"])
    assert early.get(job.id).state is State.QUEUED
    assert early.counts()[State.QUEUED] == 1


class Level(enum.IntEnum):
    URGENT = 8


class Word(enum.StrEnum):
    RENT = "rent"


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Whole(int):
    pass


class Length(timedelta):
    """As those of other libraries: what is added to it becomes something else."""

    def __radd__(self, other: Any) -> Any:
        return f"{other} and more"


class Nowhere(tzinfo):
    """A zone that does not say how far it is from UTC."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None: ...
    def dst(self, moment: datetime | None) -> timedelta | None: ...
    def tzname(self, moment: datetime | None) -> str | None: ...


class NoTime(datetime):
    """As the NaT of pandas, which is a datetime and has no year."""

    @property
    def year(self) -> Any:
        return math.nan


class Array(list[Any]):
    """As those of numpy: compared, it answers for each of its parts, and that answer is neither true nor false."""

    __hash__ = None

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")


@dataclass
class Record:
    a: int = 1


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - as people write them


# ---------------------------------------------------------------------------------------------- what is accepted


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"priority": "high"}, "priority", 8),
        ({"priority": "High"}, "priority", 8),
        ({"priority": "3"}, "priority", 3),
        ({"priority": 3}, "priority", 3),
        ({"priority": Level.URGENT}, "priority", 8),
        ({"retries": "3"}, "retries", 3),
        ({"retries": Whole(3)}, "retries", 3),
        ({"timeout": "60s"}, "timeout", timedelta(minutes=1)),
        ({"timeout": Length(minutes=1)}, "timeout", timedelta(minutes=1)),
        ({"retry_delay": "5m"}, "retry_delay", timedelta(minutes=5)),
        ({"retry_delay": 0.5}, "retry_delay", timedelta(seconds=0.5)),
        ({"tags": "rent"}, "tags", ("rent",)),
        ({"tags": Word.RENT}, "tags", ("rent",)),
        ({"tags": ["a", "b"]}, "tags", ("a", "b")),
        ({"tags": {"a"}}, "tags", ("a",)),
        ({"tags": None}, "tags", ()),
        ({"tags": []}, "tags", ()),
        ({"tags": Array("a")}, "tags", ("a",)),
        ({"at": "2033-01-01T09:00Z"}, "not_before", datetime(2033, 1, 1, 9, tzinfo=UTC)),
        ({"at": "2033-01-01T09:00:00.123001Z"}, "not_before", datetime(2033, 1, 1, 9, 0, 0, 124000, tzinfo=UTC)),
        ({"at": " 2033-01-01T09:00+01:00 "}, "not_before", datetime(2033, 1, 1, 8, tzinfo=UTC)),
        ({"at": datetime(2033, 1, 1, 9, tzinfo=timezone(HOUR))}, "not_before", datetime(2033, 1, 1, 8, tzinfo=UTC)),
        ({"at": "2033-01-01 09:00"}, "not_before", datetime(2033, 1, 1, 9).astimezone(UTC)),
        ({"at": datetime.fromisoformat("2033-01-01 09:00")}, "not_before", datetime(2033, 1, 1, 9).astimezone(UTC)),
    ],
    ids=ident,
)
def test_a_policy_may_be_written_as_on_the_command_line(
    queue: Queue, options: dict[str, Any], field: str, value: object
) -> None:
    job = queue.submit("Mail", "send", **options)
    assert getattr(job, field) == value
    assert getattr(queue.get(job.id), field) == value


@pytest.mark.parametrize("delay", ["1h", "3600", 3600, 3600.0, HOUR, Length(hours=1)], ids=ident)
def test_a_delay_is_a_length_of_any_kind(queue: Queue, delay: Any) -> None:
    job = queue.submit("Mail", "send", delay=delay)
    assert job.not_before - job.submitted_at == HOUR
    assert Retry(delay=delay).delay == HOUR


def test_what_only_inherits_from_a_plain_value_arrives_as_one(queue: Queue) -> None:
    given = [
        Level.URGENT,
        Word.RENT,
        Text("a"),
        Number(1.5),
        Whole(2),
        (1, (2,)),
        Pair(1, 2),
        OrderedDict(a=[Text("b")]),
    ]
    job = queue.submit("Mail", "send", given, {Text("k"): Number(0.5)})
    assert job.args == (8, "rent", "a", 1.5, 2, [1, [2]], [1, 2], {"a": ["b"]})
    assert [type(value) for value in job.args] == [int, str, str, float, int, list, list, dict]
    assert queue.get(job.id) == job


@pytest.mark.parametrize("args", [["a"], ("a",), deque(["a"])], ids=ident)
def test_arguments_come_in_any_sequence(queue: Queue, args: Any) -> None:
    assert queue.submit("Mail", "send", args).args == ("a",)
    assert queue.submit("Mail", "send", range(2)).args == (0, 1)


def test_jobs_are_found_by_what_is_written_as_on_the_command_line(queue: Queue) -> None:
    job = queue.submit("Mail", "send", priority="high", tags="found", delay=60)
    submitted = job.submitted_at
    finding: list[dict[str, Any]] = [
        {"priority": "high"},
        {"priority": "8"},
        {"state": "Scheduled"},
        {"state": ["scheduled", State.DONE]},
        {"state": "scheduled,done"},
        {"since": "1h"},
        {"since": HOUR},
        {"since": 3600},
        {"since": "2020-01-01"},
        {"since": "1960-01-01"},
        {"since": (submitted - HOUR).astimezone().replace(tzinfo=None)},
        {"since": submitted - HOUR, "until": "2222-01-01 00:00"},
        {"class_name": "Mail", "method": "send"},
    ]
    for conditions in finding:
        assert job.id in [found.id for found in queue.jobs(tag="found", **conditions)], conditions
    other: list[dict[str, Any]] = [
        {"priority": "low"},
        {"state": "done"},
        {"since": "2222-01-01"},
        {"until": "1h"},
        {"error": "x"},
    ]
    for conditions in other:
        assert job.id not in [found.id for found in queue.jobs(tag="found", **conditions)], conditions


def test_waiting_takes_a_length_of_any_kind(queue: Queue) -> None:
    job = queue.submit("Mail", "send", delay=60)
    for timeout in (0, 0.01, "0.01s", timedelta(milliseconds=1)):
        with pytest.raises(TimeoutError, match="is scheduled"):
            queue.wait(job.id, timeout=timeout)


# ------------------------------------------------------------------------------------------------ what is refused

BEYOND: list[Any] = [
    True,
    -1,
    "-1",
    "soon",
    "",
    b"5",
    [5],
    math.nan,
    math.inf,
    10**30,
    10**400,
    timedelta.max,
    Decimal(5),
]
BEYOND += [-HOUR, timedelta.min, None.__class__, 1j, date(2033, 1, 1)]
NO_MOMENT: list[Any] = ["tomorrow", "", "2033-02-30", 5, True, date(2033, 1, 1), b"2033-01-01", LAST, [1], 1.5]
NO_MOMENT += [datetime(2033, 1, 1, tzinfo=Nowhere()), NoTime(2033, 1, 1)]
NO_TEXT: list[Any] = [5, b"a", ["a"], True, Decimal(1)]
NO_ID: list[Any] = [None, 123, b"0" * 26, "", "x", "../../etc", "a" * 10_000, ["a"], True, 1.5]
NO_PRIORITY: list[Any] = [True, 10, -1, "11", "urgent", "", 5.0, b"5", ["high"], 10**5000, "٣", math.nan]
NO_FLAG: list[Any] = [None, 1, "yes", [], 0]
NO_TAGS: list[Any] = [[4711], 4711, b"rent", ["two words"], "a\nb", ["a" * 65], ["a"] * 33, [None], {"a": 1}, True, ""]
WRONG: list[tuple[str, Any]] = [
    *(("delay", value) for value in BEYOND),
    *(("retry_delay", value) for value in BEYOND),
    *(("timeout", value) for value in [*BEYOND, 0, "0s"]),
    *(("at", value) for value in NO_MOMENT),
    *(("priority", value) for value in NO_PRIORITY),
    *(("retries", value) for value in [True, -1, "-1", "many", 10**9, 1.5, [3], b"3", "٣", 10**5000, ""]),
    *(("tags", value) for value in NO_TAGS),
    *(("text", value) for value in NO_FLAG),
]


def named(name: str) -> str:
    return name.replace("_", "[_ ]").removesuffix("s")


@pytest.mark.parametrize(("name", "value"), WRONG, ids=ident)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_argument(queue: Queue, name: str, value: object) -> None:
    before = queue.counts()
    with pytest.raises(UsageError, match=named(name) if name != "at" else "at|moment") as refusal:
        queue.submit("Mail", "send", **{name: value})  # type: ignore[arg-type]  # as a person may write it
    assert "\n" not in str(refusal.value)
    assert queue.counts() == before


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        *(
            ("args", args, None)
            for args in [{"a": 1}, {"a"}, "Tony", b"Tony", iter("ab"), 5, None, Record(), bytearray(2)]
        ),
        *(("kwargs", [], kwargs) for kwargs in [[("a", 1)], "a", 5, 0, [], (), {"a"}, True, iter("a")]),
        ("kwargs", [], ["a"]),
    ],
    ids=ident,
)
def test_arguments_are_in_a_list_and_a_dict(queue: Queue, name: str, args: Any, kwargs: Any) -> None:
    with pytest.raises(UsageError, match=f"bad {name}"):
        queue.submit("Mail", "send", args, kwargs)
    with pytest.raises(UsageError, match=f"bad {name}"):
        queue.submit_many([Request(class_name="Mail", method="send", args=args, kwargs=kwargs)])


def deep(levels: int) -> list[Any]:
    return [deep(levels - 1)] if levels > 1 else []


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
UNFIT: list[Any] = [
    *(math.nan, math.inf, -math.inf, Number("nan"), [math.nan], {"a": math.nan}, 2**64, -(2**63) - 1, 10**400),
    *("\ud800", ["\udfff"], {"\ud800": 1}, {1: "a"}, {1: "a", "1": "b"}, {None: 1}, {(1, 2): 3}, {Text("a"): {2: 1}}),
    *(datetime(2033, 1, 1, tzinfo=UTC), date(2033, 1, 1), HOUR, b"a", bytearray(1), {1, 2}, frozenset(), Decimal(1)),
    *(Record(), Path("a"), object(), iter([1]), 1j, deep(MOST_DEPTH), ENDLESS, print, Queue, range(2), ["a", [{1, 2}]]),
    *("x" * 300_000, ["x" * 200_000, "y" * 100_000]),
]


@pytest.mark.parametrize("value", UNFIT, ids=ident)
def test_what_would_not_come_back_is_refused_and_nothing_is_stored(queue: Queue, value: object) -> None:
    before = queue.counts()
    for args, kwargs in (([1, value], {}), ([], {"first": 1, "second": value})):
        with pytest.raises(UsageError, match=r"argument|args") as refusal:
            queue.submit("Mail", "send", args, kwargs)
        assert isinstance(refusal.value, RefusedError)
        assert len(str(refusal.value)) < 300
        if "bytes" not in str(refusal.value):
            assert ("args[1]" if args else "'second'") in str(refusal.value)
    assert queue.counts() == before


def test_as_deep_as_is_allowed_is_deep_enough(queue: Queue) -> None:
    for levels in range(1, MOST_DEPTH + 2):
        try:
            job = queue.submit("Mail", "send", [deep(levels)])
        except RefusedError:
            assert levels >= MOST_DEPTH - 2
        else:
            assert queue.get(job.id).args == (deep(levels),)


def test_a_text_that_cannot_become_what_its_parameter_asks_for_is_refused(queue: Queue) -> None:
    for text in (False, True):
        with pytest.raises(RefusedError, match="number='five' does not fit int"):
            queue.submit("Mail", "count", ["five"], text=text)
        with pytest.raises(RefusedError, match="when='soon' does not fit"):
            queue.submit("Mail", "count", [5], {"when": "soon"}, text=text)
        with pytest.raises(RefusedError) as refusal:
            queue.submit("Mail", "note", ["a", "hunter2"], text=text)
        assert "hunter2" not in str(refusal.value)
        assert queue.submit("Mail", "count", ["5"], text=text).args == ("5",)
    assert queue.submit("Mail", "count", [5]).args == (5,)


@pytest.mark.parametrize("value", [5, b"Mail", None, Record, ["Mail"], True], ids=ident)
def test_class_and_method_are_named_by_text(queue: Queue, value: Any) -> None:
    with pytest.raises(UsageError, match="class_name"):
        queue.submit(value, "send")
    with pytest.raises(UsageError, match="method"):
        queue.submit("Mail", value)


@pytest.mark.parametrize("rest", [(5,), (3, 5, "high"), (5, 3, 8), ("high", 5), (None, 3, 5, 1), ({}, 3)], ids=ident)
def test_a_call_in_the_order_of_another_helper_is_shown_the_right_one(queue: Queue, rest: tuple[Any, ...]) -> None:
    for call in (run_background_job, queue.submit):
        with pytest.raises(UsageError, match=r"priority=\"high\"") as refusal:
            call("Mail", "send", ["hunter2"], *rest)
        assert "'Mail', 'send'" in str(refusal.value)
        assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("state", value)
            for value in ["running!", "corrupt", 5, b"done", [5], [None], True, "", {"done": 1}, [["done"]]]
        ),
        *(("priority", value) for value in NO_PRIORITY),
        *(("since", value) for value in ["tomorrow", "", True, math.nan, 10**30, timedelta.max, [1], b"2h", -1, LAST]),
        *(("until", value) for value in ["tomorrow", "", True, math.inf, date(2033, 1, 1)]),
        *(("tag", value) for value in [5, "two words", ["a"], ""]),
        *((name, value) for name in ("class_name", "method", "error") for value in NO_TEXT),
    ],
    ids=ident,
)
def test_a_condition_that_no_job_can_meet_is_refused(queue: Queue, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        queue.jobs(**{name: value})  # type: ignore[arg-type]  # as a person may write it


def test_a_condition_that_there_is_not_is_no_condition(queue: Queue) -> None:
    with pytest.raises(TypeError, match="tags"):
        queue.jobs(tags="rent")  # type: ignore[call-arg]  # as a person may write it
    with pytest.raises(UsageError, match="where"):
        queue.jobs("failed")  # type: ignore[arg-type]  # as a person may write it


@pytest.mark.parametrize("value", NO_ID, ids=ident)
def test_what_is_no_id_is_refused(queue: Queue, value: Any) -> None:
    calls: list[Callable[[Any], object]] = [
        queue.get,
        queue.wait,
        queue.wait_until_ended,
        queue.cancel,
        queue.run_now,
        queue.retry,
        queue.delete,
        partial(full_id, queue),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="bad job id"):
            call(value)


def test_a_job_in_place_of_its_id_is_refused(queue: Queue) -> None:
    with pytest.raises(UsageError, match="pass its id"):
        queue.cancel(queue.submit("Mail", "send"))  # type: ignore[arg-type]  # as a person may write it


@pytest.mark.parametrize("value", BEYOND, ids=ident)
def test_a_length_that_cannot_be_is_refused_wherever_one_is_asked_for(queue: Queue, value: Any) -> None:
    job = queue.submit("Mail", "send", delay=60)
    with pytest.raises(UsageError, match="bad timeout"):
        queue.wait(job.id, timeout=value)
    with pytest.raises(UsageError, match="bad timeout"):
        queue.wait_until_ended(job.id, value)
    with pytest.raises(UsageError, match="bad age"):
        queue.prune(older=value)
    with pytest.raises(UsageError, match="bad delay"):
        Retry(delay=value)


def test_pruning_at_once_means_at_once(queue: Queue) -> None:
    queue.cancel(queue.submit("Mail", "send", delay=60).id)
    give_up = time.monotonic() + 30
    while not queue.prune(older=0, state="cancelled", dry_run=True):  # it may still be the same millisecond
        assert time.monotonic() < give_up
    for dry_run in (None, 0, "no"):
        with pytest.raises(UsageError, match="dry_run"):
            queue.prune(dry_run=dry_run)  # type: ignore[arg-type]  # as a person may write it


def test_a_rehearsed_retry_checks_and_stores_nothing(queue: Queue, project: Path) -> None:
    old = queue.submit("Mail", "note", ["x"], priority=2, delay=60)
    with pytest.raises(UsageError, match="only an ended job can be retried"):
        queue.retry(old.id, dry_run=True)
    queue.cancel(old.id)
    counts = queue.counts()
    job = queue.retry(old.id, dry_run=True)
    assert (job.retry_of, job.args, job.priority) == (old.id, ("x",), 2)
    assert (queue.counts(), queue.retried([old.id])) == (counts, {})
    with pytest.raises(NoSuchJobError):
        queue.get(job.id)
    for dry_run in (None, 0, "no"):
        with pytest.raises(UsageError, match="dry_run"):
            queue.retry(old.id, dry_run=dry_run)  # type: ignore[arg-type]  # as a person may write it


def test_a_rehearsed_retry_is_refused_as_the_retry_would_be(tmp_path: Path) -> None:
    config = tmp_path / "allowed_jobs.toml"
    config.write_text(CONFIG, "utf-8")
    (tmp_path / "mail.py").write_text(f"from datetime import datetime\n{MAIL}", "utf-8")
    before = Queue.open(config=config, strict=False)
    old = before.submit("Mail", "note", ["x"], delay=60)
    before.cancel(old.id)
    (tmp_path / "mail.py").write_text("class Mail:\n    def note(self): ...\n", "utf-8")
    for dry_run in (True, False):
        with pytest.raises(RefusedError, match="note"):
            Queue.open(config=config, strict=False).retry(old.id, dry_run=dry_run)


@pytest.mark.parametrize("value", [b"spool", "", 5, ["a"], "a\0b", *NO_PATH, True], ids=ident)
def test_what_is_no_path_is_refused(value: Any) -> None:
    for name in ("config", "spool"):
        with pytest.raises(UsageError, match=f"bad {name}"):
            Queue.open(**{name: value})


def test_an_allowlist_of_a_name_that_no_system_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowlist"):
        Queue.open(config="x" * 10_000)


@pytest.mark.parametrize("value", [None, 5, "Mail", ["Mail"], {"class_name": "Mail"}, Request, list], ids=ident)
def test_what_is_no_request_is_refused(queue: Queue, value: Any) -> None:
    with pytest.raises(UsageError, match="request"):
        queue.prepare(value)
    with pytest.raises(UsageError, match="request"):
        queue.submit_many(value)
    with pytest.raises(UsageError, match="request"):
        queue.submit_many([Request(class_name="Mail", method="send"), value])


def test_objects_of_bgjobs_are_asked_for_by_name(queue: Queue) -> None:
    calls: dict[str, Callable[[Any], object]] = {"job": queue.to_json, "settings": Queue}
    for name, call in calls.items():
        with pytest.raises(UsageError, match=f"bad {name}"):
            call("text")
    for retry_of in (5, "x", "../..", [1]):
        with pytest.raises(UsageError, match="retry_of"):
            queue.submit_many([Request(class_name="Mail", method="send", retry_of=retry_of)])  # type: ignore[arg-type]  # junk


JUNK = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates(), st.datetimes()),
        *(
            st.timedeltas(),
            st.decimals(),
            st.characters(categories=["Cs"]),
            st.just(Record()),
            st.uuids(),
            st.complex_numbers(),
        ),
        *(st.sampled_from([*Level, *Word]), st.sampled_from(["high", "5m", "done", "2033-01-01"])),
    ),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner) | st.sets(st.text())
    ),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data(), value=JUNK)
def test_whatever_is_passed_is_stored_as_it_was_meant_or_refused_in_our_words(
    queue: Queue,
    data: st.DataObject,
    value: Any,
) -> None:
    fields = [name for name in Request.__struct_fields__ if name not in {"class_name", "method"}]
    name = data.draw(st.sampled_from(fields))
    request = Request(class_name="Mail", method="send", **{name: value})
    refusal = refusal_of(lambda: queue.prepare(request))
    assert "\n" not in refusal
    if not refusal:
        job = queue.prepare(request)
        read = decode_line_1(record.line_1(job)[:-1])
        assert (tuple(read.args), read.kwargs, tuple(read.tags)) == (job.args, job.kwargs, job.tags)
        [stored] = queue.submit_many([request])
        assert msgspec.structs.replace(queue.get(stored.id), state=stored.state) == stored


CALLS = ("get", "cancel", "run_now", "retry", "delete", "to_json", "prepare", "jobs")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(call=st.sampled_from(CALLS), value=JUNK)
def test_no_method_fails_in_words_that_are_not_ours(queue: Queue, call: str, value: Any) -> None:
    assert "\n" not in refusal_of(lambda: getattr(queue, call)(value))


def test_every_job_is_read_back_before_it_is_published(queue: Queue) -> None:
    good = queue.prepare(Request(class_name="Mail", method="send"))
    before = sum(queue.counts().values())  # a scheduled one may become due meanwhile
    for name, field, value in (
        *(("tags", "tags", (4711,)), ("tags", "tags", ("a b",)), ("text", "text", None), ("args", "args", (math.nan,))),
        *(
            ("args", "args", ("\ud800",)),
            ("args", "args", (object(),)),
            ("kwargs", "kwargs", {1: 2}),
            ("kwargs", "kwargs", []),
        ),
        *(("class", "class_name", "os.system"), ("method", "method", 5), ("priority", "priority", 11)),
        *(("retries", "retries", -1), ("timeout", "timeout", timedelta(0)), ("retry_of", "retry_of", "x")),
        *(("submitted_by", "submitted_by", None), ("args", "args", tuple(deep(MOST_DEPTH))), ("id", "id", "x")),
    ):
        bad = msgspec.structs.replace(good, **({"id": new_id()} | {field: value}))
        for jobs in ([bad], [good, bad], [msgspec.structs.replace(good, id=new_id(), priority=1), bad]):
            with pytest.raises(UsageError, match=f"bad {name}"):
                queue._store.submit(jobs)
    assert sum(queue.counts().values()) == before
    assert good.retries == Policy().retries


@pytest.mark.parametrize("reason", [60, 0.5, HOUR, True], ids=ident)
def test_a_delay_in_the_place_of_a_reason_is_shown_its_own(reason: Any) -> None:
    with pytest.raises(UsageError, match=re.escape("Retry(delay=60)")):
        Retry(reason)
    assert str(Retry(ValueError("closed"))) == "closed"  # type: ignore[arg-type]  # as people write it


@pytest.mark.parametrize("kind", [JobFailed, JobWasCancelled])
def test_what_waiting_raises_can_cross_to_another_process(
    queue: Queue, kind: type[JobFailed | JobWasCancelled]
) -> None:
    job = queue.submit("Mail", "send")
    for copied in (pickle.loads(pickle.dumps(kind(job, "it ended"))), copy.copy(kind(job, "it ended"))):
        assert (type(copied), str(copied), copied.job.id) == (kind, "it ended", job.id)
