"""What `bgjobs doctor --repair` does to a damaged spool: it renames, keeps every byte, and spares the living."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State, Succeeded
from bgjobs.spool import layout, record
from bgjobs.spool.doctor import fsck
from tests.contract.stores import Sessions, claim_all, each_once, finish, got, now
from tests.contract.test_fsck import (
    END,
    codes,
    ended_job,
    path_of,
    posix_only,
    start,
    submitted,
)

if TYPE_CHECKING:
    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session


@pytest.fixture
def session(workers: Sessions) -> Session:
    return workers.join()


def copy(path: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(path.read_bytes())
    return target


def aside(spool: SpoolStore) -> dict[str, str]:
    """Return the reasons of the files in `corrupt/`, by the files' contents."""
    folder = Path(spool.paths.corrupt)
    reasons = folder.glob("*.reason")
    return {Path(str(path)[: -len(".reason")]).read_text("utf-8"): path.read_text("utf-8") for path in reasons}


def test_a_sound_spool_is_left_alone(spool: SpoolStore, workers: Sessions, session: Session) -> None:
    submitted(spool)
    ended_job(spool, workers)
    claim_all(session, 1)
    before = sorted(map(str, Path(spool.paths.root).rglob("*")))
    assert spool.repair() == []
    assert sorted(map(str, Path(spool.paths.root).rglob("*"))) == before


@pytest.mark.parametrize("final", ["done", "failed", "cancelled"])
def test_of_two_files_of_a_job_the_ended_one_wins_over_the_one_that_waits(
    spool: SpoolStore, session: Session, final: str
) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    content = path.read_text("utf-8")
    ended = copy(path, Path(spool.paths.ended(State(final)), "2026112307", f"{job.id}.json"))
    with ended.open("ab") as file:
        file.write(record.encoded(start(1)) + record.encoded(record.End(at=5, state=State(final))))
    (done,) = spool.repair()
    assert str(path) in done
    assert str(ended) in done
    assert fsck.broken(spool.paths) == []
    assert got(spool, job.id).state is State(final)
    assert {text: reason.split(":")[0] for text, reason in aside(spool).items()} == {content: "duplicate"}


def test_a_claimed_file_wins_over_its_copy_in_pending(spool: SpoolStore, workers: Sessions, session: Session) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    content, owner = path.read_bytes(), workers.join()
    (claim,) = claim_all(owner, 1)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    spool.repair()
    assert fsck.broken(spool.paths) == []
    finish(owner, claim, Succeeded())
    assert got(spool, job.id).state is State.DONE
    assert len(aside(spool)) == 1


def test_the_file_that_knows_more_wins_among_those_that_wait(spool: SpoolStore, session: Session) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    bare = copy(path, Path(spool.paths.bucket(9, path.parent.name), path.name))
    with path.open("ab") as file:
        file.write(record.encoded(start(1)) + record.encoded(record.Try(at=2, wid="a", outcome="raised", not_before=3)))
    spool.repair()
    assert not bare.exists()
    assert len(got(spool, job.id).attempts) == 1


def test_the_claim_of_a_living_worker_is_not_touched(spool: SpoolStore, workers: Sessions, session: Session) -> None:
    job = submitted(spool)
    owner = workers.join()
    (claim,) = claim_all(owner, 1)
    copy(Path(claim.place), Path(spool.paths.ended_path(State.DONE, "2026112307", job.id)))
    assert spool.repair() == []
    assert Path(claim.place).exists()
    assert codes(fsck.broken(spool.paths)) == {"two-places": "I1"}


@posix_only
def test_a_second_name_of_the_same_file_goes_and_the_file_stays(spool: SpoolStore, session: Session) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    other = Path(spool.paths.bucket(9, path.parent.name), path.name)
    other.parent.mkdir()
    other.hardlink_to(path)
    spool.repair()
    assert fsck.check(spool.paths) == []
    assert [claim.job.id for claim in claim_all(session, 1)] == [job.id]
    assert aside(spool) == {}


def test_a_broken_copy_never_wins_over_the_job(spool: SpoolStore, session: Session) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    broken = copy(path, Path(spool.paths.bucket(9, path.parent.name), path.name))
    broken.write_bytes(broken.read_bytes()[:50])
    spool.repair()
    assert fsck.broken(spool.paths) == []
    assert path.exists()
    assert len(aside(spool)) == 1


def test_a_copy_that_somebody_put_into_corrupt_is_marked_as_one(spool: SpoolStore, session: Session) -> None:
    path = path_of(spool, submitted(spool))
    copy(path, Path(spool.paths.corrupt, path.name))
    spool.repair()
    assert fsck.check(spool.paths) == []


def test_what_is_strange_in_pending_is_put_aside_with_every_byte(spool: SpoolStore, session: Session) -> None:
    good = submitted(spool)
    torn = path_of(spool, submitted(spool, priority=9))
    torn.write_text("torn", encoding="utf-8")
    for name in ("stray", "5-normal/stray", "5-normal/now-209912312359/stray.json"):
        Path(spool.paths.pending, name).parent.mkdir(exist_ok=True)
        Path(spool.paths.pending, name).write_text(f"the content of {name}", encoding="utf-8")
    assert len(spool.repair()) == 4
    assert fsck.broken(spool.paths) == []
    each_once(aside(spool))
    assert len(aside(spool)) == 4
    assert spool.counts()[State.QUEUED] == 1
    assert [claim.job.id for claim in claim_all(session, 1)] == [good.id]


def test_an_ended_job_in_pending_is_brought_to_where_it_ended(spool: SpoolStore, session: Session) -> None:
    job = submitted(spool)
    with path_of(spool, job).open("ab") as file:
        file.write(record.encoded(start(1)) + record.encoded(END))
    spool.repair()
    assert fsck.check(spool.paths) == []
    assert got(spool, job.id).state is State.DONE
    assert session.claim(1) == []


def test_what_every_spool_has_is_made_again_and_empty_buckets_go(spool: SpoolStore, session: Session) -> None:
    Path(spool.paths.claim_lock).unlink()
    Path(spool.paths.bucket(5, "now-202601010000")).mkdir()
    assert len(spool.repair()) == 2
    assert fsck.check(spool.paths) == []


def test_strange_things_elsewhere_are_left_for_a_person(spool: SpoolStore, session: Session) -> None:
    for name in ("done/today", f"claimed/{session.id}/stray", "workers/me"):
        Path(spool.paths.root, name).write_bytes(b"")
    assert spool.repair() == []
    assert codes(fsck.broken(spool.paths)) == {"strange-name": "I9"}


@pytest.mark.timeout(300)
def test_repairing_while_workers_work_loses_nothing_and_runs_nothing_twice(
    spool: SpoolStore, workers: Sessions, session: Session
) -> None:
    jobs: list[Job] = [submitted(spool, priority=n % 10) for n in range(600)]
    copies = [path_of(spool, job) for job in jobs[::20]]
    for path in copies:
        name = layout.pending_name(1795400000123, path.stem[-26:])
        copy(path, Path(spool.paths.bucket(0, "at-209912312359"), name))  # found by the repair alone
    processes = [workers.process(hammer=3) for _ in range(3)]
    for process in processes:
        process.said()
    for process in processes:
        process.tell("go")
    while spool.unfinished(now()).due:
        spool.repair()
    ran = each_once(job_id for process in processes for job_id in process.said()["claimed"])
    spool.repair()
    assert fsck.broken(spool.paths) == []
    done = {path.stem for path in Path(spool.paths.ended(State.DONE)).rglob("*.json")}
    waiting = {path.stem[-26:] for path in Path(spool.paths.pending).rglob("*.json")}
    assert ran == done
    assert done | waiting == {job.id for job in jobs}
    assert not done & waiting


def test_what_is_mended_is_logged(spool: SpoolStore, session: Session) -> None:
    Path(spool.paths.pending, "stray").touch()
    spool.repair()
    log = Path(spool.handle.settings.log_dir, "background_jobs_errors.log").read_text("utf-8")
    assert "stray" in log
