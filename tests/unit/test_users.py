"""As which user each entry runs, and what is refused because nothing here can run as it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from bgjobs.config import run_as
from bgjobs.config.allowlist import Allowlist
from bgjobs.config.settings import load
from bgjobs.errors import ConfigError
from bgjobs.lifecycle import Policy

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED = """
[bgjobs]
user = "clerk"

[jobs.Office]
class   = "office"
methods = ["file", "shred"]

[jobs.Office.method.shred]
user = "guard"

[jobs.Shop]
class   = "shop"
methods = ["open"]
user    = ""
"""
NOBODY_S = "nobody-of-that-name"


def allowlist(folder: Path, text: str, environ: dict[str, str] | None = None) -> Allowlist:
    path = folder / "allowed_jobs.toml"
    path.write_text(text, encoding="utf-8")
    return Allowlist(load(config=str(path), environ=environ or {}))


def test_a_method_wins_over_its_class_and_the_class_over_the_project(tmp_path: Path) -> None:
    found = {target.method: target.policy.user for target in allowlist(tmp_path, ALLOWED)}
    assert found == {"file": "clerk", "shred": "guard", "open": ""}
    told = allowlist(tmp_path, ALLOWED, {"BGJOBS_USER": "boss"})
    assert {target.policy.user for target in told} == {"boss"}


def test_an_attempt_becomes_no_other_user_if_it_has_none_or_that_of_the_worker() -> None:
    assert run_as.other(Policy()) == ""
    assert run_as.other(Policy(user=system.user())) == ""
    assert run_as.other(Policy(user=NOBODY_S)) == NOBODY_S


def test_only_what_a_worker_may_run_is_its_concern(tmp_path: Path) -> None:
    listed = allowlist(tmp_path, ALLOWED)
    assert [target.method for target in run_as.those_of(listed, frozenset())] == ["file", "shred", "open"]
    assert [target.method for target in run_as.those_of(listed, {"Shop"})] == ["open"]
    run_as.refuse(run_as.those_of(listed, {"Shop"}))


def test_a_user_that_does_not_exist_is_refused_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    listed = allowlist(tmp_path, ALLOWED.replace("clerk", NOBODY_S))
    with pytest.raises(ConfigError) as caught:
        run_as.refuse(listed)
    assert str(caught.value).startswith("Office.file cannot run: ")
    assert NOBODY_S in str(caught.value)
    assert caught.value.hint
    assert (caught.value.code, caught.value.exit_status) == ("bad-user", 1)
    assert [target.method for target, _, _ in run_as.problems(listed)] == ["file", "shred"]


@pytest.mark.skipif(sys.platform == "win32", reason="every user is refused there")
def test_only_root_can_become_another_user() -> None:
    refused = (f"{system.user()} cannot run jobs as user daemon", "do it as root, or as daemon")
    assert system.cannot_become("daemon") == (None if os.geteuid() == 0 else refused)


@pytest.mark.skipif(sys.platform == "win32", reason="every user is refused there")
def test_the_own_user_is_no_problem() -> None:
    assert system.cannot_become(system.user()) is None


@pytest.mark.skipif(sys.platform == "win32", reason="no process becomes another user there")
def test_nobody_becomes_a_user_that_does_not_exist() -> None:
    before = os.getuid(), os.geteuid(), os.getgroups()
    with pytest.raises(OSError, match="there is no such user"):
        system.become(NOBODY_S)
    assert (os.getuid(), os.geteuid(), os.getgroups()) == before
