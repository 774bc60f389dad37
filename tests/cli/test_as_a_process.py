"""A command that is a process of its own says and does what the same command does inside the process of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.commands import Finished


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["list", "--json", "--sort", "priority"], 0),
        (["status", "login", "--json"], 0),
        (["logs", "done"], 0),
        (["jobs"], 0),
        (["check"], 1),
        (["--version"], 0),
        (["submit", "-h"], 0),
        (["submit", "Work", "not_approved", "--spool", "nowhere"], 3),  # where no log is shared with other tests
        (["cancel", "done"], 1),
        (["status", "00000000"], 4),
        (["wait", "failed"], 5),
        (["lst"], 2),
        (["list", "--no-such-option"], 2),
    ],
    ids=str,
)
def test_a_process_of_its_own_makes_no_difference(finished: Finished, words: list[str], status: int) -> None:
    words = [finished.jobs[word].id if word in finished.jobs else word for word in words]
    here, there = finished.bgjobs(*words), finished.bgjobs.process(*words)
    assert (here.returncode, there.returncode) == (status, status)
    assert (here.stdout, here.stderr) == (there.stdout, there.stderr)
