"""The few steps on files: what they promise on a full disk, after a power cut, and where a stranger lies."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import disk, files
from bgjobs.files import StrangeFileError
from bgjobs.spool import safe_remove

if TYPE_CHECKING:
    from collections.abc import Callable

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, links and owners are POSIX")
quickly = pytest.mark.timeout(10)  # what would block, blocks for ever
MOST = 1024 * 1024
FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


def write_little(patch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let the system take only so many bytes at a time, as it may; return the sizes that it was given."""
    sizes: list[int] = []
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, bytes(data)[:most])

    patch.setattr(disk, "write", short)
    return sizes


def fail(patch: pytest.MonkeyPatch, name: str, error: OSError, *, after: int = 0) -> list[int]:
    """Let a function fail from its call number `after` on; return a list that grows with each call."""
    calls: list[int] = []
    real = getattr(disk, name)

    def failing(*args: object) -> object:
        calls.append(1)
        if len(calls) > after:
            raise error
        return real(*args)

    patch.setattr(disk, name, failing)
    return calls


# Making a file


@pytest.mark.parametrize("sync", [True, False])
def test_a_new_file_holds_the_data_and_is_its_owners_alone(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "job"
    files.create(str(path), b"data\n", sync=sync)
    assert path.read_bytes() == b"data\n"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.create(str(path), b"new", sync=False)
    assert path.read_bytes() == b"old"


def test_all_is_written_however_little_the_system_takes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "job"
    data = bytes(range(256)) * 10
    with pytest.MonkeyPatch.context() as patch:
        write_little(patch, 7)
        files.create(str(path), data, sync=False)
    assert path.read_bytes() == data


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_file_that_could_not_be_written_leaves_nothing_behind(tmp_path: Path, after: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        write_little(patch, 10)
        fail(patch, "write", FULL, after=after)
        with pytest.raises(OSError, match="No space"):
            files.create(str(tmp_path / "job"), b"x" * 100, sync=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_could_not_be_synced_leaves_nothing_behind_and_is_not_synced_again(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = fail(patch, "sync_file", BROKEN)
        with pytest.raises(OSError, match="Input/output"):
            files.create(str(tmp_path / "job"), b"data", sync=True)
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_published_file_lies_where_it_belongs_and_nowhere_else(tmp_path: Path) -> None:
    files.create_and_publish(str(tmp_path / "fresh"), b"data\n", str(tmp_path / "job"), moved=lambda: None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"job": b"data\n"}


@pytest.mark.parametrize("name", ["write", "move", "sync_file"])
def test_a_file_that_could_not_be_published_lies_nowhere(tmp_path: Path, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = fail(patch, name, BROKEN)
        with pytest.raises(OSError, match="Input/output"):
            files.create_and_publish(str(tmp_path / "fresh"), b"data", str(tmp_path / "job"), moved=lambda: None)
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_job_claimed_before_its_sync_failed_is_no_trouble_for_the_submitter(tmp_path: Path) -> None:
    def claimed(descriptor: int) -> None:
        (tmp_path / "job").rename(tmp_path / "claimed")
        raise BROKEN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "sync_file", claimed)
        with pytest.raises(OSError, match="Input/output"):
            files.create_and_publish(str(tmp_path / "fresh"), b"data", str(tmp_path / "job"), moved=lambda: None)
    assert [path.name for path in tmp_path.iterdir()] == ["claimed"]


def test_content_is_replaced_in_one_step_also_after_a_crash_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "note"
    (tmp_path / "note.new").write_bytes(b"half")
    for data in (b"one", b"two"):
        files.replace_content(str(path), data)
        assert path.read_bytes() == data
    assert [found.name for found in tmp_path.iterdir()] == ["note"]


# Appending


@pytest.mark.parametrize(
    ("there", "then"),
    [
        (b"", b"line\n"),
        (b"first\n", b"first\nline\n"),
        (b"first\nto", b"first\nto\nline\n"),
        (b"first", b"first\nline\n"),
        (b"first\n\0\0\0", b"first\n\0\0\0\nline\n"),
        (b"first\n\n", b"first\n\nline\n"),
    ],
)
def test_a_line_is_appended_and_a_torn_one_before_it_closed_off(tmp_path: Path, there: bytes, then: bytes) -> None:
    path = tmp_path / "job"
    path.write_bytes(there)
    files.append(str(path), b"line\n")
    assert path.read_bytes() == then


@given(st.binary(max_size=40), st.lists(st.binary(max_size=10).map(lambda text: text.replace(b"\n", b"")), max_size=4))
def test_whatever_was_torn_each_appended_line_is_a_line_of_its_own(there: bytes, lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job")
        path.write_bytes(there)
        for line in lines:
            files.append(str(path), line + b"\n")
        data = path.read_bytes()
        assert data.startswith(there)
        if lines:
            assert data.split(b"\n")[-len(lines) - 1 :] == [*lines, b""]


def test_a_line_is_appended_in_one_write(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"torn")
    with pytest.MonkeyPatch.context() as patch:
        sizes = write_little(patch, 10**9)
        files.append(str(path), b"x" * 100_000 + b"\n")
    assert sizes == [100_002]


def test_a_whole_line_is_appended_however_little_the_system_takes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"first\n")
    with pytest.MonkeyPatch.context() as patch:
        write_little(patch, 3)
        files.append(str(path), b"a longer line\n")
    assert path.read_bytes() == b"first\na longer line\n"


def test_nothing_is_made_by_appending(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.append(str(tmp_path / "none"), b"line\n")
    assert list(tmp_path.iterdir()) == []


# Reading


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"x" * MOST)
    assert files.read(str(path), MOST) == b"x" * MOST
    path.write_bytes(b"")
    assert files.read(str(path), MOST) == b""


def test_a_file_that_is_too_large_is_strange(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"x" * (MOST + 1))
    with pytest.raises(StrangeFileError, match="more than"):
        files.read(str(path), MOST)


@quickly
def test_a_file_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "job"
    with path.open("wb") as file:
        try:
            file.truncate(2**40)
        except OSError as error:
            pytest.skip(f"this file system has no sparse file of that size: {error}")
    with pytest.raises(StrangeFileError, match="more than"):
        files.read(str(path), MOST)
    path.unlink()


def test_a_file_that_is_not_there_is_a_lost_race(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(str(tmp_path / "none"), MOST)


def test_all_is_read_however_little_the_system_gives_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"0123456789" * 10)
    read = os.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "read", lambda descriptor, size: read(descriptor, min(size, 7)))
        assert files.read(str(path), MOST) == b"0123456789" * 10


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.with_name("target").write_bytes(b"secret")
    path.symlink_to(path.with_name("target"))


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def hard_link(path: Path) -> None:
    path.with_name("target").write_bytes(b"secret")
    path.hardlink_to(path.with_name("target"))


def directory(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(os.path.relpath(path))  # the path of a socket is short
    finally:
        server.close()


STRANGERS = [fifo, link, dangling_link, link_to_itself, hard_link, directory, unix_socket]


@posix_only
@quickly
@pytest.mark.parametrize("make", STRANGERS, ids=lambda make: str(make.__name__))
def test_what_is_not_a_plain_file_is_strange_and_reading_it_never_blocks(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "job"
    make(path)
    with pytest.raises(StrangeFileError):
        files.read(str(path), MOST)


@posix_only
@quickly
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_is_strange(device: str) -> None:
    if not Path(device).exists():
        pytest.skip(f"this system has no {device}")
    with pytest.raises(StrangeFileError):
        files.read(device, MOST)


@posix_only
@quickly
@pytest.mark.parametrize(
    "make", [fifo, link, dangling_link, directory, unix_socket], ids=lambda make: str(make.__name__)
)
def test_nothing_is_appended_to_what_is_not_a_plain_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "job"
    make(path)
    with pytest.raises(OSError):  # noqa: PT011 - which one differs by what lies there, and by system
        files.append(str(path), b"line\n")
    target = tmp_path / "target"
    assert not target.exists() or target.read_bytes() == b"secret"


@posix_only
@pytest.mark.skipif(sys.platform != "win32" and os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_strange(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(b"data")
    os.chown(path, 12345, -1)
    with pytest.raises(StrangeFileError, match="another user"):
        files.read(str(path), MOST)


# Moving and removing


def test_a_move_that_another_worker_did_first_is_a_lost_race(tmp_path: Path) -> None:
    (tmp_path / "job").write_bytes(b"data")
    files.move(str(tmp_path / "job"), str(tmp_path / "claimed"))
    with pytest.raises(FileNotFoundError):
        files.move(str(tmp_path / "job"), str(tmp_path / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["claimed"]


def test_a_directory_that_is_removed_while_it_is_empty_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "hour" / "target"
    source.write_text("x", encoding="utf-8")
    real, calls = disk.move, 0

    def after_somebody_removed_it(*places: str) -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            files.remove_directory(str(target.parent))
        real(*places)

    monkeypatch.setattr(disk, "move", after_somebody_removed_it)
    files.move_into(str(source), str(target))
    assert target.read_text(encoding="utf-8") == "x"


def test_nothing_is_made_above_the_one_directory_and_none_for_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    with pytest.raises(FileNotFoundError):
        files.move_into(str(tmp_path / "source"), str(tmp_path / "gone" / "hour" / "target"))
    with pytest.raises(FileNotFoundError):
        files.move_into(str(tmp_path / "nothing"), str(tmp_path / "hour" / "target"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    files.remove(str(tmp_path / "none"))
    assert files.remove_directory(str(tmp_path / "none"))
    assert files.names(str(tmp_path / "none")) == []
    assert files.changed_ns(str(tmp_path / "none")) is None
    assert not files.exists(str(tmp_path / "none"))


def test_a_directory_is_removed_only_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "job").touch()
    assert not files.remove_directory(str(tmp_path / "full"))
    (tmp_path / "full" / "job").unlink()
    assert files.remove_directory(str(tmp_path / "full"))


def test_a_file_in_the_place_of_a_directory_holds_no_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert files.names(str(tmp_path / "file")) == []
    assert files.changed_ns(str(tmp_path / "file" / "below")) is None


@posix_only
def test_a_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is there
        files.make_directory(str(tmp_path / "claimed"))
    assert stat.S_IMODE((tmp_path / "claimed").stat().st_mode) == 0o700


@posix_only
def test_a_tree_is_removed_without_following_links_out_of_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"data")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    (tree / "link").symlink_to(outside)
    (tree / "dangling").symlink_to(tmp_path / "nothing")
    for _ in safe_remove.remove_tree(str(tree)):
        pass
    assert not tree.exists()
    assert (outside / "precious").read_bytes() == b"data"


@posix_only
@pytest.mark.parametrize("swapped", ["tree", "tree/a", "tree/a/b"])
def test_a_tree_that_becomes_a_link_while_it_is_removed_takes_nothing_outside_with_it(
    tmp_path: Path, swapped: str
) -> None:
    for at in range(12):
        home = tmp_path / str(at)
        outside, tree = home / "outside", home / "tree"
        for folder in (outside, tree):
            (folder / "a" / "b").mkdir(parents=True)
            for name in ("one", "a/one", "a/two", "a/b/one", "a/b/two"):
                (folder / name).write_bytes(b"data")
        before = sorted(outside.rglob("*"))
        with suppress(OSError):
            for step, _ in enumerate(safe_remove.remove_tree(str(tree))):
                if step == at and (home / swapped).exists():
                    (home / swapped).rename(home / "aside")
                    (home / swapped).symlink_to(outside / Path(swapped).relative_to("tree"))
        assert sorted(outside.rglob("*")) == before


@posix_only
def test_a_tree_that_is_too_deep_stays_and_breaks_nothing(tmp_path: Path) -> None:
    tree, here = tmp_path / "tree", Path.cwd()
    tree.mkdir()
    os.chdir(tree)
    try:
        for _ in range(2000):
            Path("a").mkdir()
            os.chdir("a")
    finally:
        os.chdir(here)
    for _ in safe_remove.remove_tree(str(tree)):
        pass
    assert tree.exists()
    subprocess.run(["rm", "-rf", str(tree)], check=True)  # what Python has for that fails as ours would


@posix_only
def test_a_link_in_the_place_of_a_directory_is_none(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "name").touch()
    link = tmp_path / "link"
    link.symlink_to(outside)
    assert files.names(str(link)) == []
    assert list(files.each_name(str(link))) == []
    with pytest.raises(NotADirectoryError):
        files.make_directory(str(link))
    (tmp_path / "source").touch()
    with pytest.raises(NotADirectoryError):
        files.move_into(str(tmp_path / "source"), str(link / "target"))


@posix_only
@pytest.mark.parametrize("how", ["link", "second name"])
def test_what_a_link_in_the_place_of_an_output_names_is_not_cut(tmp_path: Path, how: str) -> None:
    outside, path = tmp_path / "outside", tmp_path / "output"
    outside.write_bytes(b"x" * 1000)
    if how == "link":
        path.symlink_to(outside)
    else:
        path.hardlink_to(outside)
    files.limit(str(path), 100)
    assert outside.stat().st_size == 1000


@posix_only
def test_a_dangling_link_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert files.exists(str(tmp_path / "link"))


CUT = 100 + len(files.cut_mark(100))


@pytest.mark.parametrize(
    ("size", "left"), [(10, 10), (100, 100), (200, 200), (2 * CUT, 2 * CUT), (2 * CUT + 1, CUT), (5000, CUT)]
)
def test_a_file_is_cut_when_it_has_grown_to_twice_its_limit(tmp_path: Path, size: int, left: int) -> None:
    path = tmp_path / "output"
    path.write_bytes(b"x" * size)
    files.limit(str(path), 100)
    assert path.stat().st_size == left
    files.limit(str(tmp_path / "none"), 100)


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_output_that_grows_is_limited_to_what_a_cut_one_has(tmp_path: Path, size: int) -> None:
    path = tmp_path / "output"
    path.write_bytes(b"y" * size)
    files.limit(str(path), 100)
    assert path.read_bytes() == b"y" * (100 + len(files.cut_mark(100)))
    files.cut(str(path), 100)
    assert path.read_bytes() == b"y" * 100 + files.cut_mark(100)


def test_output_keeps_its_mark_when_it_is_limited_just_after_it_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "output"
    path.write_bytes(b"y" * 10_000)
    truncate = disk.truncate

    def cut_first(descriptor: int, size: int) -> None:
        monkeypatch.setattr(disk, "truncate", truncate)
        files.cut(str(path), 100)  # by the runner, whose attempt ends, after the worker has looked at the size
        truncate(descriptor, size)

    monkeypatch.setattr(disk, "truncate", cut_first)
    files.limit(str(path), 100)
    assert path.read_bytes() == b"y" * 100 + files.cut_mark(100)
