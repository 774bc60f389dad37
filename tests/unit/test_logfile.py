from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from bgjobs import disk, log_file
from bgjobs.log_file import LogFile, rotate
from tests.wine import ON_WINE

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import sys
from bgjobs import log_file as logfile
logfile.MOST_BYTES, logfile.KEPT = 2000, 1000
log = logfile.LogFile(sys.argv[1])
sys.stdin.readline()
for number in range(300):
    log.append(f"{sys.argv[2]} {number}\\n".encode())
"""


def small(patch: pytest.MonkeyPatch, most: int = 10) -> None:
    patch.setattr(log_file, "MOST_BYTES", most)


def logs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_log_and_its_directory_are_made_when_there_is_something_to_write(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "a" / "b" / "log"))
    assert not (tmp_path / "a").exists()
    log.append(b"one\n")
    assert logs(tmp_path / "a" / "b") == {"log": "one\n"}


def test_a_log_that_was_cleared_away_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "VERSION").touch()
    log = LogFile(str(tmp_path / "logs" / "log"), beside=str(tmp_path / "VERSION"))
    log.append(b"one\n")
    (tmp_path / "logs" / "log").unlink()
    (tmp_path / "logs").rmdir()
    log.append(b"two\n")
    assert logs(tmp_path / "logs") == {"log": "two\n"}


def test_the_log_of_a_spool_that_vanished_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "VERSION").touch()
    log = LogFile(str(tmp_path / "logs" / "log"), beside=str(tmp_path / "VERSION"))
    log.append(b"one\n")
    (tmp_path / "logs" / "log").unlink()
    (tmp_path / "logs").rmdir()
    (tmp_path / "VERSION").unlink()
    with pytest.raises(FileNotFoundError):
        log.append(b"two\n")
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_torn_does_not_run_into_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(str(tmp_path / "log"))
    room = [3]
    write = os.write

    def little(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(descriptor, bytes(data)[: room[0]])
        room[0] -= count
        return count

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", little)
        with pytest.raises(OSError, match="No space"):
            log.append(b"one two\n")
    log.append(b"three\n")
    log.append(b"four\n")
    assert logs(tmp_path) == {"log": "one\nthree\nfour\n"}


def test_a_log_is_moved_aside_when_it_has_grown_and_five_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    for number in range(1, 9):
        LogFile(str(tmp_path / "log")).append(f"log number {number}\n".encode())
    assert logs(tmp_path) == {f"log.{age}": f"log number {9 - age}\n" for age in range(1, 5)}


def test_a_log_is_large_at_ten_mebibytes() -> None:
    assert log_file.MOST_BYTES == 10 * 1024 * 1024


def test_a_small_log_is_not_moved(tmp_path: Path) -> None:
    LogFile(str(tmp_path / "log")).append(b"one\n")
    assert rotate(str(tmp_path / "log"))
    assert logs(tmp_path) == {"log": "one\n"}


def test_a_log_that_somebody_else_moves_aside_right_now_is_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    with FileLock(f"{tmp_path}/log.lock", preserve_lock_file=True):
        log = LogFile(str(tmp_path / "log"))
        log.append(b"a line that is long enough\n")
        log.append(b"and another one\n")
    assert list(logs(tmp_path)) == ["log"]
    LogFile(str(tmp_path / "log")).append(b"three\n")
    assert list(logs(tmp_path)) == ["log.1"]


@pytest.mark.skipif(ON_WINE, reason="Wine finds the end of a file first and writes to it second")
def test_no_line_is_lost_or_torn_however_many_write_and_move_at_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "log"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for name in ("ann", "bob", "cid")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    written = [line for text in logs(tmp_path).values() for line in text.splitlines()]
    assert sorted(written) == sorted(f"{name} {number}" for name in ("ann", "bob", "cid") for number in range(300))
    assert len(logs(tmp_path)) > 1
