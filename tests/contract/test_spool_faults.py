"""What the spool does beyond the contract: strangers among its files, disks that fail, races at their worst moment."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from bgjobs import disk, files, lifecycle
from bgjobs.config import settings
from bgjobs.errors import BgjobsError, ClaimLostError, SessionLostError, SpoolError
from bgjobs.event_log import STATUS_LOG, Log
from bgjobs.ids import new_id
from bgjobs.job import Job, JobError, Raised, State, Succeeded, milliseconds
from bgjobs.spool import layout, record, transitions
from bgjobs.spool import recover as recovery
from bgjobs.spool.store import SpoolStore
from bgjobs.store import Filter, Selection
from tests.contract.stores import (
    FAR,
    LOST,
    POLICY,
    Sessions,
    SpoolKind,
    begin,
    claim_all,
    decided,
    finish,
    got,
    new_job,
    now,
    recover,
    recover_all,
    stored,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Outcome
    from bgjobs.store import Session
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs and links are POSIX")
quickly = pytest.mark.timeout(30)
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))
BROKEN = OSError(errno.EIO, "Input/output error")


def submitted(spool: SpoolStore, *, delay: timedelta = timedelta(0), priority: int = 5) -> Job:
    job = new_job(delay=delay, priority=priority)
    spool.submit([job])
    return job


def path_of(spool: SpoolStore, job_id: str) -> Path:
    """Return where the file of a job lies."""
    (found,) = Path(spool.paths.root).rglob(f"*{job_id}.json")
    return found


def corrupt(spool: SpoolStore) -> dict[str, bytes]:
    """Return what lies in `corrupt/`, without the reasons."""
    folder = Path(spool.paths.corrupt)
    found = (path for path in folder.iterdir() if path.suffix != ".reason")
    return {path.name: path.read_bytes() if path.is_file() and path.stat().st_size < 2**20 else b"" for path in found}


def reasons(spool: SpoolStore) -> str:
    return " ".join(path.read_text(encoding="utf-8") for path in Path(spool.paths.corrupt).glob("*.reason"))


# Submitting


@pytest.mark.parametrize("count", [1, 3])
def test_workers_are_rung_as_soon_as_jobs_can_be_seen_and_before_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    config = tmp_path / "allowed_jobs.toml"
    config.write_text("[bgjobs]\n", encoding="utf-8")
    configured = settings.load(config=str(config), environ={})
    spool = SpoolStore(configured, Log(configured.log_dir))
    steps: list[str] = []

    def watch(name: str) -> None:
        original: Callable[..., object] = getattr(disk, name)

        def step(*args: object) -> object:
            steps.append(name)
            return original(*args)

        monkeypatch.setattr(disk, name, step)

    for name in ("move", "ring", "sync_file", "sync_directory", "sync_filesystem"):
        watch(name)
    spool.submit([new_job() for _ in range(count)])
    rang = steps.index("ring")
    assert "move" in steps[:rang]
    assert any(step.startswith("sync") for step in steps[rang:])
    assert steps.count("ring") == 1


# Setting up


def test_many_that_need_a_new_spool_at_once_all_get_it(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).mkdir()
        store, start = SpoolKind(str(tmp_path / str(number))), Barrier(4)

        def first(store: SpoolKind = store, start: Barrier = start) -> Job:
            start.wait()
            spool = store.open()
            return submitted(spool)

        with ThreadPoolExecutor(4) as pool:
            jobs = [future.result() for future in [pool.submit(first) for _ in range(4)]]
        assert [store.open().get(job.id) for job in jobs] == jobs


@pytest.mark.parametrize("steps", range(1, 40))
def test_a_spool_whose_making_was_broken_off_is_made_by_the_next(
    store: SpoolKind, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    left = steps

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def step(*args: object, **named: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise BROKEN
            real(*args, **named)

        return step

    with monkeypatch.context() as patch:
        for name in ("make_directory", "create", "move", "sync_directory"):
            patch.setattr(files, name, failing(getattr(files, name)))
        try:
            store.open()
        except SpoolError:
            pass
        else:
            assert left >= 0
    job = submitted(store.open())
    assert store.open().get(job.id) == job


def test_a_spool_that_lost_its_version_is_not_made_anew(store: SpoolKind, spool: SpoolStore) -> None:
    submitted(spool)
    Path(spool.paths.version).unlink()
    with pytest.raises(SpoolError, match="VERSION"):
        store.open()
    assert not Path(spool.paths.version).exists()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format":2}', b"\0" * 100, b"nonsense", b"[]"])
def test_a_spool_of_an_unknown_format_is_left_alone(store: SpoolKind, spool: SpoolStore, content: bytes) -> None:
    Path(spool.paths.version).write_bytes(content)
    with pytest.raises(SpoolError):
        store.open()
    assert Path(spool.paths.version).read_bytes() == content


def test_a_readme_and_dotfiles_do_not_make_a_spool(store: SpoolKind, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "README.md").touch()
    (tmp_path / "spool" / ".gitignore").touch()
    job = submitted(store.open())
    assert store.open().get(job.id) == job


def test_a_spool_that_vanishes_under_a_worker_is_noticed_and_never_made_again(
    spool: SpoolStore, workers: Sessions, tmp_path: Path
) -> None:
    session = workers.join()
    session.renew({})
    (tmp_path / "spool").rename(tmp_path / "away")
    with pytest.raises(SessionLostError):
        session.renew({})
    with pytest.raises((OSError, BgjobsError)):
        spool.submit([new_job()])
    assert not (tmp_path / "spool").exists()
    (tmp_path / "away").rename(tmp_path / "spool")
    session.renew({})


@posix_only
def test_a_copy_of_a_spool_that_was_made_of_links_is_refused_with_the_way_to_copy_it(
    spool: SpoolStore, tmp_path: Path
) -> None:
    shutil.copytree(spool.paths.root, tmp_path / "copy", copy_function=os.link)
    with pytest.raises(SpoolError, match="cp -a"):
        SpoolStore(replace(spool.handle.settings, spool=str(tmp_path / "copy")), spool.handle.emit)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("lost", ["tmp", "pending", "pending/5-normal"])
def test_a_directory_that_was_removed_is_made_again_by_who_submits(spool: SpoolStore, lost: str, count: int) -> None:
    submitted(spool, priority=4)  # what the spool knows of its directories is old
    shutil.rmtree(Path(spool.paths.root, lost))
    jobs = [new_job() for _ in range(count)]
    spool.submit(jobs)
    assert {job.id for job in jobs} <= {job.id for job in spool.jobs(Filter())}


@pytest.mark.parametrize("lost", ["tmp", "done", "failed", "pending", "output", "corrupt", "incoming", "locks"])
def test_a_directory_that_was_removed_is_made_again_by_a_worker_that_runs(
    spool: SpoolStore, workers: Sessions, lost: str
) -> None:
    session = workers.join()
    shutil.rmtree(Path(spool.paths.root, lost))
    session.renew({})
    assert [path for path in spool.paths.directories() if not files.exists(path)] == []
    job = submitted(spool)
    [claim] = claim_all(session, 1)
    finish(session, claim, Succeeded(msgspec.Raw(b"1")))
    assert got(spool, job.id).state is State.DONE


@pytest.mark.parametrize("missed", [False, True])
def test_an_idle_worker_whose_directory_of_claims_was_removed_goes_on(
    spool: SpoolStore, workers: Sessions, *, missed: bool
) -> None:
    session = workers.join()
    Path(spool.paths.claims_of(session.id)).rmdir()
    Path(spool.paths.root, "claimed").rmdir()
    job = submitted(spool)
    if missed:  # it tries to claim before it looks for lost directories
        with pytest.raises(OSError, match="No such file"):
            session.claim(1)
    session.renew({})
    [claim] = claim_all(session, 1)
    assert claim.job.id == job.id
    finish(session, claim, Succeeded(msgspec.Raw(b"1")))
    assert got(spool, job.id).state is State.DONE


def test_a_worker_looks_for_lost_directories_now_and_then_and_not_at_each_turn(
    spool: SpoolStore, workers: Sessions
) -> None:
    session = workers.join()
    session.renew({})
    began, turns, lost = time.monotonic(), 0, Path(spool.paths.root, "output")
    shutil.rmtree(lost)
    while not lost.exists():
        session.renew({})
        turns += 1
        assert time.monotonic() - began < 60
    assert turns > 1


def test_a_lost_doorbell_is_made_again_and_works(spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    Path(spool.paths.doorbell).unlink()
    session.bell.rang()
    session.renew({})
    assert Path(spool.paths.doorbell).exists()
    session.bell.rang()
    had_to_be_polled = session.bell.fileno() is None
    submitted(spool)
    assert session.bell.rang()
    assert had_to_be_polled == (sys.platform == "win32")


def test_a_count_that_was_lost_is_made_again(spool: SpoolStore) -> None:
    submitted(spool)
    before = spool.counts()
    for path in (spool.paths.counted, spool.paths.queued):
        Path(path).unlink(missing_ok=True)
    assert spool.counts() == before
    submitted(spool)
    assert spool.counts()[State.QUEUED] == before[State.QUEUED] + 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a lock file that is held")
def test_a_worker_whose_lock_file_was_deleted_stops(spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    Path(spool.paths.worker(session.id, "alive.lock")).unlink()
    with pytest.raises(SessionLostError):
        session.renew({})
    assert list(workers.join().recover()) == []


# Strangers in pending/


def plant(spool: SpoolStore, make: Callable[[Path], object], *, name: str | None = None) -> str:
    """Make something in a bucket of `pending/` under the name of a job, and return the id."""
    job_id = new_id()
    ms = milliseconds(now())
    bucket = Path(spool.paths.bucket(5, layout.bucket(ms, at_once=True)))
    bucket.mkdir(exist_ok=True)
    make(bucket / (name or layout.pending_name(ms, job_id)))
    return job_id


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def of_a_terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def hard_link(path: Path) -> None:
    target = path.parents[3] / "target"
    target.write_bytes(b"precious")
    path.hardlink_to(target)


def symbolic_link(path: Path) -> None:
    target = path.parents[3] / "target"
    target.write_bytes(b"precious")
    path.symlink_to(target)


STRANGERS: list[Callable[[Path], object]] = [
    content(b""),
    content(b"\0" * 300),
    content(b'{"format":1}'),
    content(b"\xef\xbb\xbf{}"),
    content(b"[" * 100_000),
    lambda path: path.write_bytes(record.line_1(new_job())),  # another id inside
    lambda path: path.mkdir(),
    of_a_terabyte,
    *([] if sys.platform == "win32" else [os.mkfifo, hard_link, symbolic_link, lambda path: path.symlink_to(path)]),
]


@quickly
@pytest.mark.parametrize("number", range(len(STRANGERS)))
def test_a_stranger_in_the_queue_is_put_aside_and_the_jobs_beside_it_run(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, number: int
) -> None:
    first = submitted(spool)
    job_id = plant(spool, STRANGERS[number])
    last = submitted(spool)
    session = workers.join()
    assert [claim.job.id for claim in claim_all(session, 2)] == [first.id, last.id]
    assert session.claim(10) == []
    (name,) = corrupt(spool)
    assert job_id in name
    assert spool.counts()[State.CORRUPT] == 1
    assert reasons(spool)
    assert job_id in Path(spool.handle.settings.log_dir, STATUS_LOG).read_text(encoding="utf-8")
    target = Path(spool.paths.root, "target")
    assert not target.exists() or target.read_bytes() == b"precious"
    assert store.holders()[first.id] == [State.RUNNING]


@quickly
def test_a_stranger_can_neither_be_seen_nor_cancelled_wrongly(spool: SpoolStore) -> None:
    job_id = plant(spool, content(b"garbage"))
    with pytest.raises(SpoolError) as found:
        spool.get(job_id)
    assert "moves faster" not in str(found.value)
    assert list(spool.jobs(Filter())) == []


@pytest.mark.parametrize(
    "names",
    [
        ["x", "x.reason"],
        ["x.reason", "x"],
        ["x", "x.1"],
        pytest.param(["..."], marks=posix_only),
        pytest.param(["." * 200], marks=posix_only),
        ["y" * 200],
    ],
)
def test_strange_names_are_put_aside_whatever_they_are_and_lose_no_job(
    spool: SpoolStore, workers: Sessions, names: list[str]
) -> None:
    first = submitted(spool)
    for name in names:
        plant(spool, content(name.encode()), name=name)
    last = submitted(spool)
    session = workers.join()
    found: list[str] = []
    for _ in range(len(names) + 1):
        found += [claim.job.id for claim in session.claim(10)]
    assert found == [first.id, last.id]
    kept = sorted(path.read_bytes() for path in Path(spool.paths.corrupt).iterdir())
    assert sorted(name.encode() for name in names) == [data for data in kept if b"not a job" not in data]


@posix_only
def test_a_name_that_is_no_text_is_put_aside(spool: SpoolStore, workers: Sessions) -> None:
    plant(spool, content(b"strange"), name=os.fsdecode(b"\xff\xfe\n\x1b.json"))
    assert workers.join().claim(10) == []
    assert list(corrupt(spool).values()) == [b"strange"]
    assert all(name.isprintable() for name in corrupt(spool))


def test_a_second_file_of_a_job_that_has_ended_is_put_aside(
    store: SpoolKind, spool: SpoolStore, workers: Sessions
) -> None:
    job = submitted(spool)
    copy = path_of(spool, job.id).read_bytes()
    session = workers.join()
    finish(session, claim_all(session, 1)[0], Succeeded())
    before = store.ended()
    path = Path(spool.paths.bucket(5, "now-202611230213"), layout.pending_name(milliseconds(job.not_before), job.id))
    path.parent.mkdir()
    path.write_bytes(copy)
    store.settle()
    for claim in claim_all(session, 1):
        finish(session, claim, Succeeded())
    assert store.ended() == before
    assert len(corrupt(spool)) == 1
    assert "duplicate" in reasons(spool)


def test_a_copy_of_a_job_that_is_being_run_does_not_take_the_place_of_its_record(
    store: SpoolKind, spool: SpoolStore, workers: Sessions
) -> None:
    job = submitted(spool)
    copy = path_of(spool, job.id).read_bytes()
    session = workers.join()
    (claim,) = claim_all(session, 1)
    running = begin(session, claim)
    path = Path(spool.paths.bucket(5, "now-202611230213"), layout.pending_name(milliseconds(job.not_before), job.id))
    path.parent.mkdir()
    path.write_bytes(copy)
    store.settle()
    wait_until(lambda: bool(session.claim(10)) or bool(corrupt(spool)))
    finish(session, claim, Succeeded(), running=running)
    ended = got(spool, job.id)
    assert (ended.state, len(ended.attempts)) == (State.DONE, 1)
    assert "duplicate" in reasons(spool)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
def test_a_job_that_has_ended_and_lies_in_pending_again_is_not_run_again(
    spool: SpoolStore, workers: Sessions, state: State
) -> None:
    ended, job = submitted(spool, priority=9), submitted(spool)
    end = record.End(at=milliseconds(now()), state=state)
    files.append(str(path_of(spool, ended.id)), record.encoded(end))
    before = path_of(spool, ended.id).read_bytes()
    session = workers.join()
    assert [claim.job.id for claim in claim_all(session, 1)] == [job.id]
    assert got(spool, ended.id).state is state
    assert path_of(spool, ended.id).read_bytes() == before


def test_a_job_that_has_ended_in_no_state_is_put_aside(spool: SpoolStore, workers: Sessions) -> None:
    ended = submitted(spool)
    files.append(str(path_of(spool, ended.id)), record.encoded(record.End(at=1, state=State.QUEUED)))
    assert workers.join().claim(1) == []
    assert len(corrupt(spool)) == 1
    assert "unknown state" in reasons(spool)


def test_a_job_of_a_newer_format_is_left_for_a_newer_worker(spool: SpoolStore, workers: Sessions) -> None:
    newer = msgspec.json.encode({"format": 2, "id": "…", "isolation": "fresh"})
    job_id = plant(spool, content(newer))
    session = workers.join()
    job = submitted(spool)
    assert [claim.job.id for claim in session.claim(10)] == [job.id]
    assert path_of(spool, job_id).read_bytes() == newer
    assert corrupt(spool) == {}
    assert spool.counts()[State.SCHEDULED] == 1


def test_events_from_nowhere_do_not_stop_a_worker(spool: SpoolStore, workers: Sessions) -> None:
    jobs = [submitted(spool) for _ in range(3)]
    for event in (
        {"event": "end", "at": 10**30, "state": "done"},
        {"event": "start", "at": 1},
        {"event": "lost", "at": -9},
    ):
        files.append(str(path_of(spool, jobs[1].id)), msgspec.json.encode(event) + b"\n")
    session = workers.join()
    assert {claim.job.id for claim in claim_all(session, 3)} == {job.id for job in jobs}


def test_an_event_that_names_another_place_leads_nowhere(spool: SpoolStore, workers: Sessions, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "r0.out").write_text("secret", encoding="utf-8")
    job = submitted(spool)
    start = record.Start(
        at=1, wid=str(tmp_path / "elsewhere"), number=1, worker="w", slot=0, pid=1, birth="1", boot="b"
    )
    files.append(str(path_of(spool, job.id)), record.encoded(start))
    claim_all(workers.join(), 1)
    assert spool.output_file(job, 1) is None
    assert spool.read_output(job, 1) == b""


# Disks that fail


def assert_none_is_stranded(spool: SpoolStore, session: Session, jobs: list[Job], found: list[str]) -> None:
    """Fail if a job is in the hands of a worker that does not know of it: nobody would ever run it."""

    def each_is_known_or_waits_its_turn() -> bool:
        found.extend(claim.job.id for claim in session.claim(len(jobs)))
        return all(job.id in found or got(spool, job.id).state is not State.RUNNING for job in jobs)

    wait_until(each_is_known_or_waits_its_turn)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("most", [1, 3])
def test_a_file_that_cannot_be_read_costs_no_other_job(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    jobs = [submitted(spool) for _ in range(3)]
    session = workers.join()
    read = files.read

    def failing(path: str, most: int) -> bytes:
        if jobs[1].id in path:
            raise BROKEN
        return read(path, most)

    found: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "read", failing)
        for _ in range(10):
            try:
                found += [claim.job.id for claim in session.claim(most)]
            except OSError:
                continue
    assert found == [jobs[0].id, jobs[2].id]
    assert_none_is_stranded(spool, session, jobs, found)


def test_a_full_table_of_descriptors_strands_no_job(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [submitted(spool) for _ in range(3)]
    session = workers.join()

    def full(path: str, most: int) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(files, "read", full)
        try:
            assert session.claim(3) == []
        except OSError:
            pass
    assert_none_is_stranded(spool, session, jobs, [])


def test_a_move_that_fails_strands_no_job(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [submitted(spool) for _ in range(3)]
    session = workers.join()
    move, moved = files.move, 0

    def failing(source: str, target: str) -> None:
        nonlocal moved
        moved += 1
        if moved > 1:
            raise BROKEN
        move(source, target)

    found: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "move", failing)
        try:
            found += [claim.job.id for claim in session.claim(3)]
        except OSError:
            pass
    assert_none_is_stranded(spool, session, jobs, found)


@pytest.mark.parametrize(
    ("step", "at"), [("open_new", 7), ("write", 7), ("mkdir", 3), ("move", 3), ("sync_directory", 2)]
)
def test_of_jobs_that_are_submitted_together_none_is_queued_if_one_cannot_be_stored(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    jobs = [new_job(priority=number % 3, delay=timedelta(hours=number % 2)) for number in range(12)]
    spool.submit([new_job()])
    spool.handle.durable = True
    spool._submitter._publisher = None
    original: Callable[..., object] = getattr(disk, step)
    calls = 0

    def failing(*args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(disk, step, failing)
        with pytest.raises(SpoolError, match="no space left"):
            spool.submit(jobs)
    assert sum(spool.counts().values()) == 1
    assert {path.name for path in Path(spool.paths.tmp).iterdir()} <= {"trash"}
    spool.submit(jobs)
    assert sum(spool.counts().values()) == 13


def test_a_job_that_ended_on_a_full_disk_ended_all_the_same(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    running = begin(session, claim)

    def full(path: str, line: bytes, *, sync: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "append", full)
        finish(session, claim, Succeeded(), running=running)
    assert got(spool, job.id).state is State.DONE
    assert store.holders() == {job.id: [State.DONE]}


def test_a_decision_that_was_written_but_not_carried_out_can_be_stored_again(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [submitted(spool) for _ in range(2)]
    session = workers.join()
    claims = claim_all(session, 2)
    ended = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "move", _broken)
        outcomes: list[Outcome] = [Succeeded(), RAISED]
        for claim, outcome in zip(claims, outcomes, strict=True):
            running = begin(session, claim)
            verdict, at = decided(running, outcome), now()
            for _ in range(3):  # as at each tick of the worker
                with pytest.raises(OSError, match="Input/output"):
                    stored(session, claim, verdict, running=running, at=at)
            ended.append((running, verdict, at))
    for claim, (running, verdict, at) in zip(claims, ended, strict=True):
        stored(session, claim, verdict, running=running, at=at)
    assert [got(spool, job.id).state for job in jobs] == [State.DONE, State.QUEUED]
    assert [got(spool, job.id).charged for job in jobs] == [1, 1]
    assert [len(got(spool, job.id).attempts) for job in jobs] == [1, 1]


def _broken(source: str, target: str) -> None:
    raise BROKEN


def test_what_a_recoverer_decided_and_did_not_carry_out_is_carried_out_by_the_next(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    for _ in range(2):
        workers.dead(claim=1, begin=1)
        first = workers.join()
        recovering = first.recover()
        claim = next(recovering)
        verdict, at = decided(claim.job, LOST, replace(POLICY, retry_delay=FAR, max_retry_delay=FAR)), now()
        meant = lifecycle.applied(claim.job, verdict, at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "move", _broken)
            with pytest.raises(OSError, match="Input/output"):
                stored(first, claim, verdict, at=at)
        recovering.close()  # type: ignore[attr-defined]  # a generator, and this is how one is dropped
        workers.abandon(first)
        assert recover_all(spool, workers.join()) == []
        kept = got(spool, job.id)
        assert (kept.state, kept.not_before, kept.crashes) == (meant.state, meant.not_before, meant.crashes)


# Races at their worst moment


def test_a_cancel_that_is_done_before_it_is_checked_is_not_refused(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    running = begin(session, claim)
    create = files.create

    def create_and_let_the_worker_act(path: str, data: bytes, *, sync: bool) -> None:
        create(path, data, sync=sync)
        if "cancel-" in path:
            finish(session, claim, RAISED, running=running)

    monkeypatch.setattr(files, "create", create_and_let_the_worker_act)
    assert spool.cancel(job.id, "ann") in {"cancelled", "requested"}
    assert got(spool, job.id).state is State.CANCELLED
    assert store.holders() == {job.id: [State.CANCELLED]}


def test_a_request_to_cancel_that_is_half_written_still_names_who_asked(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    running = begin(session, claim)
    write_all = files.write_all
    acted: list[bool] = []

    def write_after_the_worker_acted(descriptor: int, data: bytes) -> None:
        if not acted:
            acted.append(True)
            session.renew({})
            finish(session, claim, RAISED, running=running)
        write_all(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", write_after_the_worker_acted)
        assert spool.cancel(job.id, "ann@web1") in {"cancelled", "requested"}
    assert got(spool, job.id).error == JobError(type="Cancelled", message="by ann@web1")
    assert store.holders() == {job.id: [State.CANCELLED]}


def test_a_request_to_cancel_just_before_a_dead_workers_job_returns_cancels_it(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    workers.dead(claim=1)
    session = workers.join()
    other = store.open()
    to_pending, answers = transitions.Transitions.to_pending, []

    def asked_in_between(self: transitions.Transitions, *args: object, **named: object) -> str:
        answers.append(other.cancel(job.id, "ann"))
        return to_pending(self, *args, **named)  # type: ignore[arg-type]  # whatever it was called with

    with monkeypatch.context() as patch:
        patch.setattr(transitions.Transitions, "to_pending", asked_in_between)
        recover(session)
    recover_all(spool, session)
    assert answers == ["requested"]
    assert got(spool, job.id).state is State.CANCELLED


def test_a_bucket_that_is_removed_while_a_job_goes_there_is_made_again(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = files.move
    removed: list[Path] = []

    def after_a_removal(source: str, target: str) -> None:
        bucket = Path(target).parent
        if "pending" in bucket.parts and len(removed) < 3 and not any(bucket.iterdir()):
            bucket.rmdir()
            removed.append(bucket)
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files, "move", after_a_removal)
        job = submitted(spool)
    assert got(spool, job.id) == job
    session = workers.join()
    (claim,) = claim_all(session, 1)
    with monkeypatch.context() as patch:
        removed.clear()
        patch.setattr(files, "move", after_a_removal)
        session.release(claim)
    assert removed
    assert got(spool, job.id) == job


def test_a_worker_between_its_directory_and_its_lock_is_not_taken_for_dead(
    spool: SpoolStore, workers: Sessions
) -> None:
    wid = new_id()
    Path(spool.paths.worker(wid)).mkdir()
    Path(spool.paths.worker(wid, "alive.lock")).touch()
    assert list(workers.join().recover()) == []
    assert Path(spool.paths.worker(wid, "alive.lock")).exists()


@pytest.mark.parametrize("names", [[], ["alive.lock"]])
def test_a_worker_that_died_before_it_was_ready_is_cleared_away_after_a_while(
    spool: SpoolStore, workers: Sessions, names: list[str]
) -> None:
    wid = new_id()
    Path(spool.paths.worker(wid)).mkdir()
    for name in names:
        Path(spool.paths.worker(wid, name)).touch()
    os.utime(spool.paths.worker(wid), (0, 0))
    session = workers.join()
    assert list(session.recover()) == []
    assert not Path(spool.paths.worker(wid)).exists()


def test_what_is_no_worker_among_the_workers_is_left_alone(spool: SpoolStore, workers: Sessions) -> None:
    Path(spool.paths.workers, "README").touch()
    Path(spool.paths.workers, "..x").mkdir()
    session = workers.join()
    assert list(session.recover()) == []
    assert [worker.id for worker in spool.workers()] == [session.id]


def test_claims_without_any_worker_are_recovered(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "LOST_PLACE_S", 0.05)
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    lost = Path(spool.paths.claims_of(new_id()))
    lost.mkdir()
    Path(claim.place).rename(lost / Path(claim.place).name)
    with pytest.raises(ClaimLostError):
        session.release(claim)
    other = workers.join()
    wait_until(lambda: list(other.recover()) == [] and got(spool, job.id).state is State.QUEUED)
    assert store.holders() == {job.id: [State.QUEUED]}


# Leaving


def test_after_all_left_only_jobs_are_left(spool: SpoolStore, workers: Sessions) -> None:
    submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    session.slots.started(0, os.getpid(), "1")
    Path(session.slots.lock(0)).touch()
    Path(session.slots.output(0)).touch()
    spool.cancel(claim.job.id, "ann")
    finish(session, claim, Succeeded())
    workers.leave(session)
    for folder in (spool.paths.workers, spool.paths.claimed, spool.paths.tmp):
        assert [path.name for path in Path(folder).iterdir() if path.name != "trash"] == []


# Finding


def test_a_job_is_found_by_a_worker_that_takes_only_its_class_among_strangers(
    spool: SpoolStore, workers: Sessions
) -> None:
    plant(spool, content(b"garbage"))
    job = new_job(class_name="Post")
    spool.submit([job])
    (claim,) = workers.join(Selection(classes=frozenset({"Post"}))).claim(5)
    assert claim.job.id == job.id
    assert corrupt(spool) == {}  # a worker without a selection sorts it out


@pytest.mark.parametrize("durability", ["full", "os"])
def test_both_durabilities_keep_jobs(tmp_path: Path, durability: str) -> None:
    config = tmp_path / "allowed_jobs.toml"
    config.write_text(f'[bgjobs]\ndurability = "{durability}"\n', encoding="utf-8")
    configured = settings.load(config=str(config), environ={})
    spool = SpoolStore(configured, Log(configured.log_dir))
    jobs = [new_job() for _ in range(5)]
    spool.submit(jobs[:1])
    spool.submit(jobs[1:])
    assert [spool.get(job.id) for job in jobs] == jobs
    assert [path.name for path in Path(spool.paths.tmp).iterdir()] == ["trash"]


# After a power cut


@pytest.mark.parametrize("left", [b"", bytes(200), b'{"boot":"another","birth":"1","worker":{"pid":1}}'])
def test_what_was_claimed_when_the_power_went_counts_as_begun(
    spool: SpoolStore, workers: Sessions, left: bytes
) -> None:
    """The `start` line may be gone with the power, and what the worker said of itself, too."""
    job = submitted(spool)
    dead = workers.join()
    claim_all(dead, 1)
    workers.abandon(dead)
    Path(spool.paths.worker(dead.id, "info")).write_bytes(left)
    (lost,) = recover(workers.join())
    assert (lost.id, lost.crashes) == (job.id, 1)


def test_a_job_that_has_ended_and_still_waits_is_moved_and_does_not_run_again(
    spool: SpoolStore, workers: Sessions
) -> None:
    """Some file systems lose a rename in a power cut and keep the line that was written after it."""
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    where = Path(spool.paths.bucket(5, layout.bucket(milliseconds(job.not_before), at_once=True)))
    before = where / layout.pending_name(milliseconds(job.not_before), job.id)
    finish(session, claim, Succeeded(msgspec.Raw(b'"sent"')))
    path_of(spool, job.id).rename(before)
    wait_until(lambda: session.claim(1) == [] and not before.exists())
    kept = got(spool, job.id)
    assert (kept.state, len(kept.attempts)) == (State.DONE, 1)
    assert bytes(kept.result_json or b"") == b'"sent"'
