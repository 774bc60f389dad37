"""Names in a spool: each is built from parts that match their grammar, and is a name on every system."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bgjobs import disk, ids, system
from bgjobs.config.settings import load
from bgjobs.errors import SpoolError, UsageError
from bgjobs.event_log import Log
from bgjobs.ids import new_id
from bgjobs.job import LATEST_MS, Cancelled, Interrupted, Job, JobError, Progress, Raised, State, Succeeded, moment
from bgjobs.lifecycle import Policy, started
from bgjobs.spool import layout, transitions
from bgjobs.spool.layout import Layout
from bgjobs.spool.store import SpoolStore
from bgjobs.store import Selection, WorkerInfo
from tests.contract.stores import decided, output_of, stored, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.config.settings import Settings
    from bgjobs.job import Outcome

MILLISECONDS = st.integers(0, LATEST_MS)
IDS = st.integers(0, 2**124 - 1).map(ids._encode)
PRIORITIES = st.integers(0, 9)
MOST_PATH = 112  # that of a strange name in corrupt/ with an id and its reason; with a root of 100, far from 240
PART = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.ASCII)
# Names with an underscore: the logs, as documented, and what shows how a strange file was called.
WITH_UNDERSCORE = re.compile(
    r"background_jobs(?:_errors)?\.log(?:\.lock|\.[0-9])?|strange-[a-z0-9._-]{1,60}-x(?:\.[a-z0-9.]*[a-z0-9])?"
)
RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?:\..*)?", re.ASCII)
VERSION = "VERSION"  # the one name in capitals: it is no job's, and was chosen to be seen


def is_name(part: str) -> bool:
    return bool(PART.fullmatch(part) or WITH_UNDERSCORE.fullmatch(part)) and not RESERVED.fullmatch(part)


def is_safe(path: str) -> bool:
    """Tell whether a path inside the spool is a name on Linux, macOS and Windows, and short enough for all."""
    path = path.removeprefix(f"spool{os.sep}")
    parts = Path(path).parts
    return len(path) <= MOST_PATH and all(map(is_name, parts))


# Names, there and back


@given(MILLISECONDS, IDS)
def test_the_name_of_a_pending_job_tells_its_moment_and_id(ms: int, job_id: str) -> None:
    assert layout.parse_pending(layout.pending_name(ms, job_id)) == (ms, job_id)


@given(PRIORITIES, MILLISECONDS, IDS)
def test_the_name_of_a_claimed_job_tells_its_priority_too(priority: int, ms: int, job_id: str) -> None:
    name = layout.claimed_name(priority, layout.pending_name(ms, job_id))
    assert layout.parse_claimed(name) == (priority, ms, job_id)


@given(st.lists(st.tuples(MILLISECONDS, IDS), unique=True))
def test_names_of_pending_jobs_sort_by_moment_and_then_by_id(jobs: list[tuple[int, str]]) -> None:
    names = sorted(layout.pending_name(ms, job_id) for ms, job_id in jobs)
    assert [layout.parse_pending(name) for name in names] == sorted(jobs)


@given(MILLISECONDS, st.booleans())
def test_the_name_of_a_bucket_tells_its_minute(ms: int, at_once: bool) -> None:
    name = layout.bucket(ms, at_once=at_once)
    start = layout.bucket_start_ms(name)
    assert start is not None
    assert start <= ms < start + layout.MINUTE_MS
    assert name.startswith("now-" if at_once else "at-")
    assert layout.bucket_start_ms(f"{name}.{new_id()}") == start


def test_names_are_those_of_the_documentation() -> None:
    ms, job_id = 1_795_400_000_123, "01k5q3v9zdf4gahbjcmkdnpeqf"
    assert layout.pending_name(ms, job_id) == "1795400000123-01k5q3v9zdf4gahbjcmkdnpeqf.json"
    assert layout.claimed_name(8, layout.pending_name(ms, job_id)).startswith("8.1795400000123-")
    assert layout.bucket(ms, at_once=True) == "now-202611230213"
    assert layout.bucket(ms, at_once=False) == "at-202611230213"
    assert layout.hour(moment(ms)) == "2026112302"
    assert [Layout("s").priority(n).rpartition(os.sep)[2] for n in range(9, -1, -1)] == [
        *("9", "8-high", "7", "6", "5-normal", "4", "3", "2-low", "1", "0")
    ]


GOOD = "1795400000123-01k5q3v9zdf4gahbjcmkdnpeqf.json"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".json",
        f".{GOOD}",
        f"{GOOD}\n",
        f"{GOOD}.dup1",
        f" {GOOD}",
        f"../{GOOD}",
        f"a/{GOOD}",
        GOOD.upper(),
        GOOD.removesuffix("json") + "JSON",
        GOOD.removesuffix(".json"),
        GOOD.replace("-", "_"),
        GOOD[1:],
        "0" + GOOD,
        GOOD.replace("1795", "\u0661795"),
        GOOD.replace("01k5", "81k5"),
        GOOD.replace("qf.json", "q\u0435.json"),
        GOOD.replace("qf.json", "q/.json"),
        GOOD.replace("qf.json", "q\0.json"),
        "\udcff" + GOOD,
        "x" * 300,
    ],
)
def test_a_strange_name_is_no_jobs(name: str) -> None:
    assert layout.parse_pending(name) is None
    assert layout.parse_claimed(f"5.{name}") is None
    assert layout.ENDED_NAME.fullmatch(name) is None


@pytest.mark.parametrize("priority", ["", "-1", "10", "x", "\u0665"])
def test_a_claimed_name_has_one_digit_of_priority(priority: str) -> None:
    assert layout.parse_claimed(f"{priority}.{GOOD}") is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "now-",
        "now-2026112302",
        "now-20261123021",
        "now-2026112302130",
        "now-202613230213",
        "now-202611320213",
        "now-202611232513",
        "now-000000000000",
        "later-202611230213",
        "NOW-202611230213",
        "now-202611230213.",
        "now-202611230213.UP",
        "now-202611230213./..",
        "now-202611230213\n",
        "at-\u0662026112302113",
        ".now-202611230213",
    ],
)
def test_a_strange_bucket_is_none(name: str) -> None:
    assert layout.bucket_start_ms(name) is None


# Names that every system takes

PATHS = Layout("spool")


@given(PRIORITIES, MILLISECONDS, IDS, IDS, st.booleans())
def test_every_name_can_be_one_on_every_system(priority: int, ms: int, job_id: str, wid: str, at_once: bool) -> None:
    bucket = layout.bucket(ms, at_once=at_once)
    name = layout.pending_name(ms, job_id)
    hour = layout.hour(moment(ms))
    paths = [
        f"{PATHS.bucket(priority, bucket)}{os.sep}{name}",
        f"{PATHS.claims_of(wid)}{os.sep}{layout.claimed_name(priority, name)}",
        *(PATHS.ended_path(state, hour, job_id) for state in layout.ENDED_DIRECTORIES),
        PATHS.output(hour, job_id, 1_000_001),
        f"{PATHS.tmp}{os.sep}{name}",
        *(
            PATHS.worker(wid, name)
            for name in ("alive.lock", "info", "ready", f"cancel-{job_id}", f"stop-{wid}", f"progress-{job_id}.new")
        ),
    ]
    assert [path for path in paths if not is_safe(path)] == []


def test_the_directories_of_a_spool_can_be_made_on_every_system() -> None:
    assert [path for path in PATHS.directories() if not is_safe(path)] == []


def job(priority: int, ahead: timedelta = timedelta(0)) -> Job:
    now = moment(int(datetime.now(UTC).timestamp() * 1000))
    return Job(
        id=new_id(),
        class_name="Mail",
        method="send",
        priority=priority,
        not_before=now + ahead,
        submitted_at=now,
        retries=3,
    )


def lead_a_full_life(spool: SpoolStore) -> None:
    """Do in a spool, once, all that makes a name in it: submit one and many, fail, give back, cancel, print, end."""
    spool.submit([job(5), job(5)])
    spool.submit([job(8) for _ in range(8)])
    spool.submit([job(5, timedelta(days=1)), job(5, timedelta(days=1))])
    about = WorkerInfo(host="h", pid=1, concurrency=1, started_at=datetime.now(UTC), version="0")
    session = spool.join(about, Selection())
    other = spool.join(about, Selection())
    wrong = JobError(type="OSError")
    outcomes: list[Outcome] = [
        Succeeded(),
        Raised(wrong, ("OSError",)),
        Raised(wrong, asked=True, retry_in=timedelta(0)),
        Raised(wrong, final=True),
        Interrupted(),
        Cancelled(),
    ]
    claims = session.claim(10)
    for claim, outcome in zip(claims, outcomes, strict=False):
        begun = started(claim.job, worker="h:1", at=datetime.now(UTC))
        stored(session, claim, decided(begun, outcome, Policy(retry_delay=timedelta(hours=1))), running=begun)
    session.release(claims[6])
    spool.cancel(claims[6].job.id, "me")
    spool.cancel(claims[7].job.id, "me")
    session.renew({claims[7].job.id: Progress(done=1)})
    session.slots.started(0, os.getpid(), "1")
    Path(session.slots.output(0)).write_text("printed", encoding="utf-8")
    session.slots.keep_output(0, str(output_of(session, claims[8])))
    bucket = Path(spool.paths.bucket(5, layout.bucket(0, at_once=True)))
    bucket.mkdir()
    Path(bucket, "S" * 200 + " strange!.json").write_text("x", encoding="utf-8")
    Path(bucket, layout.pending_name(0, new_id())).write_text("x", encoding="utf-8")
    other.claim(100)


def all_names(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        yield str(path.relative_to(root))


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the paths of all that is made, also of what is gone a moment later."""
    paths: set[str] = set()
    for name in ("makedirs", "mkdir", "move", "open_create_append", "open_new", "replace"):
        real = getattr(disk, name)

        def step(*args: Any, _real: Any = real, **named: Any) -> Any:
            done = _real(*args, **named)
            paths.add(args[1] if len(args) > 1 and isinstance(args[1], str) else args[0])
            return done

        monkeypatch.setattr(disk, name, step)
    return paths


def test_every_name_that_comes_to_be_in_a_spool_can_be_one_on_every_system(tmp_path: Path, touched: set[str]) -> None:
    config = tmp_path / "allowed_jobs.toml"
    config.write_text('[bgjobs]\ndurability = "os"\n', encoding="utf-8")
    configured = load(config=str(config), environ={})
    spool = SpoolStore(configured, Log(configured.log_dir))
    lead_a_full_life(spool)
    names = {*all_names(Path(configured.spool)), *(os.path.relpath(path, configured.spool) for path in touched)} - {"."}
    kinds = {Path(name).parts[0] for name in names}
    assert kinds >= {"pending", "claimed", "done", "failed", "cancelled", "corrupt", "tmp", "workers", "output"}
    assert spool.counts()[State.CORRUPT] == 2
    # The one name in capitals, under which it is written first as well.
    names = {name for name in names if Path(name).name.partition(".")[0] != VERSION}
    assert [name for name in names if not is_safe(name)] == []


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=300))
@example("con")
@example("aux.json")
@example("5.")
@example("5 ")
@example("5.json.")
@example("5:stream")
@example("COM\u00b9.txt")
@example(GOOD.upper())
@example("5.reason")
@example("-")
def test_what_is_no_job_file_gets_a_name_that_every_system_takes(name: str) -> None:
    given_name = transitions._plain(name)
    assert is_safe(given_name)
    assert is_safe(f"{given_name}.{new_id()}.reason")
    assert not given_name.endswith(".reason")


def test_no_name_in_a_spool_is_chosen_by_people(tmp_path: Path, touched: set[str]) -> None:
    """Neither of classes, methods, tags, users and hosts nor of files that other programs hand in."""
    config = tmp_path / "allowed_jobs.toml"
    config.write_text('[bgjobs]\ndurability = "os"\n', encoding="utf-8")
    configured = load(config=str(config), environ={})
    spool = SpoolStore(configured, Log(configured.log_dir))
    names_of_code, others = ["CON", "Lpt1", "x" * 60], ["aux.json", "NUL:x", "a b. ", "\u00e4"]
    odd = names_of_code + others
    jobs = [replace(job(5), submitted_by=f"{name}@{name}") for name in odd]
    jobs += [replace(job(5), class_name=name, method=name, tags=(name,)) for name in names_of_code]
    jobs += [replace(job(5), tags=(name,)) for name in ("aux.json", "NUL:x")]
    spool.submit(jobs)
    for name in others:  # no name of a class or method, so nothing of it may reach the spool
        for refused in (replace(job(5), class_name=name), replace(job(5), method=name)):
            with pytest.raises(UsageError, match=r"bad (class|method) of a job"):
                spool.submit([refused])
    about = WorkerInfo(host=odd[0], pid=1, concurrency=1, started_at=datetime.now(UTC), version=odd[1])
    session = spool.join(about, Selection())
    if sys.platform != "win32":
        for name in odd:
            text = f'{{"format":1,"class":{json.dumps(name)},"method":"x"}}'
            Path(configured.spool, "incoming", f"{name}.json").write_text(text, encoding="utf-8")
    wait_until(lambda: (session.import_jobs(lambda class_name, method: Policy()), not names_in(configured))[1])
    for claim in session.claim(10):
        begun = started(claim.job, worker=about.name, at=datetime.now(UTC))
        stored(session, claim, decided(begun, Succeeded(), Policy()), running=begun)
    names = {os.path.relpath(path, configured.spool) for path in touched} - {"."}
    names = {name for name in names if Path(name).name.partition(".")[0] != VERSION}
    assert [name for name in names if not is_safe(name)] == []


def names_in(configured: Settings) -> list[Path]:
    return list(Path(configured.spool, "incoming").iterdir())


def test_a_spool_whose_paths_would_be_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "LONGEST_ROOT", 140)  # as on Windows
    config = tmp_path / "allowed_jobs.toml"
    config.touch()

    def opened(length: int) -> SpoolStore:
        root = tmp_path / ("x" * (length - len(str(tmp_path)) - 1))
        configured = load(config=str(config), spool=str(root), environ={})
        return SpoolStore(configured, Log(configured.log_dir))

    with pytest.raises(SpoolError, match="the path of the spool is 141 characters long") as refused:
        opened(141)
    assert refused.value.code == "path-too-long"
    assert [path.name for path in tmp_path.iterdir()] == ["allowed_jobs.toml"]
    spool = opened(140)
    lead_a_full_life(spool)
    # 259 is the most that Windows takes.
    assert max(len(str(path)) for path in Path(spool.paths.root).rglob("*")) + len(".") + 26 < 260
    assert 140 + len(os.sep) + MOST_PATH < 260
    assert 100 + len(os.sep) + MOST_PATH <= 240
