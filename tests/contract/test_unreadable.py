"""One file or directory that cannot be read or moved costs no other job, and is named once in the error log."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import disk
from bgjobs.event_log import ERROR_LOG
from bgjobs.job import Job, State, Succeeded
from bgjobs.locks import ClaimLock
from bgjobs.spool import cached_listing
from bgjobs.store import Filter
from tests.contract.stores import (
    LOST,
    Sessions,
    SpoolKind,
    decided,
    finish,
    got,
    new_job,
    recover,
    recover_all,
    stored,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session

LOOKS = ("listdir", "lstat", "open_read", "scandir", "stat")


@pytest.fixture(params=[errno.EACCES, errno.EIO])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return what lets these steps fail at a path and below it, as the disk does, and counts them.

    Not by the mode of the file: whoever runs the tests may be root.
    """

    def break_(place: Path | str, *steps: str) -> list[str]:
        met: list[str] = []
        for name in steps:
            real = getattr(disk, name)

            def step(path: str, *args: Any, _name: str = name, _real: Any = real, **named: Any) -> Any:
                if path == str(place) or path.startswith(f"{place}{os.sep}"):
                    met.append(_name)
                    raise OSError(request.param, os.strerror(request.param), path)
                return _real(path, *args, **named)

            monkeypatch.setattr(disk, name, step)
        return met

    return break_


def submitted(spool: SpoolStore, priority: int = 5) -> Job:
    job = new_job(priority=priority)
    spool.submit([job])
    return job


def path_of(spool: SpoolStore, job: Job) -> Path:
    """Return where the file of a job lies."""
    (found,) = Path(spool.paths.root).rglob(f"*{job.id}.json")
    return found


def named(spool: SpoolStore) -> list[str]:
    """Return what the error log says was left alone."""
    log = Path(spool.handle.settings.log_dir, ERROR_LOG)
    return [line for line in log.read_text("utf-8").splitlines() if "left alone" in line] if log.exists() else []


def done_by(spool: SpoolStore, session: Session, jobs: list[Job]) -> None:
    """Let the worker run until these have ended."""

    def all_are_done() -> bool:
        recover(session)
        for claim in session.claim(2):
            finish(session, claim, Succeeded())
        return all(list(Path(spool.paths.root, "done").rglob(f"{job.id}.json")) for job in jobs)

    wait_until(all_are_done)


def test_a_bucket_that_cannot_be_read_holds_up_no_other(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]]
) -> None:
    stuck, first, last = submitted(spool, priority=8), submitted(spool, priority=9), submitted(spool)
    session = workers.join()
    broken(path_of(spool, stuck).parent, *LOOKS)
    done_by(spool, session, [first, last])
    for _ in range(20):
        assert session.claim(5) == []
    assert len(named(spool)) == 1
    assert spool.get(first.id) is not None
    assert {job.id for job in spool.jobs(Filter())} == {first.id, last.id}
    assert spool.counts()[State.DONE] == 2
    with pytest.raises(OSError, match=path_of(spool, stuck).parent.name):
        spool.get(stuck.id)


def test_a_priority_that_cannot_be_read_holds_up_no_other(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]]
) -> None:
    submitted(spool, priority=8)
    last = submitted(spool)
    session = workers.join()
    broken(spool.paths.priority(8), *LOOKS)
    done_by(spool, session, [last])
    assert len(named(spool)) == 1


def test_a_file_that_cannot_be_moved_holds_up_no_other(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]]
) -> None:
    stuck, *others = [submitted(spool) for _ in range(3)]
    session = workers.join()
    met = broken(path_of(spool, stuck), "move")
    done_by(spool, session, others)
    tried = len(met)
    for _ in range(20):
        assert session.claim(5) == []
    assert len(met) - tried <= 2, "tried again and again, though nothing has changed"
    assert len(named(spool)) == 1
    assert spool.counts()[State.QUEUED] == 1


def test_a_claimed_file_that_cannot_be_read_holds_up_no_other(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]]
) -> None:
    stuck, *others = [submitted(spool) for _ in range(3)]
    session = workers.join()
    name = path_of(spool, stuck).name
    broken(Path(spool.paths.claims_of(session.id), f"5.{name}"), "open_read")
    done_by(spool, session, others)
    assert session.claim(5) == []
    assert len(named(spool)) == 1
    assert {job.id for job in spool.jobs(Filter())} == {job.id for job in others}


def test_one_dead_worker_whose_place_cannot_be_read_holds_up_no_other(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = submitted(spool, priority=9), submitted(spool)
    (first,) = workers.dead(claim=1, begin=1)["id"]
    workers.dead(claim=1, begin=1)
    session = workers.join()
    with monkeypatch.context():
        broken(spool.paths.claims_of(first), "listdir")
        done_by(spool, session, [other])
        for _ in range(5):
            recover(session)
        assert len(named(spool)) == 1
    monkeypatch.undo()
    recover_all(spool, session)
    done_by(spool, session, [one])


def test_a_cancelled_job_is_cancelled_though_nobody_can_write_down_by_whom(
    spool: SpoolStore, broken: Callable[..., list[str]]
) -> None:
    job = submitted(spool)
    broken(Path(spool.paths.root, "cancelled"), "open_append")
    assert spool.cancel(job.id, "ann") == "cancelled"
    kept = spool.get(job.id)
    assert kept is not None
    assert kept.state is State.CANCELLED


def test_a_group_whose_name_cannot_be_synced_is_withdrawn(
    tmp_path: Path, broken: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "allowed_jobs.toml").write_text('[bgjobs]\ndurability = "full"\n', encoding="utf-8")
    spool = SpoolKind(str(tmp_path)).open()
    broken(spool.paths.priority(5), "sync_directory")
    for jobs in ([new_job(), new_job()], [new_job()]):
        with pytest.raises(Exception, match="cannot use the spool"):
            spool.submit(jobs)
    assert list(Path(spool.paths.root).rglob("*.json")) == []


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("step", "passing"), [("move", errno.EROFS), ("move", errno.ENOSPC), ("lstat", errno.EIO)])
def test_a_passing_error_delays_no_job_beyond_it(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch, step: str, passing: int
) -> None:
    session = workers.join()
    job = submitted(spool)
    bucket = path_of(spool, job).parent
    real, left = getattr(disk, step), [1]

    def failing(path: str, *args: str) -> Any:
        if left and path.startswith(str(bucket)):
            left.pop()
            raise OSError(passing, os.strerror(passing), path)
        return real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(disk, step, failing)
        patch.setattr(cached_listing, "RELIST_S", 3600.0)
        try:
            claims = session.claim(1)
        except OSError:
            claims = []
        while not claims:
            claims = session.claim(1)
    finish(session, claims[0], Succeeded())


def test_a_claim_lock_that_cannot_be_closed_is_opened_anew(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = ClaimLock(spool.paths.claim_lock)
    with lock.held(1.0) as is_ours:
        assert is_ours
    real = disk.close

    def failing(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "close", failing)
        with pytest.raises(OSError, match="Input/output"):
            lock.close()
    with lock.held(1.0) as is_ours:
        assert is_ours
    lock.close()


def test_a_job_that_cannot_be_cancelled_for_a_dead_worker_holds_up_no_other(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = submitted(spool, priority=9), submitted(spool)
    (first,) = workers.dead(claim=1)["id"]
    workers.dead(claim=1, begin=1)
    claimed = path_of(spool, one)
    waiting = Path(spool.paths.bucket(9, "now-202601010000"), claimed.name.partition(".")[2])
    waiting.parent.mkdir()
    claimed.rename(waiting)  # the worker died after it had moved the job back, and before it had cancelled it
    Path(spool.paths.worker(first, f"cancel-{one.id}")).write_text("ann", encoding="utf-8")
    session = workers.join()
    with monkeypatch.context():
        met = broken(Path(spool.paths.root, "cancelled"), "mkdir", "move")
        for _ in range(5):
            recover(session)
        assert len(met) == 5
        assert len(named(spool)) == 1
    monkeypatch.undo()
    assert got(spool, one.id).state is State.QUEUED
    recover_all(spool, session)
    assert got(spool, one.id).state is State.CANCELLED
    assert got(spool, other.id).crashes == 1


def test_what_became_of_a_lost_attempt_is_stored_though_its_job_cannot_be_cancelled(
    spool: SpoolStore, workers: Sessions, broken: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    (dead,) = workers.dead(claim=1, begin=1)["id"]
    session = workers.join()
    (claim,) = session.recover()
    Path(spool.paths.worker(dead, f"cancel-{job.id}")).write_text("ann", encoding="utf-8")
    with monkeypatch.context():
        assert broken(Path(spool.paths.root, "cancelled"), "mkdir", "move") == []
        stored(session, claim, decided(claim.job, LOST))
        assert len(named(spool)) == 1
    monkeypatch.undo()
    recover_all(spool, session)
    assert got(spool, job.id).state is State.CANCELLED
    assert got(spool, job.id).crashes == 1
