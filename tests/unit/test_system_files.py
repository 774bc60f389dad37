"""Opening, moving and syncing files, on the system that the tests run on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Callable

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and FIFOs are POSIX")


def write(path: Path, text: str = "text") -> str:
    path.write_text(text, encoding="utf-8", newline="\n")
    return str(path)


def test_a_new_file_is_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "job")
    os.close(system.open_new(path))
    with pytest.raises(FileExistsError):
        system.open_new(path)


def test_appended_bytes_go_to_the_end_and_can_be_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "job", "first\n")
    fd = system.open_append(path)
    os.write(fd, b"second\n")
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, 100) == b"first\nsecond\n"
    os.close(fd)


def test_only_the_opener_of_logs_makes_a_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        system.open_append(path)
    with pytest.raises(FileNotFoundError):
        system.open_read(path)
    os.close(system.open_create_append(path))
    fd = system.open_read(path)
    assert os.read(fd, 100) == b""
    os.close(fd)


@pytest.mark.parametrize("opener", [system.open_new, system.open_create_append])
def test_no_child_inherits_an_open_file(tmp_path: Path, opener: Callable[[str], int]) -> None:
    fd = opener(str(tmp_path / "file"))
    assert not os.get_inheritable(fd)
    os.close(fd)


@posix_only
@pytest.mark.parametrize("opener", [system.open_new, system.open_create_append])
def test_a_file_that_is_made_is_for_its_owner_only(tmp_path: Path, opener: Callable[[str], int]) -> None:
    path = tmp_path / "file"
    os.close(opener(str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix_only
@pytest.mark.parametrize("opener", [system.open_new, system.open_append, system.open_create_append, system.open_read])
def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path, opener: Callable[[str], int]) -> None:
    link = tmp_path / "link"
    link.symlink_to(write(tmp_path / "target"))
    with pytest.raises(OSError, match="link"):
        opener(str(link))


if sys.platform != "win32":

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("opener", [system.open_append, system.open_create_append, system.open_read])
    def test_a_fifo_in_the_place_of_a_file_makes_nobody_wait(tmp_path: Path, opener: Callable[[str], int]) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        fd = opener(str(fifo))
        assert stat.S_ISFIFO(os.fstat(fd).st_mode)
        os.close(fd)


def test_a_file_is_moved_and_replaced_and_removed(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", "1"), str(tmp_path / "two")
    system.move(one, two)
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
    system.replace(write(tmp_path / "three", "3"), two)
    assert (tmp_path / "two").read_text(encoding="utf-8") == "3"
    system.unlink(two)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [system.move, system.replace])
def test_the_loser_of_a_race_is_told(tmp_path: Path, step: Callable[[str, str], None]) -> None:
    with pytest.raises(FileNotFoundError):
        step(str(tmp_path / "gone"), str(tmp_path / "mine"))


def test_what_is_there_can_be_synced(tmp_path: Path) -> None:
    fd = system.open_append(write(tmp_path / "file"))
    system.sync_file(fd)
    os.close(fd)
    system.sync_directory(str(tmp_path))
    assert system.sync_filesystem(str(tmp_path)) in (True, False)


def test_a_failed_sync_is_reported_at_once(tmp_path: Path) -> None:
    fd = system.open_append(write(tmp_path / "file"))
    os.close(fd)
    with pytest.raises(OSError):  # noqa: PT011 - Windows does not say what is wrong with the descriptor
        system.sync_file(fd)


def test_the_temporary_directory_is_local(tmp_path: Path) -> None:
    assert system.network_filesystem(str(tmp_path)) is None
    assert system.one_fsync_is_safe(str(tmp_path)) is system.one_fsync_is_safe(str(tmp_path))


def test_identity_is_the_same_each_time() -> None:
    assert system.boot_id() == system.boot_id() != ""
    assert system.host()
    assert system.user()
    assert system.is_elevated() in (True, False)


def test_a_job_sees_no_variable_that_changes_what_is_loaded() -> None:
    secret = {"PYTHONPATH": "x", "LD_PRELOAD": "x", "DYLD_INSERT_LIBRARIES": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    seen = system.base_environment({"PATH": "/bin", "SHELL": "/bin/sh", "TERM": "xterm"} | secret)
    assert seen == {"PATH": "/bin"}


@posix_only
def test_a_job_sees_where_and_in_which_language_it_runs() -> None:
    harmless = dict.fromkeys(("HOME", "LANG", "LC_ALL", "LC_TIME", "TZ", "TMPDIR", "USER", "LOGNAME"), "x")
    assert system.base_environment(harmless) == harmless


def test_importing_it_loads_nothing_that_submitting_a_job_does_not_need() -> None:
    slow = ["psutil", "ctypes", "subprocess", "selectors", "asyncio", "filelock", "threading", "random"]
    code = f"import sys, bgjobs.system; print([name for name in {slow} if name in sys.modules])"
    source = str(Path(system.__file__).parents[2])
    # Without the site module, whose .pth files may load anything before the program begins.
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": source})
    assert done.stdout.strip() == "[]", done.stderr
