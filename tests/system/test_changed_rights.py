"""A job that gives up the rights of its process ends as what it did, and the next one has them again."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import LIMIT, lines

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("no process becomes another user there", allow_module_level=True)
assert sys.platform != "win32"

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Project

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can give up its rights; namespaces are Linux's"
)
CHANGES = [
    *("setuid", "setgid", "setresuid", "seteuid", "initgroups"),
    *("chroot", "no descriptors", "no room", "hidden spool", "no way back"),
]


@pytest.mark.parametrize("what", CHANGES)
def test_a_job_that_gives_up_its_rights_is_done_and_ran_once(shared: Project, tmp_path: Path, what: str) -> None:
    usual = shared.queue.wait_until_ended(shared.queue.submit("Changing", "who").id, LIMIT).result
    ran = tmp_path / "ran"
    job = shared.queue.submit("Changing", "change", [what, str(ran)])
    done = shared.queue.wait_until_ended(job.id, LIMIT)
    assert (done.state, done.result, done.error) == (State.DONE, what, None)
    assert [attempt.outcome for attempt in done.attempts] == ["succeeded"]
    assert lines(ran) == ["ran"]
    if what not in {"no descriptors", "no room"}:
        assert shared.output(job) == b"before\nafter\n"
    assert shared.queue.wait_until_ended(shared.queue.submit("Changing", "who").id, LIMIT).result == usual


@pytest.mark.parametrize("what", ["setuid", "seteuid", "chroot", "no descriptors", "no room"])
def test_a_job_that_gives_up_its_rights_fails_with_its_own_error(shared: Project, tmp_path: Path, what: str) -> None:
    ran = tmp_path / "ran"
    job = shared.queue.submit("Changing", "change_and_fail", [what, str(ran)], retries=1)
    done = shared.queue.wait_until_ended(job.id, LIMIT)
    assert [attempt.outcome for attempt in done.attempts] == ["raised", "raised"]
    assert done.error is not None
    assert (done.error.type, done.error.message) == ("LookupError", what)
    assert lines(ran) == ["ran", "ran"]
    for attempt in (1, 2):
        assert what == "no room" or shared.output(job, attempt) == b"before\n"
