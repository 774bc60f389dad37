"""Whatever lies among the jobs, or in the place of a lock: it blocks no job, and nothing outside is touched."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import disk
from bgjobs.errors import SpoolError
from bgjobs.event_log import ERROR_LOG
from bgjobs.job import State, Succeeded
from bgjobs.spool import record
from tests.contract.spooling import corrupt, path_of, plant, reasons, submitted
from tests.contract.stores import Sessions, claim_all, finish, got, new_job, recover

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.spool.store import SpoolStore

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, devices and links are POSIX")
PRECIOUS = b"precious"


# What is not a job


OTHER = new_job(args=("HERE",))


def line() -> bytes:
    """Return line 1 of a job that is valid as soon as it has the id of its file."""
    return record.line_1(OTHER)


def with_argument(text: bytes) -> bytes:
    """Return line 1 of a job whose one argument is this text, which may be no JSON."""
    return line().replace(b'"HERE"', text)


def written(data: bytes) -> Callable[[Path], object]:
    """Return what writes a job file with the id of its name."""
    return lambda path: path.write_bytes(data.replace(OTHER.id.encode(), path.stem[-26:].encode()))


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "torn": (line()[:-40], "truncated"),
    "zero-filled": (bytes(300), "JSON"),
    "padded with NUL": (line().rstrip() + bytes(100), "JSON"),
    "garbage": (bytes(range(256)) * 8, "not JSON at character 1"),
    "bad UTF-8": (with_argument(b'"\xff"'), "not UTF-8 at byte"),
    "BOM": (b"\xef\xbb\xbf" + line(), "JSON"),
    "UTF-16": (line().decode().encode("utf-16"), "not UTF-8 at byte 1"),
    "text behind it": (line().rstrip() + b" and more\n", "JSON"),
    "NaN": (with_argument(b"NaN"), "JSON"),
    "Infinity": (with_argument(b"-Infinity"), "JSON"),
    "1e999": (with_argument(b"1e999"), "out of range"),
    "lone surrogate": (with_argument(b'"\\ud800"'), "JSON"),
    "a field twice": (line().replace(b'"priority":5', b'"priority":5,"priority":9'), "twice"),
    "a key twice": (with_argument(b'{"a":1,"a":2}'), "twice"),
    "depth 100,000": (with_argument(b"[" * 100_000 + b"]" * 100_000), "deep"),
    "depth 100,000, not closed": (b"[" * 100_000, "deep"),
    "a number of 5,000 digits": (with_argument(b"9" * 5_000), "range"),
    "an unknown field": (line().replace(b'"format":1', b'"format":1,"run_as":"root"'), "run_as"),
    "true for a number": (line().replace(b'"priority":5', b'"priority":true'), "priority"),
    "a fraction for a number": (line().replace(b'"priority":5', b'"priority":5.0'), "priority"),
    "another id": (line(), "id"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_not_a_job_is_put_aside_with_the_reason_and_blocks_none(
    spool: SpoolStore, workers: Sessions, kind: str
) -> None:
    data, word = CONTENTS[kind]
    first = submitted(spool)
    planted = plant(spool, (lambda path: path.write_bytes(data)) if kind == "another id" else written(data))
    last = submitted(spool)
    session = workers.join()
    assert [claim.job.id for claim in claim_all(session, 2)] == [first.id, last.id]
    assert session.claim(10) == []
    (kept,) = corrupt(spool)
    assert planted in kept.name
    assert len(kept.read_bytes()) == len(data)  # as it was: a person may want to see it
    (reason,) = reasons(spool)
    assert word in reason, reason


def test_what_differs_from_those_in_nothing_is_a_job(spool: SpoolStore, workers: Sessions) -> None:
    planted = plant(spool, written(line()))
    assert [claim.job.id for claim in claim_all(workers.join(), 1)] == [planted]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bind(path: Path) -> None:
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as strange:  # the address of a socket is short
        strange.bind(path.name)


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which never ends


def linked(path: Path) -> None:
    precious(path).touch()
    path.hardlink_to(precious(path))


def precious(path: Path) -> Path:
    target = path.parents[3] / "target"
    target.write_bytes(PRECIOUS)
    return target


NO_PLAIN_FILES: dict[str, Callable[[Path], object]] = {
    "a terabyte of nothing": lambda path: sparse(path, 1 << 40),
    "2 GB": lambda path: sparse(path, 1 << 31),
    "a FIFO": fifo,
    "a socket": bind,
    "a device": device,
    "a directory": lambda path: path.mkdir(),
    "a full directory": lambda path: (path / "inside").mkdir(parents=True),
    "a link": lambda path: path.symlink_to(precious(path)),
    "a dangling link": lambda path: path.symlink_to("/no/such/file"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a directory": lambda path: path.symlink_to("/"),
    "a hard link": linked,
}


@posix_only
@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", NO_PLAIN_FILES)
def test_what_is_no_plain_file_is_put_aside_without_a_look_into_it(
    spool: SpoolStore, workers: Sessions, kind: str
) -> None:
    first = submitted(spool)
    planted = plant(spool, NO_PLAIN_FILES[kind])
    last = submitted(spool)
    session = workers.join()
    assert [claim.job.id for claim in claim_all(session, 2)] == [first.id, last.id]
    assert session.claim(10) == []
    (kept,) = corrupt(spool)
    assert planted in kept.name
    (reason,) = reasons(spool)
    assert reason
    target = Path(spool.paths.root, "target")
    assert not target.exists() or target.read_bytes() == PRECIOUS


@pytest.mark.parametrize("job_id", ["../../x", "/etc/passwd", "a\0b", "0" * 300, "01M" + "0" * 23, "con", "nul.json"])
def test_no_path_is_built_from_what_is_no_id(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch, job_id: str) -> None:
    data = line().replace(OTHER.id.encode(), job_id.encode().replace(b"\0", b"\\u0000"))
    planted = plant(spool, lambda path: path.write_bytes(data))
    with pytest.raises(SpoolError, match=planted):
        spool.get(planted)


# What may not be touched


@posix_only
@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO])
@pytest.mark.parametrize("place", ["bucket", "priority"])
def test_a_directory_that_cannot_be_read_hides_no_job_in_another(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch, code: int, place: str
) -> None:
    hidden = submitted(spool, priority=9)
    jobs = [submitted(spool, priority=priority) for priority in (5, 2)]
    bucket = path_of(spool, hidden).parent
    closed = str(bucket if place == "bucket" else bucket.parent)
    listdir = disk.listdir

    def refused(path: str) -> list[str]:
        if path == closed:
            raise OSError(code, os.strerror(code), path)
        return listdir(path)

    session = workers.join()
    with monkeypatch.context() as patch:
        patch.setattr(disk, "listdir", refused)
        assert [claim.job.id for claim in claim_all(session, 2)] == [job.id for job in jobs]
        for _ in range(10):
            assert session.claim(10) == []
    log = Path(spool.handle.settings.log_dir, ERROR_LOG).read_text(encoding="utf-8")
    assert log.count("left alone") == 1  # said once, however often it is looked at
    assert f"{os.path.relpath(closed, spool.paths.root)}: {os.strerror(code)}" in log
    assert [claim.job.id for claim in claim_all(session, 1)] == [hidden.id]  # once it can be read again


@posix_only
@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_job_that_may_not_be_moved_stays_and_the_others_run(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    held, *jobs = [submitted(spool) for _ in range(4)]
    move = disk.move

    def refused(source: str, target: str) -> None:
        if held.id in source:
            raise OSError(code, os.strerror(code), source)
        move(source, target)

    monkeypatch.setattr(disk, "move", refused)
    session = workers.join()
    for claim in claim_all(session, 3):
        finish(session, claim, Succeeded())
    for _ in range(10):
        assert session.claim(10) == []
    assert got(spool, held.id).state is State.QUEUED
    assert {got(spool, job.id).state for job in jobs} == {State.DONE}
    assert Path(spool.handle.settings.log_dir, ERROR_LOG).read_text(encoding="utf-8").count("left alone") == 1


# Links in the place of locks


@posix_only
@pytest.mark.parametrize("name", ["locks/claim.lock", "doorbell"])
def test_a_link_in_the_place_of_a_file_of_the_spool_leads_nowhere(
    spool: SpoolStore, workers: Sessions, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "target"
    target.write_bytes(PRECIOUS)
    job = submitted(spool)
    place = Path(spool.paths.root, name)
    place.unlink()
    place.symlink_to(target)
    session = workers.join()
    if name == "doorbell":
        assert [claim.job.id for claim in claim_all(session, 1)] == [job.id]
    else:
        with pytest.raises(OSError, match="symbolic link"):
            session.claim(1)
        place.unlink()
        assert [claim.job.id for claim in claim_all(session, 1)] == [job.id]
    assert target.read_bytes() == PRECIOUS


@posix_only
@pytest.mark.parametrize("name", ["alive.lock", "r0.lock", "info", "r0.pid"])
def test_a_link_in_the_place_of_a_file_of_a_dead_worker_leads_nowhere(
    spool: SpoolStore, workers: Sessions, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "target"
    target.write_bytes(PRECIOUS)
    job = submitted(spool)
    (wid,) = workers.dead(claim=1)["id"]
    place = Path(spool.paths.worker(wid, name))
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    session = workers.join()
    # What that worker said of itself cannot be read: it may have been before the last boot, so the job counts as begun.
    assert len(recover(session)) == (name == "info")
    if name == "alive.lock":
        # Nobody can say whether that worker lives: its job waits for a person, and is run by nobody else.
        assert got(spool, job.id).state is State.RUNNING
        place.unlink()
        place.touch()
        assert list(session.recover()) == []
    assert got(spool, job.id).state is State.QUEUED
    assert target.read_bytes() == PRECIOUS
