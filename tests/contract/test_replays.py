"""Where jobs are signed, a copy of a job that ended, whenever that was, is put aside, and the ended one stays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs.ids import new_id
from bgjobs.job import State, Succeeded, milliseconds, moment
from bgjobs.spool import find, layout
from tests.contract.stores import LANE, Sessions, SpoolKind, begin, claim_all, finish, got, new_job, now, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Claim, Session

HOURS = [0, 1, 2, 23, 46, 47, 48, 49, 167, 5000]


@pytest.fixture
def store(tmp_path: Path) -> SpoolKind:
    keys = tmp_path / "signing.keys"
    keys.touch(0o600)
    keys.write_text(f"key {'ab' * 32}\n", "utf-8")
    (tmp_path / "allowed_jobs.toml").write_text('[bgjobs]\ndurability = "os"\nsigning_keys = "signing.keys"\n', "utf-8")
    return SpoolKind(str(tmp_path))


@pytest.fixture
def spool(store: SpoolKind) -> SpoolStore:
    return store.open()


@pytest.fixture
def workers(store: SpoolKind) -> Iterator[Sessions]:
    made = Sessions(store)
    yield made
    made.close()


def job_of(ms: int) -> Job:
    """Return a job that was submitted at that moment."""
    return replace(new_job(), id=new_id(ms, lane=LANE), submitted_at=moment(ms), not_before=moment(ms))


def put_back(spool: SpoolStore, job: Job, data: bytes) -> None:
    """Put a job's line 1 into a bucket of its own, as somebody does who can write there."""
    ms = milliseconds(job.not_before)
    bucket = Path(spool.paths.bucket(job.priority, f"{layout.bucket(ms, at_once=True)}.{new_id()[-12:]}"))
    bucket.mkdir(mode=0o700)
    path = bucket / layout.pending_name(ms, job.id)
    path.write_bytes(data)
    path.chmod(0o600)


def reasons(spool: SpoolStore) -> list[str]:
    return [path.read_text("utf-8") for path in Path(spool.paths.corrupt).glob("*.reason")]


def claimed_until(spool: SpoolStore, session: Session, aside: int) -> list[Claim]:
    """Claim until so many files have been put aside; return what was claimed meanwhile."""
    found: list[Claim] = []

    def are_aside() -> bool:
        found.extend(session.claim(5))
        return len(reasons(spool)) == aside

    wait_until(are_aside)
    return found


@pytest.mark.parametrize("waited", HOURS)
@pytest.mark.parametrize("ago", HOURS)
def test_a_copy_of_a_job_is_known_however_long_it_waited_and_whenever_it_ended(
    spool: SpoolStore, workers: Sessions, waited: int, ago: int
) -> None:
    ended_ms = milliseconds(now()) - ago * layout.HOUR_MS
    job = job_of(ended_ms - waited * layout.HOUR_MS)
    spool.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    first = Path(claim.place).read_bytes()
    finish(session, claim, Succeeded())
    (record,) = Path(spool.paths.ended(State.DONE)).glob(f"*/{job.id}.json")
    then = Path(spool.paths.ended_path(State.DONE, layout.hour(moment(ended_ms)), job.id))
    then.parent.mkdir(exist_ok=True)
    shutil.move(record, then)
    before = then.read_bytes()
    put_back(spool, job, first)
    assert claimed_until(spool, session, 1) == []
    assert reasons(spool) == ["replayed: a job of this id is being run, or has ended\n"]
    assert then.read_bytes() == before


@pytest.mark.parametrize("ahead", [0, 30, 59])
def test_a_clock_that_was_ahead_by_less_than_an_hour_hides_no_ended_job(spool: SpoolStore, ahead: int) -> None:
    ms = milliseconds(now()) + ahead * layout.MINUTE_MS
    job = job_of(ms)
    path = Path(spool.paths.ended_path(State.FAILED, layout.hour(now()), job.id))
    path.parent.mkdir()
    path.touch()
    assert find.elsewhere(spool.paths, job.id, milliseconds(now())) is not None
    assert find.elsewhere(spool.paths, job_of(ms).id, milliseconds(now())) is None


def test_of_two_copies_that_wait_one_runs(spool: SpoolStore, workers: Sessions) -> None:
    job = new_job()
    spool.submit([job])
    (path,) = Path(spool.paths.pending).rglob(f"*{job.id}.json")
    put_back(spool, job, path.read_bytes())
    put_back(spool, replace(job, not_before=moment(milliseconds(job.not_before) - 5)), path.read_bytes())
    session = workers.join()
    (claim,) = claimed_until(spool, session, 2)
    assert claim.distrust is None
    finish(session, claim, Succeeded())
    assert session.claim(5) == []


def test_a_copy_of_a_running_job_does_not_take_the_place_of_its_file(spool: SpoolStore, workers: Sessions) -> None:
    job = new_job()
    spool.submit([job])
    session = workers.join()
    (claim,) = claim_all(session, 1)
    first = Path(claim.place).read_bytes()
    running = begin(session, claim)
    put_back(spool, job, first)  # under the very name that it had
    assert claimed_until(spool, session, 1) == []
    finish(session, claim, Succeeded(), running=running)
    ended = got(spool, job.id)
    assert (ended.state, len(ended.attempts)) == (State.DONE, 1)


def test_without_keys_nothing_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").mkdir()
    store = SpoolKind(str(tmp_path / "plain"))
    spool, workers = store.open(), Sessions(store)
    monkeypatch.setattr(find, "elsewhere", None)
    spool.submit([new_job()])
    session = workers.join()
    finish(session, claim_all(session, 1)[0], Succeeded())
    workers.close()
    assert spool.counts()[State.DONE] == 1
