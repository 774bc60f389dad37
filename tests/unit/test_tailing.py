"""A log that is followed: every line comes once, through every way in which the file can be replaced."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import disk, log_file, system
from bgjobs.errors import SpoolError
from bgjobs.log_file import LogFile
from bgjobs.views import logs
from bgjobs.views.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a log with two lines."""
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    put(path, "1", "2")
    return path


def put(path: Path, *lines: str) -> None:
    with path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def begun(path: Path) -> Log:
    log = Log(str(path))
    log.last(10)
    return log


def more(log: Log) -> str:
    return " ".join(line.decode().removesuffix("\n") for line in log.more())


def renamed(path: Path) -> None:
    path.rename(f"{path}.1")


def dated(path: Path) -> None:
    path.rename(f"{path}-20261130")


def created(path: Path) -> None:
    path.rename(f"{path}.1")
    path.touch()


def copied_and_truncated(path: Path) -> None:
    shutil.copyfile(path, f"{path}.1")
    os.truncate(path, 0)


def directory_moved(path: Path) -> None:
    path.parent.rename(f"{path.parent}.old")
    path.parent.mkdir()


def directory_copied(path: Path) -> None:
    path.parent.rename(f"{path.parent}.old")
    shutil.copytree(f"{path.parent}.old", path.parent)


def rotated(path: Path) -> None:
    log_file._shift(str(path))


def rotated_twice(path: Path) -> None:
    log_file._shift(str(path))
    put(path, "between")
    log_file._shift(str(path))


def edited_in_place(path: Path) -> None:
    shutil.copyfile(path, f"{path}.new")
    Path(f"{path}.new").replace(path)


@pytest.mark.parametrize(
    ("replace", "between"),
    [
        (renamed, ""),
        (dated, ""),
        (created, ""),
        (copied_and_truncated, ""),
        (directory_copied, ""),
        (rotated, ""),
        (rotated_twice, "between "),
        (edited_in_place, ""),
    ],
)
@pytest.mark.parametrize("looks", [True, False], ids=["seen", "unseen"])
def test_a_log_that_is_moved_aside_is_followed_and_no_line_of_it_is_lost(
    path: Path, replace: Callable[[Path], None], between: str, *, looks: bool
) -> None:
    log = begun(path)
    put(path, "3")
    replace(path)
    seen = more(log) if looks else ""  # perhaps in the moment when there is no log
    put(path, "4", "5")
    assert f"{seen} {more(log)}".strip() == f"3 {between}4 5"
    put(path, "6")
    assert more(log) == "6"
    assert more(log) == ""


def truncated(path: Path) -> None:
    os.truncate(path, 0)


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"a\nb\n")  # as long as what is there
    fresh.replace(path)


def overwritten(path: Path) -> None:
    path.write_bytes(b"a\nb\n")


@pytest.mark.parametrize(
    ("replace", "new"),
    [(truncated, ""), (deleted, ""), (directory_moved, ""), (replaced, "a b "), (overwritten, "a b ")],
)
@pytest.mark.parametrize("looks", [True, False], ids=["seen", "unseen"])
def test_a_log_that_is_begun_anew_is_read_from_its_beginning(
    path: Path, replace: Callable[[Path], None], new: str, *, looks: bool
) -> None:
    log = begun(path)
    replace(path)
    seen = more(log) if looks else ""
    put(path, "four", "five")  # longer than what was there
    assert f"{seen} {more(log)}".strip() == f"{new}four five"
    put(path, "six")
    assert more(log) == "six"


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log"
    log = begun(path)
    assert more(log) == ""
    path.parent.mkdir()
    put(path, "1")
    assert more(log) == "1"


def test_a_log_that_came_and_was_moved_aside_between_two_looks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    put(tmp_path / "log.1", "old")
    log = begun(path)
    put(path, "1")
    rotated_twice(path)
    put(path, "2")
    assert more(log) == "1 between 2"


def test_a_log_that_was_moved_out_of_reach_is_read_from_the_oldest_that_is_left(path: Path) -> None:
    put(path.with_name("log.1"), "old")
    log = begun(path)
    for number in range(3, 10):
        log_file._shift(str(path))
        put(path, str(number))
    assert more(log) == "5 6 7 8 9"


def test_a_file_that_gets_the_inode_of_the_one_before_is_not_taken_for_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneInode(logs._File):
        def __init__(self, descriptor: int, state: os.stat_result, number: int) -> None:
            super().__init__(descriptor, state, number)
            self.identity = 1, 1

    monkeypatch.setattr(logs, "_File", OneInode)
    log = begun(path)
    path.unlink()
    put(path, "a", "b", "c")
    assert more(log) == "a b c"


def test_a_line_comes_when_it_is_whole(path: Path) -> None:
    log = begun(path)
    with path.open("ab") as file:
        file.write(b"thr")
    assert more(log) == ""
    put(path, "ee")
    assert more(log) == "three"


def test_a_line_that_was_torn_comes_when_its_file_has_been_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LATE_S", 0.0)
    log = begun(path)
    with path.open("ab") as file:
        file.write(b"torn")
    rotated(path)
    put(path, "4")
    assert more(log) == "4"
    assert more(log) == "torn"
    assert more(log) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="nobody moves a file there that is open")
def test_who_had_opened_the_log_before_it_was_moved_aside_is_read_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LATE_S", 1000.0)
    log = begun(path)
    with path.open("ab") as late:
        rotated(path)
        put(path, "4")
        assert more(log) == "4"
        late.write(b"3\n")
    assert more(log) == "3"
    put(path, "5")
    assert more(log) == "5"


@pytest.mark.parametrize("count", [0, 1, 3, 5, 9])
def test_the_last_lines_are_those_of_older_files_too_and_each_comes_once(path: Path, count: int) -> None:
    for number in "345":
        rotated(path)
        put(path, number)
    log = Log(str(path))
    assert b"".join(log.last(count)).decode().split() == ["1", "2", "3", "4", "5"][5 - min(count, 5) :]
    put(path, "6")
    assert more(log) == "6"


def test_a_log_that_moves_while_it_is_opened_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = begun(path)
    put(path, "3")
    rotated(path)
    put(path, "4")
    opened = logs._opened

    def moving(stack: ExitStack, name: str, number: int) -> logs._File | None:
        found = opened(stack, name, number)
        if number == 0 and log._left is None:
            monkeypatch.setattr(logs, "_opened", opened)
            rotated(path)
            put(path, "5")
        return found

    monkeypatch.setattr(logs, "_opened", moving)
    assert f"{more(log)} {more(log)}".strip() == "3 4 5"


@pytest.mark.skipif(sys.platform == "win32", reason="what is in the way of a log is a pipe here")
def test_what_is_no_file_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    log = begun(tmp_path / "log")
    assert more(log) == ""
    (tmp_path / "log").unlink()
    put(tmp_path / "log", "1")
    assert more(log) == "1"


def fault(call: Callable[[], object]) -> str:
    with pytest.raises(SpoolError) as refused:
        call()
    return str(refused.value)


def made_link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")
    put(path.parent / "elsewhere", "in confidence")


def made_pipe(path: Path) -> None:
    os.mkfifo(path)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a link": made_link,
    "no plain file": made_pipe,
}


@pytest.mark.parametrize("kind", ["a directory"] if sys.platform == "win32" else STRANGE)
def test_what_lies_in_the_place_of_a_log_is_named_and_a_log_in_its_place_is_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    STRANGE[kind](path)
    assert fault(lambda: logs.refuse_strange(str(path))) == (
        f"the log {path} is {kind}: move it away: bgjobs reads plain files alone"
    )
    log = begun(path)
    assert more(log) == ""
    path.rename(tmp_path / "away")
    put(path, "1")
    logs.refuse_strange(str(path))
    assert more(log) == "1"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "run bgjobs as the user to whom the spool belongs"),
        (errno.EIO, "see `bgjobs doctor`"),
    ],
)
def test_a_log_that_cannot_be_read_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(name: str) -> int:
        raise OSError(number, os.strerror(number), name)

    log = begun(path)
    monkeypatch.setattr(system, "open_read", refuse)
    for call in (log.more, lambda: log.last(1), lambda: logs.refuse_strange(str(path))):
        assert fault(call) == f"cannot read the log {path}: {os.strerror(number)}: {said}"


def test_a_file_of_others_beside_a_log_need_not_be_readable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str) -> int:
        if name.endswith(".gz"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return opened(name)

    log, opened = begun(path), system.open_read
    monkeypatch.setattr(system, "open_read", read)
    put(path.with_name("log-20261101.gz"), "0")
    path.unlink()
    put(path, "3")
    assert more(log) == "3"


@pytest.mark.parametrize("seed", range(20))
def test_each_line_of_a_log_that_rotates_by_itself_comes_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(log_file, "MOST_BYTES", 400)
    dice = random.Random(seed)
    file, log, seen = LogFile(str(tmp_path / "log")), Log(str(tmp_path / "log")), []
    file._unseen = 0
    for number in range(400):
        file._unseen = log_file.CHECK_EVERY_BYTES
        file.append(f"line {number}\n".encode())
        if dice.random() < 0.1:
            seen += log.more()
    seen += log.more()
    assert [int(line.split()[1]) for line in seen] == list(range(400))


def test_the_disk_is_as_it_was_for_those_who_look(path: Path) -> None:
    before = {child.name: disk.stat(str(child)).st_mtime_ns for child in path.parent.iterdir()}
    log = begun(path)
    more(log)
    assert {child.name: disk.stat(str(child)).st_mtime_ns for child in path.parent.iterdir()} == before
