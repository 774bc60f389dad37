"""What was retried is noted in one file: before the retry is there, for as long as both are, and in bounded room."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs import disk
from bgjobs.errors import SpoolError
from bgjobs.ids import new_id
from bgjobs.job import State, Succeeded
from bgjobs.spool import retries
from bgjobs.spool.doctor import fsck
from tests.contract.stores import FAR, Sessions, SpoolKind, claim_all, finish, new_job, now
from tests.contract.test_scale import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore


def ended(spool: SpoolStore, count: int = 1) -> list[str]:
    jobs = [new_job() for _ in range(count)]
    spool.submit(jobs)
    for job in jobs:
        assert spool.cancel(job.id, "ann") == "cancelled"
    return [job.id for job in jobs]


def retry_of(old: str, delay: timedelta = timedelta(0)) -> Job:
    return replace(new_job(delay=delay), retry_of=old)


def submit_retry_of(spool: SpoolStore, old: str) -> Job:
    job = retry_of(old)
    spool.submit([job])
    return job


def noted(jobs: Iterable[Job]) -> dict[str | None, str]:
    """Return what is to be known of these retries, each the only one of its job."""
    return {job.retry_of: job.id for job in jobs}


def index_of(spool: SpoolStore) -> Path:
    return Path(spool.paths.root, "retried")


def test_each_retry_is_one_line_and_other_jobs_leave_none(spool: SpoolStore) -> None:
    [first, second] = ended(spool, 2)
    assert not index_of(spool).exists()
    jobs = [retry_of(first), retry_of(second, FAR), retry_of(first)]
    spool.submit(jobs)
    spool.submit([new_job()])
    expected = "".join(f"{job.retry_of} {job.id}\n" for job in jobs)
    assert index_of(spool).read_text(encoding="ascii") == expected
    assert spool.retried([first, second]) == {first: max(jobs[0].id, jobs[2].id), second: jobs[1].id}
    assert fsck.check(spool.paths) == []


def test_a_retry_that_was_noted_and_never_came_counts_for_nothing(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old] = ended(spool)
    broken = retry_of(old)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "move", full)
        with pytest.raises(SpoolError):
            spool.submit([broken])
    assert broken.id in index_of(spool).read_text(encoding="ascii")
    assert spool.retried([old]) == {}
    job = submit_retry_of(spool, old)
    assert spool.retried([old]) == {old: job.id}


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_retry_that_cannot_be_noted_is_not_made(spool: SpoolStore) -> None:
    [old] = ended(spool)
    index_of(spool).mkdir()
    job = retry_of(old)
    with pytest.raises(SpoolError, match="cannot use the spool"):
        spool.submit([job])
    assert spool.get(job.id) is None
    assert spool.retried([old]) == {}  # whoever only looks is not held up


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.EISDIR])
def test_where_it_cannot_be_read_jobs_are_pruned_all_the_same(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ended(spool)
    padded(spool)
    real = disk.open_read

    def failing(path: str) -> int:
        if path == spool.paths.retried:
            raise OSError(number, os.strerror(number), path)
        return real(path)

    monkeypatch.setattr(disk, "open_read", failing)
    assert spool.prune({State.CANCELLED}, now() + FAR) == 1


@pytest.mark.parametrize("torn", [b"01k5", b"\0" * 40, b"\xff\xfe\n\n", b"kept 3\n", b"a b\n", b"01k5 01k6 01k7"])
def test_torn_and_strange_lines_say_nothing_and_spoil_no_other(spool: SpoolStore, torn: bytes) -> None:
    [first, second] = ended(spool, 2)
    jobs = [retry_of(first), retry_of(second)]
    spool.submit(jobs[:1])
    with index_of(spool).open("ab") as file:
        file.write(torn)
    assert spool.retried([first, second]) == {first: jobs[0].id}
    spool.submit(jobs[1:])
    assert spool.retried([first, second]) == noted(jobs)


def test_a_line_that_is_half_written_is_read_once_it_is_whole(spool: SpoolStore) -> None:
    [old] = ended(spool)
    job = new_job()
    spool.submit([job])
    line = f"{old} {job.id}\n".encode()
    with index_of(spool).open("wb", buffering=0) as file:
        for part in (line[:30], line[30:]):
            assert spool.retried([old]) == {}
            file.write(part)
    assert spool.retried([old]) == {old: job.id}


def test_only_what_was_added_is_read_again(spool: SpoolStore) -> None:
    old = ended(spool, 3)
    spool.submit([retry_of(old[0])])
    assert spool.retried(old) != {}
    with counted() as steps:
        assert spool.retried(old[1:]) == {}
    assert steps["listdir"] == 0  # nothing is looked for that was not retried
    assert (steps["open_read"], steps["read"]) == (1, 1)
    spool.submit([retry_of(old[1])])
    assert set(spool.retried(old)) == {old[0], old[1]}


def test_many_retries_are_looked_for_together(spool: SpoolStore, store: SpoolKind) -> None:
    old = ended(spool, 150)
    jobs = [retry_of(one, FAR if number % 2 else timedelta(0)) for number, one in enumerate(old)]
    spool.submit(jobs)
    assert spool.retried(old) == noted(jobs)
    workers = Sessions(store)
    session = workers.join()
    claims = claim_all(session, 75)
    for claim in claims[:40]:
        finish(session, claim, Succeeded())
    with counted() as steps:
        assert spool.retried(old) == noted(jobs)
    assert steps["listdir"] < 100
    gone = {claim.job.id for claim in claims[:40]}
    for job_id in gone:
        assert spool.delete(job_id) == "deleted"
    assert spool.retried(old) == noted(job for job in jobs if job.id not in gone)
    workers.close()


def padded(spool: SpoolStore, size: int = retries.LEAST_BYTES) -> None:
    """Note so many retries of jobs that are gone."""
    with index_of(spool).open("a", encoding="ascii", newline="\n") as file:
        while file.tell() < size:
            file.write(f"{new_id()} {new_id()}\n")


def test_what_is_noted_of_jobs_that_are_gone_is_left_out_once_it_is_much(spool: SpoolStore) -> None:
    [old, gone] = ended(spool, 2)
    job = retry_of(old)
    spool.submit([job, retry_of(gone)])
    assert spool.delete(gone) == "deleted"
    spool.prune({State.DONE}, now())
    assert index_of(spool).read_text(encoding="ascii").count("\n") == 2  # little: it is not worth it
    padded(spool)
    assert spool.prune({State.DONE}, now(), dry_run=True) == 0
    assert index_of(spool).stat().st_size >= retries.LEAST_BYTES
    other = spool_reader(spool)
    assert other.retried([old]) == {old: job.id}
    spool.prune({State.DONE}, now())
    line = f"{old} {job.id}\n"
    assert index_of(spool).read_text(encoding="ascii") == f"kept {len(line)}\n{line}"
    later = submit_retry_of(spool, old)
    for reader in (spool, other, spool_reader(spool)):
        assert reader.retried([old]) == {old: max(job.id, later.id)}
    assert [path.name for path in Path(spool.paths.tmp).iterdir()] == ["trash"]


def spool_reader(spool: SpoolStore) -> SpoolStore:
    return type(spool)(spool.handle.settings, spool.handle.emit)


def test_a_worker_shortens_it_too_and_not_before_it_has_doubled(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LEAST_BYTES", 1000)
    old = ended(spool, 40)
    jobs = [retry_of(one) for one in old]
    spool.submit(jobs)
    session = workers.join()

    def tidied() -> int:
        sum(session.tidy(keep_done=FAR, keep_failed=FAR))
        return index_of(spool).stat().st_ino

    first = tidied()
    assert index_of(spool).read_bytes().startswith(b"kept 2160\n")
    padded(spool, 3000)
    assert tidied() == first
    padded(spool, 5000)
    assert tidied() != first
    assert index_of(spool).stat().st_size < 2200
    assert spool.retried(old) == noted(jobs)


def test_no_line_is_lost_while_it_is_rewritten(
    spool: SpoolStore, store: SpoolKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LEAST_BYTES", 1)
    old = ended(spool, 60)
    jobs = [retry_of(one) for one in old]
    done = False

    def prune() -> int:
        other, inodes = store.open(), set()
        while not done:
            padded(other, index_of(other).stat().st_size + 500 if index_of(other).exists() else 500)
            other.prune({State.DONE}, now())
            inodes.add(index_of(other).stat().st_ino)
        return len(inodes)

    with ThreadPoolExecutor(1) as pool:
        pruning = pool.submit(prune)
        try:
            for job in jobs:
                spool.submit([job])
        finally:
            done = True
        assert pruning.result() > 1
    assert spool.retried(old) == noted(jobs)


def test_directories_that_were_removed_are_made_again_for_a_retry(spool: SpoolStore) -> None:
    [old] = ended(spool)
    for path in sorted(Path(spool.paths.root, "locks").iterdir()):
        path.unlink()
    Path(spool.paths.root, "locks").rmdir()
    job = submit_retry_of(spool, old)
    assert spool.retried([old]) == {old: job.id}


def test_where_there_is_no_spool_any_more_none_is_noted(spool: SpoolStore, tmp_path: Path) -> None:
    [old] = ended(spool)
    root = Path(spool.paths.root)
    root.rename(tmp_path / "elsewhere")
    root.mkdir()
    with pytest.raises(SpoolError):
        spool.submit([retry_of(old)])
    assert list(root.iterdir()) == []


def test_where_a_directory_cannot_be_read_a_retry_may_be_there(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old, gone] = ended(spool, 2)
    job, away = retry_of(old, FAR), retry_of(gone)
    spool.submit([job, away])
    assert spool.cancel(away.id, "ann") == "cancelled"
    assert spool.delete(away.id) == "deleted"
    real = disk.listdir

    def failing(path: str) -> list[str]:
        if Path(path).name.startswith("at-"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "listdir", failing)
        assert spool.retried([old, gone]) == {old: job.id, gone: away.id}
    assert spool.retried([old, gone]) == {old: job.id}
