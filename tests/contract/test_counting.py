"""How many jobs there are is counted without opening one, and not again where nothing has changed."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from bgjobs import clock, disk
from bgjobs.job import State, Succeeded, milliseconds
from bgjobs.spool import counts, layout
from tests.contract.stores import FAR, Sessions, SpoolKind, claim_all, finish, new_job

if TYPE_CHECKING:
    from bgjobs.spool.store import SpoolStore

LONG_AGO_NS = 60_000_000_000
WRONG = {State.QUEUED: 0, State.SCHEDULED: 0, State.DONE: 0}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpoolKind:
    """A spool where even few jobs are worth a file."""
    monkeypatch.setattr(counts, "MANY", 1)
    return SpoolKind(str(tmp_path))


@pytest.fixture
def filled(store: SpoolKind, workers: Sessions) -> SpoolStore:
    """A spool with five jobs that may start, three delayed ones and two that are done, all settled."""
    spool = store.open()
    spool.submit([new_job() for _ in range(7)])
    spool.submit([new_job(delay=FAR) for _ in range(3)])
    session = workers.join()
    for claim in claim_all(session, 2):
        finish(session, claim, Succeeded())
    workers.leave(session)
    settle(spool)
    return spool


def settle(spool: SpoolStore) -> None:
    """Let all directories with jobs look as if they had last changed a minute ago."""
    then = time.time_ns() - LONG_AGO_NS
    for above in ("pending", "done", "failed", "cancelled"):
        for directory, _, _ in os.walk(Path(spool.paths.root, above)):
            os.utime(directory, ns=(then, then))


def some(spool: SpoolStore) -> dict[State, int]:
    """Count, and return what is of interest here."""
    counts = spool.counts()
    return {state: counts[state] for state in WRONG}


def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the name of each bucket and hour that is listed."""
    listed: list[str] = []
    listdir = disk.listdir

    def watched(path: str) -> list[str]:
        name = Path(path).name
        if layout.BUCKET_NAME.fullmatch(name) or layout.HOUR_NAME.fullmatch(name):
            listed.append(name)
        return listdir(path)

    monkeypatch.setattr(disk, "listdir", watched)
    return listed


THERE = {State.QUEUED: 5, State.SCHEDULED: 3, State.DONE: 2}


def test_what_has_not_changed_is_counted_once(filled: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert some(filled) == THERE
    listed = listings(monkeypatch)
    assert some(filled) == THERE
    assert filled.oldest_queued() is not None
    assert listed == []


def test_it_is_not_counted_again_by_the_next_process(
    store: SpoolKind, filled: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert some(filled) == THERE
    listed = listings(monkeypatch)
    assert some(store.open()) == THERE
    assert listed == []


def test_what_changes_is_counted_again(store: SpoolKind, filled: SpoolStore, workers: Sessions) -> None:
    assert some(filled) == THERE
    session = workers.join()
    (claim,) = claim_all(session, 1)
    assert some(store.open()) == THERE | {State.QUEUED: 4}
    finish(session, claim, Succeeded())
    assert some(store.open()) == some(filled) == {State.QUEUED: 4, State.SCHEDULED: 3, State.DONE: 3}


def test_what_has_just_changed_is_counted_each_time(store: SpoolKind, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = store.open()
    spool.submit([new_job(), new_job()])
    assert spool.counts()[State.QUEUED] == 2
    (directory,) = Path(spool.paths.priority(5)).iterdir()
    before = directory.stat().st_mtime_ns
    next(directory.iterdir()).unlink()
    os.utime(directory, ns=(before, before))  # as on a disk whose clock is coarse
    listed = listings(monkeypatch)
    assert spool.counts()[State.QUEUED] == store.open().counts()[State.QUEUED] == 1
    assert listed == [directory.name, directory.name]


def test_another_directory_of_the_same_name_and_time_is_counted_anew(filled: SpoolStore) -> None:
    assert some(filled) == THERE
    (directory,) = Path(filled.paths.priority(5)).glob("at-*")
    before = directory.stat().st_mtime_ns
    directory.rename(Path(filled.paths.tmp, "kept"))
    directory.mkdir()
    os.utime(directory, ns=(before, before))
    assert some(filled) == THERE | {State.SCHEDULED: 0}


def test_counts_are_not_trusted_for_ever(filled: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert some(filled) == THERE
    listed = listings(monkeypatch)
    later = clock.now_ms() + counts.GOOD_FOR_MS + 1
    monkeypatch.setattr(clock, "now_ms", lambda: later)
    assert some(filled) == THERE
    assert len(listed) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"{",
        b"[]",
        b'{"since_ms":"x","counts":{}}',
        b'{"since_ms":1,"counts":{"done/2026112307":[1]}}',
        b'{"since_ms":99999999999999,"counts":{}}',
        b"[" * 100_000,
    ],
)
def test_a_broken_file_of_counts_is_as_good_as_none(store: SpoolKind, filled: SpoolStore, content: bytes) -> None:
    Path(filled.paths.counted).write_bytes(content)
    assert some(store.open()) == THERE
    assert some(store.open()) == THERE


def test_wrong_counts_change_nothing_about_jobs(store: SpoolKind, filled: SpoolStore, workers: Sessions) -> None:
    filled.counts()
    path = Path(filled.paths.counted)
    kept = msgspec.json.decode(path.read_bytes(), type=counts.CountsFile)
    wrong = {name: counts.DirectoryCount(count.inode, count.changed_ns, 0) for name, count in kept.counts.items()}
    path.write_bytes(msgspec.json.encode(counts.CountsFile(kept.since_ms, wrong)))
    assert some(store.open()) == WRONG  # they were believed
    assert len(claim_all(workers.join(), 5)) == 5


def test_of_the_minute_that_is_now_only_the_jobs_whose_moment_has_come_may_start(
    store: SpoolKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = store.open()
    minute = (clock.now_ms() // layout.MINUTE_MS + 5) * layout.MINUTE_MS
    moments = []
    for ms in (1_000, 5_000, 10_000):
        job = new_job(delay=timedelta(milliseconds=minute + ms - clock.now_ms()))
        moments.append(milliseconds(job.not_before))
        spool.submit([job])
    settle(spool)
    seen = []
    for now in (minute - 1, minute, moments[0], moments[1] - 1, moments[1], moments[2], minute + layout.HOUR_MS):
        monkeypatch.setattr(clock, "now_ms", lambda now=now: now)
        oldest = spool.oldest_queued()
        assert oldest is None or milliseconds(oldest) == moments[0]
        seen.append((spool.counts()[State.QUEUED], spool.counts()[State.SCHEDULED], oldest is not None))
    none, one, two, all_ = (0, 3, False), (1, 2, True), (2, 1, True), (3, 0, True)
    assert seen == [none, none, one, one, two, all_, all_]


def test_the_oldest_job_that_may_start_is_known_without_opening_one(filled: SpoolStore) -> None:
    places = Path(filled.paths.pending).rglob("*/now-*/*.json")
    oldest = filled.oldest_queued()
    assert oldest is not None
    assert f"{int(oldest.timestamp() * 1000 + 0.5):013d}" == min(path.name for path in places)[:13]


def test_a_strange_name_hides_no_job(filled: SpoolStore) -> None:
    (directory,) = Path(filled.paths.priority(5)).glob("now-*")
    oldest = filled.oldest_queued()
    for name in ("!first", "zzz last"):
        (directory / name).touch()
    settle(filled)
    assert filled.oldest_queued() == oldest
    assert some(filled) == THERE | {State.QUEUED: 7}  # they wait to be sorted out
