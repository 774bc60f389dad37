"""Files that are swapped between two looks at them, and what another user can do to a spool: nothing."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bgjobs import disk, system
from bgjobs.errors import SpoolError
from bgjobs.job import State, Succeeded
from bgjobs.spool import record
from bgjobs.store import Selection
from tests.contract.spooling import corrupt, path_of, reasons, submitted
from tests.contract.stores import NO_SELECTION, Sessions, SpoolKind, claim_all, finish, got, info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and owners are POSIX")
root_only = pytest.mark.skipif(not system.is_elevated(), reason="only root can act as another user")
NOBODY = 65534
PRECIOUS = b'{"precious":true}\n'


@pytest.fixture
def store(tmp_path: Path) -> SpoolKind:
    return SpoolKind(str(tmp_path))


@pytest.fixture
def spool(store: SpoolKind) -> SpoolStore:
    return store.open()


@pytest.fixture
def workers(store: SpoolKind) -> Iterator[Sessions]:
    sessions = Sessions(store)
    yield sessions
    sessions.close()


def of_another_class(job: Job) -> bytes:
    """Return a valid job file of this id that asks for something else."""
    return record.line_1(replace(job, class_name="Another", method="thing"))


def before_it_is_opened(monkeypatch: pytest.MonkeyPatch, job: Job, place: str, act: Callable[[Path], object]) -> None:
    """Do something to a job's file, once, after it was found in `place` and before it is opened there."""
    open_read, done = disk.open_read, list[str]()

    def opened(path: str) -> int:
        if job.id in path and f"/{place}/" in path and not done:
            done.append(path)
            act(Path(path))
        return open_read(path)

    monkeypatch.setattr(disk, "open_read", opened)


def test_a_link_put_in_the_place_of_a_claimed_file_is_not_followed(
    spool: SpoolStore, workers: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(PRECIOUS)
    job, other = submitted(spool), submitted(spool)

    def swap(path: Path) -> None:
        path.unlink()
        path.symlink_to(precious)

    before_it_is_opened(monkeypatch, job, "claimed", swap)
    assert [claim.job.id for claim in claim_all(workers.join(), 1)] == [other.id]
    assert "a symbolic link" in reasons(spool)[0]
    assert precious.read_bytes() == PRECIOUS
    assert stat.S_IMODE(precious.stat().st_mode) == 0o644


def test_a_job_is_what_was_read_when_it_was_ours_and_not_what_it_was_when_it_was_looked_at(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(spool)
    before_it_is_opened(monkeypatch, job, "claimed", lambda path: path.write_bytes(of_another_class(job)))
    session = workers.join(selection=Selection(classes=frozenset({job.class_name})))
    assert session.claim(1) == []  # its name says the class that this worker takes, and the file another one
    (claim,) = claim_all(workers.join(), 1)
    assert (claim.job.class_name, claim.job.method) == ("Another", "thing")  # which the allowlist is asked for


def test_what_becomes_of_the_file_after_that_changes_nothing_of_the_claim(spool: SpoolStore, workers: Sessions) -> None:
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    path_of(spool, job).write_bytes(of_another_class(job))
    assert (claim.job.class_name, claim.job.method, claim.job.args) == (job.class_name, job.method, job.args)


@pytest.mark.parametrize("kind", ["a link", "a FIFO", "a directory"])
def test_what_is_put_in_the_place_of_a_running_jobs_file_gets_no_line(
    spool: SpoolStore, workers: Sessions, tmp_path: Path, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(PRECIOUS)
    job = submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    path = path_of(spool, job)
    path.unlink()
    if kind == "a link":
        path.symlink_to(precious)
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"symbolic link|not a plain file|[Ii]s a directory|No such device"):
        finish(session, claim, Succeeded())
    assert precious.read_bytes() == PRECIOUS


# Another user


def as_nobody(act: Callable[[], object]) -> str:
    """Do something as another user, in a child, and return what came of it."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            act()
            status = 2
        except PermissionError:
            status = 1
        finally:
            os._exit(status)
    return {1: "stopped", 2: "done", 3: "failed"}[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


@pytest.fixture
def seen() -> Iterator[Path]:
    """Return a folder that other users may enter, unlike those of the other tests."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@root_only
def test_another_user_can_neither_read_nor_change_nor_add_anything(seen: Path) -> None:
    spool = SpoolKind(str(seen)).open()
    job = submitted(spool)
    root, path = Path(spool.paths.root), path_of(spool, job)
    places = [Path(place) for place in spool.paths.directories()]
    tries: list[Callable[[], object]] = [
        path.read_bytes,
        path.unlink,
        lambda: path.rename(seen / "stolen"),
        lambda: root.rename(seen / "away"),
        lambda: (root / "pending").rename(root / "away"),
        lambda: (root / "VERSION").write_bytes(b"{}"),
        lambda: (root / "doorbell").write_bytes(b""),
        (root / "VERSION").unlink,
        (root / "new").mkdir,
        *(lambda place=place: list(place.iterdir()) for place in places),
        *(lambda place=place: (place / "x.json").write_bytes(b"{}") for place in places),
        *(lambda place=place: (place / "x.json").symlink_to("/") for place in places),
    ]
    for act in tries:
        assert as_nobody(act) == "stopped"
    assert as_nobody(lambda: list(seen.iterdir())) == "done"  # it is the spool that stops them
    assert spool.findings() == []
    assert got(spool, job.id).state is State.QUEUED


@root_only
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_a_worker_refuses_a_spool_in_a_directory_where_another_user_could_swap_it(seen: Path, owner: int) -> None:
    between = seen / "between"
    between.mkdir()
    spool = SpoolKind(str(between)).open()
    submitted(spool)
    between.chmod(0o777)
    os.chown(between, owner, -1)
    assert as_nobody(lambda: Path(spool.paths.root).rename(between / "away")) == "done"
    (between / "away").rename(spool.paths.root)
    with pytest.raises(SpoolError) as refused:
        spool.join(info(), NO_SELECTION)
    assert refused.value.code == ("not-ours" if owner else "open-to-others")
    assert str(between) in str(refused.value)


@root_only
def test_a_file_that_another_user_got_into_the_spool_is_put_aside_unread(spool: SpoolStore, workers: Sessions) -> None:
    job = submitted(spool)
    os.chown(path_of(spool, job), NOBODY, NOBODY)
    assert workers.join().claim(10) == []
    assert reasons(spool) == ["belongs to another user"]
    assert len(corrupt(spool)) == 1
