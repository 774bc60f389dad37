"""Fuzz the reader of `allowed_jobs.toml`: the settings, and the approved pairs."""

from __future__ import annotations

import keyword
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist
from bgjobs.config.allowlist import Target as Approved
from bgjobs.errors import ConfigError, NotAllowedError
from tests.fuzz import checks

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = timedelta(days=36_525)
# What looks like a name, to somebody, and is none.
LOOK_ALIKES = ("{}\n", " {}", "{}\0", "{}()", "{}.x", "../{}", "{}\u200b", "\uff21{}", "{}\ud800", "*")
WORDS = (
    *("[bgjobs]\n", "[jobs.", "[jobs.Mail]\n", "[jobs.Mail.method.send]\n", 'class = "mail:Mail"\n', "class = ", "\n"),
    *('methods = ["', "methods = [", "secret = [", "description = ", "spool = ", "import_paths = [", "cwd = "),
    *("age_boost = ", 'durability = "full"', "finish_fsync = true", "min_free = ", "keep_done = ", "keep_failed = "),
    *("log_dir = ", "pass_env = [", "priority = ", "delay = ", "retries = ", "retry_delay = ", "backoff = "),
    *("max_retry_delay = ", "timeout = ", "kill_after = ", "max_crashes = ", "max_output = ", "retry_on = ["),
    *("fail_on = [", '"""', "'''", "\\u0000", "\\U0001F600", "1979-05-27T07:32:00Z", "inf", "nan", "1_000", "0x1"),
    *('"5m"', '"8MiB"', '"high"', "{", "}", "[[", "]]", "#", "os:system", "__init__", "\u0430", "1e400", "-1", "."),
)


class Target:
    """Reads bytes as an allowlist."""

    def __init__(self, work: Path) -> None:
        self._path = work / "allowed_jobs.toml"

    def __call__(self, data: bytes) -> None:
        """Read the bytes; each pair that they approve must be one that could be."""
        self._path.write_bytes(data)
        try:
            found = settings.load(config=str(self._path), environ={})
            approved = Allowlist(found)
        except ConfigError as error:
            self._check_message(str(error), data)
            return
        assert found.min_free >= 0
        for length in (found.keep_done, found.keep_failed, found.age_boost):
            assert timedelta(0) <= length <= LONGEST
        assert "\0" not in "".join((found.spool, found.log_dir, found.cwd, *found.import_paths))
        for target in approved:
            _check(approved, target)

    def _check_message(self, text: str, data: bytes) -> None:
        # Who writes the allowlist may choose long names; others cannot write it.
        checks.message(text[: checks.LONGEST_MESSAGE])
        assert str(self._path) in text, text
        place = re.match(rf"{re.escape(str(self._path))}:([0-9]+): ", text)
        if place:
            lines = len(data.decode("utf-8", "replace").splitlines())
            assert 1 <= int(place[1]) <= lines + 1, text

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


def _check(approved: Allowlist, target: Approved) -> None:
    assert checks.is_name(target.class_name), target
    assert checks.is_name(target.method), target
    assert "__" not in target.method, target
    assert not keyword.iskeyword(target.method), target
    assert checks.is_module(target.module), target
    assert "__" not in target.module, target
    top = target.module.split(".")[0]
    assert top not in sys.stdlib_module_names | {"bgjobs"}, target
    assert target.owner is None or checks.is_name(target.owner), target
    policy = target.policy
    assert 0 <= policy.priority <= 9, policy
    assert 0 <= policy.retries <= 1_000_000, policy
    assert policy.timeout > timedelta(0), policy
    for length in (policy.delay, policy.retry_delay, policy.max_retry_delay, policy.timeout, policy.kill_after):
        assert timedelta(0) <= length <= LONGEST, policy
    assert approved.target(target.class_name, target.method) == target
    for shape in LOOK_ALIKES:
        for pair in (
            (shape.format(target.class_name), target.method),
            (target.class_name, shape.format(target.method)),
        ):
            try:
                approved.target(*pair)
            except NotAllowedError as error:
                checks.message(str(error).replace(approved.path, ""))
            else:
                raise AssertionError(pair)
