"""Whether what a spool lies on is fit for it: the facts as they are, and every doubt on a file system that gives it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from bgjobs import clock, disk, locks, system
from bgjobs.errors import SpoolError
from bgjobs.job import State, Succeeded
from bgjobs.spool import layout
from bgjobs.spool.doctor import fitness
from bgjobs.system.facts import DiskFacts
from tests.contract.stores import NO_SELECTION, SpoolKind, claim_all, finish, info, new_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Finding

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
MEMORY = Path("/dev/shm")
LOCAL = DiskFacts(kind="ext4", network=False, volatile=False, journal=True, mounts_below=())


def found(spool: SpoolStore) -> dict[str, Finding]:
    """Return what is found beside what this machine's own disk is to blame for."""
    return {
        f.code: f for f in spool.fitness().findings if f.code not in {"no-journal", "volatile-disk", "layered-disk"}
    }


def only(spool: SpoolStore, code: str) -> Finding:
    """Return the one finding that there is."""
    findings = found(spool)
    assert set(findings) == {code}
    return findings[code]


@contextmanager
def mounted(*words: str, at: Path) -> Iterator[None]:
    """Mount something for as long as the block runs; skip the test where that is not allowed."""
    at.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *words, str(at)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True)


# The facts


def test_a_spool_on_this_disk_is_fit_and_its_facts_are_those_of_the_system(spool: SpoolStore) -> None:
    seen = spool.fitness()
    assert [finding for finding in seen.findings if finding.wrong] == []
    assert seen.facts["locks_hold"] is True
    assert seen.facts["durability"] == "os"
    assert seen.facts["one_sync"] == system.one_fsync_is_safe(spool.paths.root)
    free_bytes, free_files = disk.free_space(spool.paths.root)
    assert abs(int(seen.facts["free_bytes"] or 0) - free_bytes) < 2**30  # others write as well
    assert (seen.facts["free_files"] is None) == (free_files is None)
    assert abs(int(seen.facts["clock_skew_ms"] or 0)) < fitness.SKEW_MS


def test_a_look_leaves_nothing_behind(spool: SpoolStore) -> None:
    before = sorted(Path(spool.paths.root).rglob("*"))
    spool.fitness()
    assert sorted(Path(spool.paths.root).rglob("*")) == before
    assert spool.findings() == []


# File systems


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are looked up in /proc")
def test_a_disk_in_memory_is_named(tmp_path: Path) -> None:
    place = tmp_path / "memory"
    with mounted("-t", "tmpfs", "-o", "size=40m", "none", at=place):
        spool = SpoolKind(str(place)).open()
        seen = spool.fitness()
        codes = {finding.code: finding.wrong for finding in seen.findings}
        assert codes == {"volatile-disk": False, "little-room": False}
        assert seen.facts["file_system"] == "tmpfs"
        spool.submit([new_job()])
        spool.join(info(), NO_SELECTION).leave()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are looked up in /proc")
def test_a_layered_disk_works_and_is_named(tmp_path: Path) -> None:
    place, base = tmp_path / "layered", tmp_path / "base"
    with mounted("-t", "tmpfs", "-o", "size=80m", "none", at=base):
        for name in ("lower", "upper", "work"):
            (base / name).mkdir()
        layers = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        with mounted("-t", "overlay", "-o", layers, "none", at=place):
            spool = SpoolKind(str(place)).open()
            seen = spool.fitness()
            assert {finding.code for finding in seen.findings if not finding.wrong} >= {"layered-disk"}
            assert [finding for finding in seen.findings if finding.wrong] == []
            spool.submit([new_job()])
            session = spool.join(info(), NO_SELECTION)
            finish(session, claim_all(session, 1)[0], Succeeded())
            session.leave()
            assert spool.findings() == []


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are looked up in /proc")
@pytest.mark.parametrize("kind", ["another disk", "another part of the same"])
@pytest.mark.parametrize("name", ["pending", "done", "claimed", "pending/8-high", "tmp"])
def test_a_spool_that_lies_on_two_disks_is_refused_when_set_up_and_by_workers(
    tmp_path: Path, kind: str, name: str
) -> None:
    part = tmp_path / "part"
    part.mkdir()
    words = ("-t", "tmpfs", "none") if kind == "another disk" else ("--bind", str(part))
    store = SpoolKind(str(tmp_path))
    with mounted(*words, at=tmp_path / "spool" / name):
        with pytest.raises(SpoolError, match="another disk mounted inside") as refused:
            store.open()
        assert refused.value.code == "split-spool"
        assert not (tmp_path / "spool" / "VERSION").exists()
    spool = store.open()  # nothing that was made hinders the next one
    with mounted(*words, at=tmp_path / "spool" / name):
        with pytest.raises(SpoolError, match="another disk mounted inside"):
            spool.join(info(), NO_SELECTION)
        assert found(spool)["split-spool"].wrong
    spool.join(info(), NO_SELECTION).leave()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are looked up in /proc")
def test_logs_may_lie_on_another_disk(tmp_path: Path) -> None:
    store = SpoolKind(str(tmp_path))
    with mounted("-t", "tmpfs", "none", at=tmp_path / "spool" / "logs"):
        spool = store.open()
        spool.join(info(), NO_SELECTION).leave()
        assert found(spool) == {}


def test_a_network_disk_is_refused_by_workers_too(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been mounted after the spool was made."""
    monkeypatch.setattr(system, "disk_facts", lambda _: LOCAL._replace(kind="nfs4", network=True))
    with pytest.raises(SpoolError, match=r"network file system \(nfs4\)"):
        spool.join(info(), NO_SELECTION)
    assert only(spool, "network-disk").wrong


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (LOCAL, None),
        (LOCAL._replace(kind="xfs"), None),
        (LOCAL._replace(kind="btrfs", journal=None), None),
        (LOCAL._replace(kind="ext2", journal=False), "no-journal"),
        (LOCAL._replace(kind="ramfs", volatile=True, journal=None), "volatile-disk"),
        (LOCAL._replace(kind="overlay", journal=None), "layered-disk"),
    ],
)
def test_each_kind_of_disk_gets_its_remark(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch, facts: DiskFacts, code: str | None
) -> None:
    monkeypatch.setattr(system, "disk_facts", lambda _: facts)
    remarks = {finding.code: finding.wrong for finding in spool.fitness().findings}
    assert remarks == ({code: False} if code else {})


# Locks


def test_locks_of_this_disk_hold_between_two_processes(tmp_path: Path) -> None:
    assert fitness.lock_problem(str(tmp_path / "lock")) == ""


def test_locks_that_exclude_nobody_are_found_out(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a disk where each process has locks of its own: ours are on another file than the child's.
    monkeypatch.setattr(fitness, "life_lock", lambda path: locks.life_lock(f"{path}.own"))
    assert "same lock at the same time" in only(spool, "locks-fail").message
    assert spool.fitness().facts["locks_hold"] is False


# As filelock says that there are no locks, which of them depends on its release and on the system.
NO_LOCKS: dict[str, Exception] = {
    "no flock": NotImplementedError("the file system has no flock"),
    "ENOSYS": OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)),
    "EOPNOTSUPP": OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)),
}


@pytest.fixture(params=NO_LOCKS)
def _no_locks(spool: SpoolStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spool.is_there()  # with locks it can be made

    def refuse(*_: object, **__: object) -> None:
        raise NO_LOCKS[request.param]

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(locks, "lock_descriptor", refuse)


@pytest.mark.usefixtures("_no_locks")
def test_a_disk_without_locks_is_found_out(spool: SpoolStore) -> None:
    assert "this file system has no locks" in only(spool, "locks-fail").message


@pytest.mark.usefixtures("_no_locks")
def test_a_disk_without_locks_is_refused_by_whoever_needs_one(spool: SpoolStore, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(SpoolError, match="is on a file system without locks: name one on a local disk with --spool"):
        SpoolKind(str(tmp_path / "new")).open()
    with pytest.raises(SpoolError, match="this file system has no locks: use a local file system"):
        spool.join(info(), NO_SELECTION)
    (tmp_path / "lock").touch()
    with pytest.raises(OSError, match="this file system has no locks"):
        locks.is_held(str(tmp_path / "lock"))


def test_another_trouble_with_a_lock_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(SpoolError, match="broken"):
        locks.hold_for_life(str(tmp_path / "lock"))


def test_locks_that_could_not_be_tried_are_only_a_remark(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "COMMAND", ("-c", "raise SystemExit(1)"))
    finding = only(spool, "locks-untried")
    assert not finding.wrong
    assert spool.fitness().facts["locks_hold"] is None


# Clock


def test_a_clock_that_is_off_the_times_of_files_is_named(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = clock.now() - timedelta(hours=1)
    monkeypatch.setattr(clock, "now_ms", lambda: int(behind.timestamp() * 1000))
    finding = only(spool, "disk-clock")
    assert not finding.wrong
    assert "3600." in finding.message


def test_jobs_that_ended_in_the_future_are_named(spool: SpoolStore) -> None:
    ahead = layout.hour(clock.now() + timedelta(hours=2))
    Path(spool.paths.ended(State.FAILED), ahead).mkdir()
    Path(spool.paths.ended(State.DONE), layout.hour(clock.now())).mkdir()
    finding = only(spool, "clock-behind")
    assert ahead in finding.message
    assert not finding.wrong


# Room and rights


@pytest.mark.parametrize(
    ("free", "wrong"),
    [
        ((2**40, None), None),
        ((2**20 * 50, 10**6), False),
        ((100, 10**6), True),
        ((2**40, 300), False),
        ((2**40, 0), True),
    ],
)
def test_little_room_is_named_and_none_is_wrong(
    spool: SpoolStore, monkeypatch: pytest.MonkeyPatch, free: tuple[int, int | None], *, wrong: bool | None
) -> None:
    monkeypatch.setattr(disk, "free_space", lambda _: free)
    findings = found(spool)
    assert {finding.wrong for finding in findings.values()} == (set() if wrong is None else {wrong})
    assert set(findings) == (set() if wrong is None else {"little-room"})


@posix_only
def test_directories_that_others_can_enter_are_named(spool: SpoolStore) -> None:
    done = Path(spool.paths.ended(State.DONE))
    done.chmod(0o755)
    assert not only(spool, "open-to-others").wrong
    done.chmod(0o703)
    assert only(spool, "open-to-others").wrong
    assert "0703" in only(spool, "open-to-others").message


@posix_only
def test_directories_of_another_user_are_found(spool: SpoolStore) -> None:
    if not system.is_elevated():
        pytest.skip("only root can give a directory to another user")
    os.chown(spool.paths.workers, 65534, 65534)
    assert only(spool, "not-ours").wrong


def test_a_spool_that_cannot_be_written_is_found(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> int:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(disk, "open_new", refuse)
    finding = only(spool, "not-writable")
    assert finding.wrong
    assert "Read-only" in finding.message


@posix_only
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a child with another user needs root and setpriv")
def test_logs_that_cannot_be_written_are_only_a_remark(spool: SpoolStore, tmp_path: Path) -> None:
    Path(spool.handle.settings.log_dir).mkdir(exist_ok=True)
    Path(spool.handle.settings.log_dir).chmod(0o500)
    findings = found(spool)
    expected = set() if system.is_elevated() else {"logs-closed"}  # root may write everywhere
    assert set(findings) == expected
    assert not any(finding.wrong for finding in findings.values())


def test_many_files_in_corrupt_are_a_warning(spool: SpoolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "MANY_CORRUPT", 3)
    for name in ("a.json", "b.json", "a.json.reason", "b.json.reason"):
        Path(spool.paths.corrupt, name).touch(mode=0o600)
    assert found(spool) == {}
    Path(spool.paths.corrupt, "c.json").touch(mode=0o600)
    finding = only(spool, "many-corrupt")
    assert "holds 3 files" in finding.message
    assert not finding.serious
