"""Nothing that bgjobs writes grows without a bound, and where a disk ends, what is there can still end."""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw, json
from msgspec.structs import replace

from bgjobs import clock, disk
from bgjobs.config import settings
from bgjobs.errors import SpoolError, SyncFailedError
from bgjobs.event_log import Log
from bgjobs.job import JobError, Raised, State, Succeeded
from bgjobs.lifecycle import Policy
from bgjobs.spool import counts, quota, record
from bgjobs.spool.store import SpoolStore
from tests.contract.stores import Sessions, SpoolKind, begin, claim_all, finish, got, new_job, recover_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.spool.layout import Layout

LONG = Raised(JobError(type="OSError", message="no " * 2000, traceback="deep\n" * 20_000), ("OSError", "Exception"))
AT_ONCE = Policy(retry_delay=timedelta(0), max_crashes=3)


def spool_with(folder: Path, *lines: str) -> SpoolStore:
    config = folder / "allowed_jobs.toml"
    config.write_text("\n".join(["[bgjobs]", *lines]), encoding="utf-8")
    configured = settings.load(config=str(config), environ={})
    return SpoolStore(configured, Log(configured.log_dir))


def room(size: int, files: int | None) -> Callable[[str], tuple[int, int | None]]:
    return lambda path: (size, files)


# A disk that is nearly full


@pytest.mark.parametrize(("left", "says"), [((1023, 10**6), "1023 bytes"), ((10**9, 99), "99 files")])
def test_new_jobs_are_refused_while_there_is_still_room_for_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: tuple[int, int], says: str
) -> None:
    spool = spool_with(tmp_path, 'min_free = "1KiB"')
    spool.submit([new_job()])
    with monkeypatch.context() as patch:
        patch.setattr(disk, "free_space", room(*left))
        with pytest.raises(SpoolError, match=f"nearly full: {says} are left") as refusal:
            spool.submit([new_job()])
        assert refusal.value.code == "disk-full"
    spool.submit([new_job()])
    assert spool.counts()[State.QUEUED] == 2


@pytest.mark.parametrize("left", [(1024, 100), (10**9, None)])
def test_a_disk_with_room_enough_takes_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: tuple[int, int | None]
) -> None:
    spool = spool_with(tmp_path, 'min_free = "1KiB"')
    monkeypatch.setattr(disk, "free_space", room(*left))
    spool.submit([new_job()])
    assert spool.counts()[State.QUEUED] == 1


def test_a_person_can_do_without_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_with(tmp_path, "min_free = 0")
    monkeypatch.setattr(disk, "free_space", room(0, 0))
    spool.submit([new_job()])
    assert spool.counts()[State.QUEUED] == 1


# A queue that is long


def test_more_jobs_than_max_queued_are_refused_until_some_have_gone(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, "max_queued = 3")
    spool.submit([new_job(), new_job()])
    later = new_job(delay=timedelta(hours=1))
    with pytest.raises(SpoolError, match="full: 2 jobs wait, and max_queued is 3") as refusal:
        spool.submit([new_job(), later])
    assert refusal.value.code == "queue-full"
    spool.submit([later])
    with pytest.raises(SpoolError, match="is full"):
        spool.submit([new_job()])
    assert sum(spool.counts().values()) == 3
    spool.cancel(later.id, "ann@web1")
    _forget_counts(spool)
    spool.submit([new_job()])


def test_a_queue_without_a_limit_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_with(tmp_path, "max_queued = 0")

    def count(_: object) -> int:
        raise AssertionError("counted")

    monkeypatch.setattr(counts, "count_pending", count)
    spool.submit([new_job()])


def test_a_queue_is_not_counted_for_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_with(tmp_path)
    counted = []
    count = counts.count_pending

    def counting(paths: Layout) -> int:
        counted.append(paths)
        return count(paths)

    monkeypatch.setattr(counts, "count_pending", counting)
    now = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now)
    for _ in range(100):
        spool.submit([new_job()])
    assert len(counted) == 1


def test_a_count_of_many_jobs_serves_other_processes_until_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now_ms()
    monkeypatch.setattr(quota, "MANY", 1)
    monkeypatch.setattr(clock, "now_ms", lambda: now)
    spool_with(tmp_path, "max_queued = 2").submit([new_job()])
    spool_with(tmp_path, "max_queued = 2").submit([new_job()])
    assert (tmp_path / "spool" / "queued").exists()
    spool_with(tmp_path, "max_queued = 2").submit([new_job()])  # the count says one: this is the slack
    now += quota.OLDEST_MS + 1  # however long the counting took
    with pytest.raises(SpoolError, match="full: 3 jobs wait"):
        spool_with(tmp_path, "max_queued = 2").submit([new_job()])


def test_nobody_is_refused_for_an_old_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_with(tmp_path, "max_queued = 2")
    now = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now)
    old = quota.Count(at_ms=now - 2 * quota.FRESH_MS, jobs=2, took_ms=quota.FRESH_MS)
    Path(spool.paths.queued).write_bytes(json.encode(old))
    spool.submit([new_job()])
    assert spool.counts()[State.QUEUED] == 1


@pytest.mark.parametrize(
    "note",
    [b"", b"{", b'{"at_ms":9e99}', b"[]", *(b'{"at_ms":%d,"jobs":0,"took_ms":99999999}' % at for at in (0, 10**14))],
)
def test_a_count_that_cannot_be_is_counted_anew(tmp_path: Path, note: bytes) -> None:
    spool = spool_with(tmp_path, "max_queued = 1")
    Path(spool.paths.queued).write_bytes(note)
    spool.submit([new_job()])
    with pytest.raises(SpoolError, match="full: 1 jobs wait"):
        spool.submit([new_job()])


def _forget_counts(spool: SpoolStore) -> None:
    """Let a second pass for the quota."""
    spool._submitter._quota = quota.Quota(spool.paths, spool.handle.settings.max_queued)


# A job that is tried very often


def test_a_job_that_is_tried_until_its_record_is_full_fails_and_is_never_corrupt(
    store: SpoolKind, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert record.BRIEF_BYTES < record.FULL_BYTES < record.MOST_BYTES - 2 * record.MOST_RESULT + 1
    monkeypatch.setattr(record, "BRIEF_BYTES", record.BRIEF_BYTES // 4)  # the real one takes a while
    monkeypatch.setattr(record, "FULL_BYTES", record.FULL_BYTES // 4)
    spool = store.open()
    job = new_job(retries=1_000_000)
    spool.submit([job])
    session, attempts = workers.join(), 0
    while True:
        (claim,) = claim_all(session, 1)
        if claim.full:
            break
        attempts += 1
        finish(session, claim, LONG, policy=AT_ONCE)
    # The last attempt allowed may end with the largest result there can be.
    big = Succeeded(Raw(b'"' + b"x" * (record.MOST_RESULT - 2) + b'"'))
    finish(session, claim, big)
    ended = got(spool, job.id)
    assert (ended.state, len(ended.attempts), ended.crashes) == (State.DONE, attempts + 1, 0)
    assert len(ended.result) == record.MOST_RESULT - 2
    tracebacks = [attempt.error.traceback for attempt in ended.attempts if attempt.error is not None]
    assert tracebacks[0]
    assert not tracebacks[-1]


# The end of a job on the disk


class Disk:
    """Notes what is synced, and can break."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.synced = 0
        self.broken = False
        self._sync = disk.sync_file
        patch.setattr(disk, "sync_file", self._sync_file)

    def _sync_file(self, descriptor: int) -> None:
        self.synced += 1
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        self._sync(descriptor)


def test_with_finish_fsync_the_end_of_a_job_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("false", "true"):
        folder = tmp_path / wanted
        folder.mkdir()
        spool_with(folder, 'durability = "os"', f"finish_fsync = {wanted}")
        workers = Sessions(SpoolKind(str(folder)))
        session = workers.join()
        job = new_job()
        SpoolKind(str(folder)).open().submit([job])
        with monkeypatch.context() as patch:
            watched = Disk(patch)
            finish(session, claim_all(session, 1)[0], Succeeded())
            assert watched.synced == (wanted == "true")
        workers.close()


def test_an_end_that_could_not_be_synced_stays_claimed_and_is_moved_on_by_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_with(tmp_path, "finish_fsync = true")
    store = SpoolKind(str(tmp_path))
    workers = Sessions(store)
    session = workers.join()
    job = new_job()
    spool.submit([job])
    (claim,) = claim_all(session, 1)
    with monkeypatch.context() as patch:
        watched = Disk(patch)
        watched.broken = True
        with pytest.raises(SyncFailedError, match="cannot sync"):
            finish(session, claim, Succeeded())
        assert watched.synced == 1
    assert store.holders() == {job.id: [State.RUNNING]}
    workers.leave(session)
    assert recover_all(spool, workers.join()) == []  # it was not lost: it had ended
    assert got(spool, job.id).state is State.DONE
    assert len(got(spool, job.id).attempts) == 1
    workers.close()


def test_a_pending_job_that_has_ended_is_not_run_again(store: SpoolKind, workers: Sessions) -> None:
    spool, session = store.open(), workers.join()
    job = new_job()
    spool.submit([job])
    (claim,) = claim_all(session, 1)
    begin(session, claim)
    end = record.End(at=int(job.submitted_at.timestamp() * 1000), state=State.DONE, outcome="succeeded")
    with Path(claim.place).open("ab") as file:
        file.write(record.encoded(end))
    session.release(replace(claim))  # as a power cut does that undoes the moves but not the line
    assert session.claim(5) == []
    assert store.holders() == {job.id: [State.DONE]}
