"""How the files of /proc and /sys are read."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

if not TYPE_CHECKING and sys.platform != "linux":
    pytest.skip("/proc is Linux", allow_module_level=True)
assert sys.platform == "linux"

from bgjobs.system import linux, linux_processes  # noqa: E402 - on this system only

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = os.makedev(8, 1)
LOCAL = linux.Mount("8:1", "/", "ext4")
SHARE = linux.Mount("0:50", "/mnt/share", "nfs4")


def stat_line(pid: int, *, name: bytes = b"x", state: bytes = b"S", parent: int = 1, threads: int = 1) -> bytes:
    """Return a line of /proc/PID/stat of a process that started at tick 777 in group 4 and session 5."""
    fields = [state, parent, 4, 5, *range(7, 20), threads, 0, 777, *range(23, 53)]
    return b"%d (%s) " % (pid, name) + b" ".join(str(field).encode().strip(b"b'") for field in fields) + b"\n"


@given(name=st.binary(min_size=0, max_size=15).filter(lambda name: b"\0" not in name))
def test_no_name_of_a_program_can_confuse_the_reader(name: bytes) -> None:
    facts = linux_processes.parse_stat(stat_line(42, name=name))
    assert facts == (42, "777", 1, 4, 5, True, False)


@pytest.mark.parametrize(
    ("state", "threads", "alive"),
    [(b"R", 1, True), (b"T", 1, True), (b"Z", 1, False), (b"Z", 2, True), (b"X", 0, False)],
)
def test_a_zombie_is_dead_unless_other_threads_run_on(state: bytes, threads: int, alive: bool) -> None:
    assert linux_processes.parse_stat(stat_line(1, state=state, threads=threads)).alive is alive


@pytest.mark.parametrize(
    ("state", "stopped"), [(b"T", True), (b"t", True), (b"S", False), (b"R", False), (b"Z", False)]
)
def test_a_process_is_stopped_by_a_signal_or_by_a_debugger(state: bytes, stopped: bool) -> None:
    assert linux_processes.parse_stat(stat_line(1, state=state)).stopped is stopped


@pytest.mark.parametrize("kernel_lists_children", [True, False])
def test_descendants_are_found_with_and_without_the_list_of_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_lists_children: bool
) -> None:
    parents = {10: 1, 11: 10, 12: 10, 13: 12, 14: 99}
    for pid, parent in parents.items():
        folder = tmp_path / str(pid) / "task" / str(pid)
        folder.mkdir(parents=True)
        (tmp_path / str(pid) / "stat").write_bytes(stat_line(pid, parent=parent, state=b"Z" if pid == 11 else b"S"))
        children = [str(child) for child, its_parent in parents.items() if its_parent == pid]
        if kernel_lists_children:
            (folder / "children").write_text(" ".join(children), encoding="ascii")
    if kernel_lists_children:
        own = tmp_path / "self" / "task" / str(os.getpid())
        own.mkdir(parents=True)
        (own / "children").touch()
    monkeypatch.setattr(linux_processes, "PROC", str(tmp_path))
    assert sorted(process.pid for process in linux_processes.descendants(10)) == [12, 13]


def test_a_mount_point_may_have_a_space_in_its_name() -> None:
    line = "36 35 98:0 /root /mnt/my\\040disk rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue"
    assert linux.parse_mount(line) == ("98:0", "/mnt/my disk", "ext4")


@pytest.mark.parametrize(
    ("path", "device", "kind"),
    [
        ("/home/ann", DEVICE, "ext4"),
        ("/mnt/share/spool", os.makedev(0, 50), "nfs4"),
        ("/mnt/share/spool", os.makedev(0, 99), "nfs4"),
        ("/mnt/share", os.makedev(0, 99), "nfs4"),
        ("/mnt/shared", os.makedev(0, 99), "ext4"),
    ],
)
def test_the_mount_is_found_by_its_device_or_else_by_its_place(path: str, device: int, kind: str) -> None:
    assert linux.kind_of(path, device, [LOCAL, SHARE]) == kind


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("nfs4", "nfs4"),
        ("cifs", "cifs"),
        ("fuse.sshfs", "fuse.sshfs"),
        ("ext4", None),
        ("tmpfs", None),
        ("fuseblk", None),
    ],
)
def test_a_network_file_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, found: str | None
) -> None:
    monkeypatch.setattr(linux, "mounts", lambda: [linux.Mount("0:0", "/", kind)])
    assert linux.network_filesystem(str(tmp_path)) == found


@pytest.mark.parametrize(
    ("kind", "journal", "safe"),
    [
        ("xfs", None, True),
        ("ext4", "321\n", True),
        ("ext4", "<none>\n", False),
        ("ext4", None, False),
        ("ext3", "321\n", False),
        ("btrfs", None, False),
        (None, None, False),
    ],
)
def test_one_sync_is_enough_only_where_a_power_cut_has_shown_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None, journal: str | None, safe: bool
) -> None:
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"

    def read(path: str) -> str:
        assert path == "/sys/fs/ext4/dm-3/journal_task"
        if journal is None:
            raise FileNotFoundError(path)
        return journal

    monkeypatch.setattr(linux, "mounts", lambda: [linux.Mount(device, "/", kind)] if kind else [])
    monkeypatch.setattr(linux, "_read", read)
    monkeypatch.setattr(os, "readlink", lambda path: f"../../devices/virtual/block/dm-3#{path}".partition("#")[0])
    monkeypatch.setattr(linux, "_one_fsync_is_safe", {})
    assert linux.one_fsync_is_safe(str(tmp_path)) is safe


@pytest.mark.parametrize(
    ("release", "done"), [("6.1.0-13-amd64", True), ("5.8-rc1", True), ("5.4.0", False), ("4.18.0-553.el8", False)]
)
def test_a_kernel_that_hides_failed_writes_is_not_asked_to_sync_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, done: bool
) -> None:
    kernel = os.uname_result(("Linux", "host", release, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: kernel)
    assert linux.sync_filesystem(str(tmp_path)) is done


def test_syncing_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        linux.sync_filesystem(str(tmp_path / "gone"))
