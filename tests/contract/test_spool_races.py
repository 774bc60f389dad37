"""People and workers at the same files at the same time: each job still has one end, and nobody meets an error."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from bgjobs import disk, locks, system
from bgjobs.errors import SpoolError
from bgjobs.event_log import ERROR_LOG
from bgjobs.ids import new_id
from bgjobs.job import State, Succeeded
from bgjobs.spool import recover as recovery
from bgjobs.spool import worker_dir
from bgjobs.store import Filter
from tests.contract.spooling import path_of, submitted
from tests.contract.stores import (
    POLICY,
    Sessions,
    SpoolKind,
    begin,
    claim_all,
    each_once,
    finish,
    got,
    recover,
    recover_all,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from filelock import FileLock

    from bgjobs.job import Job
    from bgjobs.spool.layout import Layout
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session

AT_ONCE = timedelta(hours=-3)  # kept no longer than until three hours ahead: also what has just ended is pruned


def work(session: Session, jobs: list[Job]) -> list[str]:
    """Claim and finish until so many jobs have ended; return their ids in that order."""
    ended: list[str] = []

    def all_have_ended() -> bool:
        for claim in session.claim(7):
            finish(session, claim, Succeeded())
            ended.append(claim.job.id)
        return len(ended) >= len(jobs)

    wait_until(all_have_ended)
    return ended


def meanwhile(action: Callable[[], object], work: Callable[[], list[str]]) -> list[str]:
    """Do something again and again while work is done; fail if either fails."""
    done = Event()

    def again() -> int:
        count = 0
        while not done.is_set() or not count:
            action()
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        repeated = pool.submit(again)
        try:
            result = work()
        finally:
            done.set()
        assert repeated.result() > 0
    return result


# People among the files


def test_a_job_that_a_person_moves_to_another_priority_is_run_once(
    store: SpoolKind, spool: SpoolStore, workers: Sessions
) -> None:
    jobs = [submitted(spool) for _ in range(200)]
    bucket, choose = path_of(spool, jobs[0]).parent.name, random.Random(36)
    shelves = [Path(spool.paths.priority(priority)) for priority in (2, 5, 8)]
    for shelf in shelves:
        (shelf / bucket).mkdir(exist_ok=True)

    def moved() -> None:
        names = [path for shelf in shelves for path in shelf.glob("*/*.json")]
        if names:
            path = choose.choice(names)
            with suppress(FileNotFoundError):  # a worker was faster
                path.rename(choose.choice(shelves) / path.parent.name / path.name)

    session = workers.join()
    ended = meanwhile(moved, lambda: work(session, jobs))
    assert each_once(ended) == {job.id for job in jobs}
    assert store.holders() == {job.id: [State.DONE] for job in jobs}


def test_a_spool_that_was_copied_while_it_rested_works_where_it_is_now(
    spool: SpoolStore, workers: Sessions, tmp_path: Path
) -> None:
    waiting = [submitted(spool, delay=delay) for delay in (None, timedelta(days=1))]
    claimed = submitted(spool, priority=9)
    workers.dead(claim=1, begin=1)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(spool.paths.root, elsewhere / "spool")  # as from a backup: other inodes, on the same machine
    copy = SpoolKind(str(elsewhere))
    others = Sessions(copy)
    session = others.join()
    recover_all(copy.open(), session)
    assert got(copy.open(), claimed.id).crashes == 1
    assert sorted(work(session, [claimed, waiting[0]])) == sorted([claimed.id, waiting[0].id])
    assert got(copy.open(), waiting[1].id).state is State.SCHEDULED
    others.close()
    assert got(spool, waiting[0].id).state is State.QUEUED  # the one that was copied knows nothing of it


# Buckets that come and go


def test_what_several_submit_into_a_bucket_that_is_removed_all_the_time_arrives(
    store: SpoolKind, workers: Sessions
) -> None:
    def submit_many() -> list[str]:
        spool = store.open()
        return [submitted(spool).id for _ in range(150)]

    def removed() -> None:
        for shelf in Path(store.open().paths.pending).iterdir():
            for bucket in shelf.iterdir():
                with suppress(OSError):  # it is not empty, or gone
                    bucket.rmdir()

    def everything() -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(submit_many) for _ in range(2)]
            return [job_id for one in both for job_id in one.result()]

    ids = meanwhile(removed, everything)
    session = workers.join()
    claims = claim_all(session, 300)
    assert {claim.job.id for claim in claims} == each_once(ids)
    for claim in claims:
        session.release(claim)


def test_what_dead_processes_left_half_made_blocks_nobody_and_is_swept(spool: SpoolStore, workers: Sessions) -> None:
    tmp, trash = Path(spool.paths.tmp), Path(spool.paths.trash)
    (tmp / "1795400000123-01m83kpb1n0007mc6vwgzvtyxa.json").write_bytes(b'{"format":1,"cl')
    (tmp / "vwgzvtyxa").mkdir()
    (tmp / "vwgzvtyxa" / "1795400000123-01m83kpb1n0007mc6vwgzvtyxb.json").write_bytes(b"{")
    (trash / "01m83kpb1n0007mc6vwgzvtyxc" / "inside").mkdir(parents=True)
    bucket = Path(spool.paths.bucket(9, "now-202601010000"))
    bucket.mkdir()
    job = submitted(spool)
    session = workers.join()
    sum(session.tidy(keep_done=timedelta(days=7), keep_failed=timedelta(days=30)))
    assert [claim.job.id for claim in claim_all(session, 1)] == [job.id]
    assert not bucket.exists()
    assert list(trash.iterdir()) == []
    assert len(list(tmp.iterdir())) == 3  # who knows whether their writers live: they are too young
    for path in tmp.iterdir():
        os.utime(path, (0, 0))
    sum(session.tidy(keep_done=timedelta(days=7), keep_failed=timedelta(days=30)))
    assert list(tmp.iterdir()) == [trash]


# Readers


def test_readers_that_look_all_the_time_see_each_job_and_hold_up_nobody(
    store: SpoolKind, spool: SpoolStore, workers: Sessions
) -> None:
    jobs = [submitted(spool) for _ in range(150)]
    session, reader = workers.join(), store.open()

    def looked() -> None:
        counts = reader.counts()
        assert sum(counts.values()) >= len(jobs) - 7  # it counts one state after the other, and jobs move on meanwhile
        assert each_once(job.id for job in reader.jobs(Filter())) <= {job.id for job in jobs}
        assert got(reader, jobs[len(jobs) // 2].id).class_name == "Mail"

    assert meanwhile(looked, lambda: work(session, jobs)) == [job.id for job in jobs]


def test_pruning_under_those_who_look_list_and_cancel_meets_no_error(
    store: SpoolKind, spool: SpoolStore, workers: Sessions
) -> None:
    session, person = workers.join(), store.open()
    jobs = [submitted(spool) for _ in range(120)]

    def looked() -> None:
        assert person.counts()[State.FAILED] == 0
        assert each_once(job.id for job in person.jobs(Filter())) <= {job.id for job in jobs}
        for job in jobs[::20]:
            with suppress(SpoolError):  # "keeps changing state"
                found = person.get(job.id)
                assert found is None or found.class_name == "Mail"
        assert person.cancel(jobs[0].id, "ann") in {"cancelled", "requested", "too late", "unknown"}

    def prune_and_work() -> list[str]:
        ended: list[str] = []

        def all_are_gone() -> bool:
            for claim in session.claim(7):
                running = begin(session, claim)
                while True:
                    try:
                        finish(session, claim, Succeeded(), running=running)
                    except FileNotFoundError:
                        continue  # its hour went to the trash just now, as no hour does that is not long over
                    break
                ended.append(claim.job.id)
            sum(session.tidy(keep_done=AT_ONCE, keep_failed=AT_ONCE))
            return sum(person.counts().values()) == 0

        wait_until(all_are_gone)
        return ended

    ended = meanwhile(looked, prune_and_work)
    assert each_once(ended) >= {job.id for job in jobs[1:]}
    assert store.holders() == {}


# A runner that outlives its worker


def test_a_runner_that_cannot_be_killed_keeps_its_job_and_is_reported(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    (wid,) = workers.dead(claim=1, begin=1, runner=1)["id"]
    # It hangs in a system call, say: nobody can end it, and its lock says that it is still there.
    kill, killed = system.kill_orphan, []
    hung: list[FileLock] = []

    def kill_in_vain(pid: int, birth: str, root: str) -> None:
        killed.append(pid)
        kill(pid, birth, root)
        hung[:] = hung or [locks.hold_for_life(spool.paths.worker(wid, "r0.lock"))]

    monkeypatch.setattr(system, "kill_orphan", kill_in_vain)
    session = workers.join()
    for _ in range(3):
        assert recover(session) == []
        assert got(spool, job.id).state is State.RUNNING
        assert len(killed) == 1  # to try that takes seconds: not at each round
    log = Path(spool.handle.settings.log_dir, ERROR_LOG).read_text(encoding="utf-8")
    assert log.count(f"left alone: workers/{wid}") == 1
    (runner,) = hung
    runner.release()
    (lost,) = recover(session)
    assert (lost.id, lost.crashes) == (job.id, 1)
    assert not Path(spool.paths.worker(wid)).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a lock file that is held")
@pytest.mark.parametrize("what", ["alive.lock", "everything"])
def test_a_dead_worker_whose_files_were_deleted_while_others_knew_them_is_recovered(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(recovery, "LOST_PLACE_S", -1.0)  # it is over at once
    job, session = submitted(spool), workers.join()
    worker = workers.process(claim=1, begin=1)
    (wid,) = worker.said()["id"]
    assert recover(session) == []  # it lives, and from now on we know its lock
    if what == "everything":
        shutil.rmtree(spool.paths.worker(wid))
    else:
        Path(spool.paths.worker(wid, "alive.lock")).unlink()
        for _ in range(3):
            assert recover(session) == []  # time is no reason to take the claims of a living worker
        assert got(spool, job.id).state is State.RUNNING
    worker.kill()
    lost: list[str] = []

    def one_is_lost() -> bool:
        lost.extend(one.id for one in recover(session))
        return lost == [job.id]

    wait_until(one_is_lost)
    wait_until(lambda: recover(session) == [] and not Path(spool.paths.worker(wid)).exists())
    assert store.holders() == {job.id: [State.QUEUED]}


def test_three_recoverers_at_once_charge_each_loss_once(store: SpoolKind, spool: SpoolStore, workers: Sessions) -> None:
    jobs = [submitted(spool) for _ in range(30)]
    for _ in range(3):
        workers.dead(claim=10, begin=5)
    sessions = [workers.join() for _ in range(3)]
    start = time.monotonic()

    def recover_until_none_is_left(session: Session) -> list[str]:
        found: list[str] = []
        while any(not worker.alive for worker in spool.workers()):
            assert time.monotonic() - start < 30
            found += [job.id for job in recover(session, policy=POLICY)]
        return found

    with ThreadPoolExecutor(3) as pool:
        found = [job_id for part in pool.map(recover_until_none_is_left, sessions) for job_id in part]
    assert len(each_once(found)) == 15
    assert sum(got(spool, job.id).crashes for job in jobs) == 15
    assert store.holders() == {job.id: [State.QUEUED] for job in jobs}


@pytest.mark.skipif(sys.platform == "win32", reason="an open file keeps its directory there: that is the race")
def test_a_request_to_a_worker_that_is_just_leaving_does_not_keep_its_directory(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = workers.join()
    place = Path(spool.paths.worker(session.id))
    real = worker_dir.clear

    def clear(paths: Layout, wid: str) -> bool:
        cleared = real(paths, wid)
        (place / f"stop-{new_id()}").touch()
        return cleared

    monkeypatch.setattr(worker_dir, "clear", clear)
    workers.leave(session)
    assert not place.exists()


def test_a_file_that_somebody_has_open_for_a_moment_keeps_nothing_of_a_place(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = workers.join()
    refusals = iter([OSError(errno.ENOTEMPTY, "Directory not empty")] * 3)  # what older Windows says then
    real = disk.rmdir

    def rmdir(path: str, *, folder: int | None = None) -> None:
        if path == spool.paths.worker(session.id):
            for refusal in refusals:
                raise refusal
        real(path, folder=folder)

    monkeypatch.setattr(disk, "rmdir", rmdir)
    workers.leave(session)
    assert not Path(spool.paths.worker(session.id)).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="makes a link")
def test_a_worker_whose_lock_cannot_be_tried_is_not_taken_for_dead(spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    lock = Path(spool.paths.worker(session.id, "alive.lock"))
    lock.rename(lock.with_name("moved"))
    lock.symlink_to(lock.name)  # a link is never followed
    with pytest.raises(SpoolError, match=r"cannot try .*alive\.lock: Too many levels of symbolic links"):
        spool.workers()
    with pytest.raises(SpoolError, match="Too many levels"):
        spool.stop(session.id)
    lock.unlink()
    lock.with_name("moved").rename(lock)
    assert spool.stop(session.id)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_the_job_of_a_runner_whose_lock_cannot_be_tried_is_not_run_beside_it(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    job = submitted(spool)
    (wid,) = workers.dead(claim=1)["id"]
    Path(spool.paths.worker(wid, "r0.lock")).touch()
    session = workers.join()
    real = disk.open_read

    def open_read(path: str) -> int:
        if path.endswith("r0.lock"):
            raise OSError(number, os.strerror(number), path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "open_read", open_read)
        with suppress(OSError):  # which the worker says, and tries again
            recover(session)
        assert got(spool, job.id).state is State.RUNNING
    recover(session)
    assert got(spool, job.id).state is State.QUEUED
