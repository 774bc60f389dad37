"""How the spool deletes: what a crash leaves of it is finished by the next, and nothing outside is touched."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import disk, files
from bgjobs.errors import SpoolError
from bgjobs.ids import new_id
from bgjobs.job import Job, State, Succeeded
from bgjobs.worker.duties.tidy import Tidy
from tests.contract.stores import FAR, Sessions, SpoolKind, claim_all, finish, new_job, now, output_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links are POSIX")
BROKEN = OSError(errno.EIO, "Input/output error")
DAY = timedelta(days=1)


@pytest.fixture
def session(store: SpoolKind) -> Iterator[Session]:
    sessions = Sessions(store)
    yield sessions.join()
    sessions.close()


def ended(spool: SpoolStore, session: Session) -> Job:
    job = new_job()
    spool.submit([job])
    (claim,) = claim_all(session, 1)
    output = output_of(session, claim)
    output.parent.mkdir(exist_ok=True)
    output.write_text("printed", encoding="utf-8")
    gone = finish(session, claim, Succeeded())
    finished = gone.finished_at
    assert finished is not None
    wait_until(lambda: now() > finished)
    return gone


def left(spool: SpoolStore, *jobs: Job) -> list[str]:
    """Return the names of all that is left of these jobs."""
    return sorted(path.name for job in jobs for path in Path(spool.paths.root).rglob(f"*{job.id}*"))


def tidy(session: Session) -> int:
    return sum(session.tidy(keep_done=FAR, keep_failed=FAR))


def dead_at(monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """Let the n-th of these steps, and each one after it, fail: from there on this process does nothing more."""
    real, calls = getattr(disk, step), 0

    def failing(*args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise BROKEN
        return real(*args, **named)

    monkeypatch.setattr(disk, step, failing)


@pytest.mark.parametrize("number", [1, 2])
def test_a_deletion_that_broke_off_is_finished_by_a_worker(
    spool: SpoolStore, session: Session, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    job, kept = ended(spool, session), ended(spool, session)
    with monkeypatch.context() as patch:
        dead_at(patch, "unlink", number)  # the output is removed first, then the file
        with pytest.raises(SpoolError):
            spool.delete(job.id)
    assert spool.get(job.id) is None
    assert f"{job.id}.json" in left(spool, job)
    tidy(session)
    assert left(spool, job) == []
    assert left(spool, kept) == [f"{kept.id}.1.log", f"{kept.id}.json"]


def test_a_prune_that_broke_off_is_finished_by_the_next(
    spool: SpoolStore, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [ended(spool, session) for _ in range(3)]
    for number in (1, 2):  # not even the first step after the renames, then one more of them
        with monkeypatch.context() as patch:
            dead_at(patch, "unlink", number)
            with pytest.raises(SpoolError):
                spool.prune({State.DONE}, now())
        assert spool.counts() == dict.fromkeys(State, 0)
        assert left(spool, *jobs) != []
    assert spool.prune({State.DONE}, now()) == 0
    assert left(spool, *jobs) == []


@pytest.mark.parametrize("ahead", [timedelta(0), DAY])
def test_a_prune_that_could_not_throw_away_keeps_what_it_did_not(
    spool: SpoolStore, session: Session, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    job = ended(spool, session)
    with monkeypatch.context() as patch:
        dead_at(patch, "move", 1)
        with pytest.raises(SpoolError, match="Input/output error"):
            spool.prune({State.DONE}, now() + ahead)
    assert spool.get(job.id) is not None
    assert spool.prune({State.DONE}, now() + ahead) == 1


def test_a_job_that_the_disk_refuses_to_move_stays(
    spool: SpoolStore, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ended(spool, session)
    with monkeypatch.context() as patch:
        dead_at(patch, "move", 1)
        with pytest.raises(SpoolError, match="Input/output error"):
            spool.delete(job.id)
    assert left(spool, job) == [f"{job.id}.1.log", f"{job.id}.json"]
    assert spool.delete(job.id) == "deleted"


def test_a_job_without_its_last_line_is_kept_until_its_hour_is_over(spool: SpoolStore) -> None:
    job = new_job()
    spool.submit([job])
    path = Path(spool.paths.ended_path(State.FAILED, "2026112307", job.id))
    path.parent.mkdir()
    # As a full disk leaves it: the directory alone says how it ended.
    next(Path(spool.paths.pending).rglob(f"*{job.id}.json")).rename(path)
    over = datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert spool.prune({State.FAILED}, over - timedelta(milliseconds=1)) == 0
    assert spool.prune({State.FAILED}, over) == 1
    assert left(spool, job) == []


# A little at a time


def old_hour(spool: SpoolStore, jobs: int) -> list[Path]:
    """Make an hour of jobs that are done since long ago."""
    hour = Path(spool.paths.ended(State.DONE), "2020010101")
    hour.mkdir()
    paths = [hour / f"{new_id()}.json" for _ in range(jobs)]
    for path in paths:
        path.touch()
    return paths


def in_trash(spool: SpoolStore) -> int:
    return sum(path.is_file() for path in Path(spool.paths.trash).rglob("*"))


def test_a_worker_claims_while_it_tidies(spool: SpoolStore, session: Session) -> None:
    old_hour(spool, 2_000)
    job = new_job()
    spool.submit([job])
    seconds = itertools.count(60.0)  # every slice is over after one step, and every pause when the next one begins
    tidy = Tidy(0.0)

    def run() -> None:
        tidy.run(lambda: session.tidy(keep_done=DAY, keep_failed=DAY), seconds.__next__)

    for _ in range(3_000):  # that takes a few steps for each file: to count, to throw away, to remove
        run()
    assert in_trash(spool) == 2_000
    assert [claim.job.id for claim in session.claim(2)] == [job.id]
    for _ in range(4_000):
        run()
    assert 0 < in_trash(spool) < 2_000
    for _ in range(3_000):
        run()
    assert list(Path(spool.paths.trash).iterdir()) == []


def test_tidying_tells_how_many_jobs_went_however_many_steps_it_takes(spool: SpoolStore, session: Session) -> None:
    old_hour(spool, 7)
    steps = list(session.tidy(keep_done=DAY, keep_failed=DAY))
    assert sum(steps) == 7
    assert len(steps) > 7
    assert sum(session.tidy(keep_done=DAY, keep_failed=DAY)) == 0


def test_tidying_that_was_broken_off_after_any_step_is_finished_by_the_next(
    spool: SpoolStore, session: Session
) -> None:
    kept = ended(spool, session)
    broken_off = more = 0
    while broken_off == more:
        job = ended(spool, session)
        (path,) = old_hour(spool, 1)
        Path(spool.paths.ended_path(State.DONE, "2020010101", job.id)).touch()
        more += 1
        for number, _ in enumerate(session.tidy(keep_done=DAY, keep_failed=DAY), start=1):
            if number == more:
                broken_off += 1
                break
        tidy(session)
        assert not path.exists()
        assert f"{job.id}.1.log" not in left(spool, job)
        assert list(Path(spool.paths.trash).iterdir()) == []
    assert more > 5
    assert left(spool, kept) == [f"{kept.id}.1.log", f"{kept.id}.json"]


# What is corrupt


def corrupted(spool: SpoolStore, name: str) -> Path:
    path = Path(spool.paths.corrupt, name)
    path.write_text("no job", encoding="utf-8")
    path.with_name(f"{name}.reason").write_text("line 1 is not a job\n", encoding="utf-8")
    return path


def test_what_is_corrupt_goes_by_its_age_when_it_is_named(spool: SpoolStore) -> None:
    old, young = corrupted(spool, "1-old"), corrupted(spool, "2-young")
    os.utime(old, (0, 0))
    assert spool.prune({State.DONE, State.FAILED, State.CANCELLED}, now() + DAY) == 0
    assert spool.prune({State.CORRUPT}, now() - DAY, dry_run=True) == 1
    assert old.exists()
    assert spool.prune({State.CORRUPT}, now() - DAY) == 1
    assert {path.name for path in young.parent.iterdir()} == {"2-young", "2-young.reason"}
    assert list(Path(spool.paths.trash).iterdir()) == []


def test_workers_never_prune_what_is_corrupt(spool: SpoolStore, session: Session) -> None:
    path = corrupted(spool, "1-old")
    os.utime(path, (0, 0))
    sum(session.tidy(keep_done=timedelta(seconds=1), keep_failed=timedelta(seconds=1)))
    assert path.exists()


def test_a_corrupt_file_with_the_name_of_a_job_takes_nothing_of_that_job_with_it(
    spool: SpoolStore, session: Session
) -> None:
    job = ended(spool, session)
    corrupted(spool, f"{job.id}.json")
    inside = Path(spool.paths.corrupt, "1-folder")
    inside.mkdir()
    (inside / f"{job.id}.json").write_text("a copy", encoding="utf-8")
    assert spool.prune({State.CORRUPT}, now() + DAY) == 2
    assert left(spool, job) == [f"{job.id}.1.log", f"{job.id}.json"]


def test_a_prune_of_what_is_corrupt_that_broke_off_is_finished_by_the_next(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupted(spool, "1-old")
    with monkeypatch.context() as patch:
        dead_at(patch, "move", 2)
        with pytest.raises(SpoolError):
            spool.prune({State.CORRUPT}, now() + DAY)
    assert [path.name for path in Path(spool.paths.corrupt).iterdir()] == ["1-old"]
    with monkeypatch.context() as patch:
        dead_at(patch, "unlink", 1)
        with pytest.raises(SpoolError):
            spool.prune({State.CORRUPT}, now() + DAY)
    assert list(Path(spool.paths.corrupt).iterdir()) == []
    assert spool.prune({State.CORRUPT}, now() + DAY) == 0
    assert list(Path(spool.paths.trash).iterdir()) == []


@posix_only
def test_a_link_among_the_hours_leads_nowhere(spool: SpoolStore, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / f"{new_id()}.json").write_text("mine", encoding="utf-8")
    Path(spool.paths.ended(State.DONE), "2020010101").symlink_to(precious)
    spool.prune({State.DONE}, now())
    assert len(list(precious.iterdir())) == 1
    assert list(Path(spool.paths.trash).iterdir()) == []


def test_a_job_that_was_deleted_right_after_it_was_cancelled_is_no_trouble(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job()
    spool.submit([job])
    real = files.append

    def delete_first(path: str, line: bytes) -> None:
        assert spool.delete(job.id) == "deleted"
        real(path, line)

    monkeypatch.setattr(files, "append", delete_first)
    assert spool.cancel(job.id, "ann") == "cancelled"
    assert spool.get(job.id) is None
