"""When a worker takes changed files over, and when it deletes old jobs: real files, and moments that the test gives."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest

from bgjobs import Queue
from bgjobs.clock import Now
from bgjobs.worker.duties.reload import LONG_STILL_S, LOOK_EVERY_S, RECHECK_S, STILL_S, ConfigWatch
from bgjobs.worker.duties.tidy import EVERY_S, FIRST_S, PAUSE_S, SLICE_S, Tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = """
[bgjobs]
durability = "os"
pass_env = ["COLOUR"]
import_paths = ["code"]
[jobs.Mail]
class = "mail:Mail"
methods = ["send", "note"]
"""
ADDED = '[jobs.Shop]\nclass = "shop:Shop"\nmethods = ["sell"]\n'
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals, forks, links and modes are POSIX")


class Project:
    """A project whose allowlist is watched. Each look is a second after the one before."""

    def __init__(self, root: Path, *, age_s: float = 60.0, config: str = CONFIG) -> None:
        self.root = root
        self.path = root / "allowed_jobs.toml"
        (root / "code").mkdir()
        (root / "code" / "mail.py").write_text("class Mail: ...\n", "utf-8")
        (root / "code" / "shop.py").write_text("class Shop: ...\n", "utf-8")
        self.path.write_text(config, "utf-8")
        self.queue = Queue.open(config=self.path, spool=root / "spool")
        self.announced: list[str] = []
        written = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        self.now = Now(1000.0, written + timedelta(seconds=age_s))
        self.watch = ConfigWatch(self.queue, self.now, only=(), announce=self.announced.append)

    def look(self, times: int = 1) -> list[bool]:
        """Look so often, each time a second later; return what each look says about the runners."""
        found = []
        for _ in range(times):
            self.now = Now(self.now.s + LOOK_EVERY_S, self.now.at)
            found.append(self.watch.changed(self.now.s))
        return found

    def looks_until(self, text: str, most: int = 30) -> int:
        """Return how many looks it takes until this is announced."""
        for number in range(1, most):
            self.look()
            if any(text in line for line in self.announced):
                return number
        pytest.fail(f"not announced: {text}")

    def write(self, text: str) -> None:
        self.path.write_text(text, "utf-8")

    def methods(self) -> set[str]:
        return {method for _, method in self.queue.allowlist.pairs}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


TAKEN = "took over the changed allowlist"
REFUSED = "the changed allowlist is not taken over: "


def test_a_file_that_does_not_change_is_current_and_nothing_is_said(project: Project) -> None:
    assert project.look(20) == [False] * 20
    assert project.watch.is_current()
    assert project.announced == []


def test_a_changed_file_is_taken_over_when_it_has_stood_still_for_a_second(project: Project) -> None:
    project.write(CONFIG + ADDED)
    assert not project.watch.is_current()
    assert project.look() == [False]
    assert project.announced == []
    assert project.watch.changed(project.now.s + STILL_S - 0.1) is False
    assert project.announced == []
    assert project.look() == [False]  # the runners need not be replaced for it
    assert project.announced == [f"{TAKEN}: 3 methods may run"]
    assert project.watch.is_current()
    assert project.methods() == {"send", "note", "sell"}


def test_nothing_is_taken_over_while_a_file_is_being_written(project: Project) -> None:
    for number in range(30):  # each state of it is a valid list, in which nothing is missing
        project.write(f"{CONFIG}# line {number}\n")
        project.look()
    assert project.announced == []
    assert project.looks_until(TAKEN) == 1


@pytest.mark.parametrize(
    "text",
    [
        CONFIG.replace(', "note"', ""),  # what is missing may follow
        f"{CONFIG}# no end of the line",
    ],
)
def test_what_could_be_the_beginning_of_a_file_must_stand_still_for_five_seconds(project: Project, text: str) -> None:
    project.write(text)
    assert project.looks_until(TAKEN) == 1 + LONG_STILL_S
    assert project.methods() == ({"send"} if "note" not in text.partition("[jobs")[2] else {"send", "note"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not toml at all [", ":1: not valid TOML"),
        (CONFIG + "colour = 1\n", "jobs.Mail.colour: unknown key"),
        ("", "allows nothing any more"),
        ("# nothing\n", "allows nothing any more"),
        ("[bgjobs]\n", "allows nothing any more"),
        (None, "is gone: put it back, or stop the worker"),
    ],
)
def test_a_file_that_cannot_be_meant_is_announced_once_and_the_old_list_stays(
    project: Project, text: str | None, reason: str
) -> None:
    if text is None:
        project.path.unlink()
    else:
        project.write(text)
    assert project.looks_until(REFUSED) == 2
    project.look(20)
    assert len(project.announced) == 1
    assert reason in project.announced[0]
    assert project.methods() == {"send", "note"}
    assert not project.watch.is_current()
    project.write(CONFIG + ADDED)
    assert project.looks_until(TAKEN) == 2


def test_a_file_that_is_the_same_again_is_current_and_nothing_is_said(project: Project) -> None:
    project.write(CONFIG)
    assert not project.watch.is_current()
    project.look(2)
    assert project.watch.is_current()
    assert project.announced == []


def test_a_file_with_an_older_time_is_taken_over(project: Project) -> None:
    fresh = project.root / "older.toml"
    fresh.write_text(CONFIG + ADDED, "utf-8")
    os.utime(fresh, (1_000_000_000, 1_000_000_000))
    fresh.replace(project.path)
    assert project.looks_until(TAKEN) == 2


@posix_only
def test_a_file_that_was_refused_for_its_mode_is_taken_over_when_that_is_mended(project: Project) -> None:
    project.write(CONFIG + ADDED)
    project.path.chmod(0o666)
    assert project.looks_until(REFUSED) == 2
    project.path.chmod(0o600)
    assert project.looks_until(TAKEN) == 2


@posix_only
def test_a_file_that_was_refused_for_another_one_is_taken_over_when_that_is_mended(project: Project) -> None:
    (project.root / "code" / "shop.py").chmod(0o666)
    project.write(CONFIG + ADDED)
    assert project.looks_until(REFUSED) == 2
    (project.root / "code" / "shop.py").chmod(0o600)
    assert project.looks_until(TAKEN) <= RECHECK_S
    assert len(project.announced) == 2


def test_a_file_that_was_written_just_before_the_worker_began_is_not_trusted_at_once(tmp_path: Path) -> None:
    project = Project(tmp_path, age_s=1.0)
    assert not project.watch.is_current()  # it may have changed after it was read
    project.look(2)
    assert project.watch.is_current()
    assert project.announced == []


@pytest.mark.parametrize(
    ("old", "new"), [('["COLOUR"]', '["FLAVOUR"]'), ('import_paths = ["code"]', 'import_paths = ["code", "."]')]
)
def test_runners_are_replaced_where_they_keep_what_has_changed(project: Project, old: str, new: str) -> None:
    project.write(CONFIG.replace(old, new))
    assert project.look(3) == [False, True, False]
    assert project.announced == [f"{TAKEN}: 2 methods may run"]


@posix_only
def test_runners_are_replaced_when_an_import_path_leads_elsewhere_for_two_looks(tmp_path: Path) -> None:
    project = Project(tmp_path)
    code = project.root / "code"
    code.rename(project.root / "code-1")
    assert project.look(3) == [False] * 3  # a link that is being switched may be missing for a moment
    (project.root / "code-2").mkdir()
    code.symlink_to(project.root / "code-2")
    assert project.look(3) == [False, True, False]
    assert project.announced == [
        "import_paths or cwd lead to other directories now: the next jobs run in fresh processes"
    ]


SIGNED = CONFIG.replace("[jobs.Mail]", 'signing_keys = "signing.keys"\n[jobs.Mail]')
KEYS_TAKEN = "took over the changed signing keys: "
KEYS_REFUSED = "the changed signing keys are not taken over: "


def set_keys(root: Path, text: str) -> None:
    """Give the project these keys, in one step."""
    fresh = root / "keys.fresh"
    fresh.touch(0o600)
    fresh.write_text(text, "utf-8")
    fresh.replace(root / "signing.keys")


@pytest.fixture
def signed(tmp_path: Path) -> Project:
    set_keys(tmp_path, f"old {'0a' * 32}\n")
    return Project(tmp_path, config=SIGNED)


def test_keys_that_stand_still_are_current_from_the_beginning(signed: Project) -> None:
    assert signed.watch.keys_are_current(signed.now.s)
    assert signed.look(5) == [False] * 5
    assert signed.announced == []


def test_changed_keys_are_taken_over_at_the_next_look_and_final_a_second_later(signed: Project) -> None:
    set_keys(signed.root, f"new {'0b' * 32}\nold {'0a' * 32}\n")
    assert not signed.watch.keys_are_current(signed.now.s)
    assert signed.look() == [False]  # no runner knows a key
    assert signed.announced == [f"{KEYS_TAKEN}new signs, 2 verify"]
    assert not signed.watch.keys_are_current(signed.now.s + STILL_S - 0.1)
    assert signed.watch.keys_are_current(signed.now.s + STILL_S)
    signed.look(3)
    assert len(signed.announced) == 1


def test_a_broken_file_of_keys_is_announced_once_and_again_when_it_breaks_once_more(signed: Project) -> None:
    set_keys(signed.root, "no keys\n")
    signed.look(10)
    assert len(signed.announced) == 1
    assert signed.announced[0].startswith(KEYS_REFUSED)
    set_keys(signed.root, f"new {'0b' * 32}\n")
    signed.look(2)
    assert signed.announced[1:] == [f"{KEYS_TAKEN}new signs, 1 verify"]
    set_keys(signed.root, "no keys\n")
    signed.look()
    assert signed.announced[2].startswith(KEYS_REFUSED)  # it is another time


def steps(number: int, done: list[int]) -> Callable[[], Iterator[int]]:
    """Return what begins so many steps, each of which is noted when it is done."""

    def begin() -> Iterator[int]:
        for step in range(number):
            done.append(step)
            yield 0

    return begin


def test_nothing_is_tidied_in_the_first_half_minute() -> None:
    done: list[int] = []
    tidy = Tidy(1000.0)
    tidy.run(steps(3, done), lambda: 1000.0 + FIRST_S - 0.1)
    assert done == []
    tidy.run(steps(3, done), lambda: 1000.0 + FIRST_S)
    assert done == [0, 1, 2]


def test_quick_steps_are_done_at_once_and_again_ten_minutes_later() -> None:
    done: list[int] = []
    tidy, began = Tidy(0.0), 1000.0
    for after_s in (0.0, 1.0, EVERY_S - 1):
        tidy.run(steps(3, done), lambda: began + after_s)  # noqa: B023 - it is called at once
        assert done == [0, 1, 2]
    tidy.run(steps(3, done), lambda: began + EVERY_S)
    assert done == [0, 1, 2, 0, 1, 2]


def test_slow_steps_are_done_in_slices_with_pauses_between_them() -> None:
    done: list[int] = []
    tidy = Tidy(0.0)
    moments = count(1000.0, 0.6 * SLICE_S)
    tidy.run(steps(5, done), moments.__next__)
    assert done == [0, 1]
    tidy.run(steps(5, done), lambda: 1000.0 + PAUSE_S / 2)
    assert done == [0, 1]
    tidy.run(steps(5, done), lambda: 1000.0 + 2 * PAUSE_S)
    assert done == [0, 1, 2, 3, 4]  # where it was, and not from the beginning


def test_a_step_that_fails_is_tried_again_ten_minutes_later() -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise OSError(5, "Input/output error")

    done: list[int] = []
    tidy = Tidy(0.0)
    with pytest.raises(OSError, match="Input/output error"):
        tidy.run(broken, lambda: 1000.0)
    tidy.run(steps(1, done), lambda: 1000.0 + EVERY_S - 1)
    assert done == []
    tidy.run(steps(1, done), lambda: 1000.0 + EVERY_S)
    assert done == [0]
