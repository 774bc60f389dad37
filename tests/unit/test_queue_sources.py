"""A program that goes on submitting looks at the source of a method again, but not for each job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from bgjobs.errors import BadArgumentsError
from bgjobs.queue import Queue

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = '[jobs.Mail]\nclass = "mail:Mail"\nmethods = ["send"]\n'
LIMIT_S = 30.0


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    (tmp_path / "allowed_jobs.toml").write_text(
        f'[bgjobs]\nimport_paths = ["{tmp_path.as_posix()}"]\n{CONFIG}', "utf-8"
    )
    write(tmp_path, "to")
    return Queue.open(config=str(tmp_path / "allowed_jobs.toml"), strict=False)


def write(folder: Path, parameters: str) -> None:
    (folder / "mail.py").write_text(f"class Mail:\n    def send(self, {parameters}): ...\n", encoding="utf-8")


def refusal(queue: Queue) -> str:
    try:
        queue.submit("Mail", "send", ["ann"])
    except BadArgumentsError as error:
        return str(error)
    return ""


def test_a_method_that_takes_more_now_is_noticed_by_a_program_that_goes_on_submitting(
    queue: Queue, tmp_path: Path
) -> None:
    queue.submit("Mail", "send", ["ann"])
    write(tmp_path, "to, text")
    give_up = time.monotonic() + LIMIT_S
    while "lacks text" not in refusal(queue):
        assert time.monotonic() < give_up
    queue.submit("Mail", "send", ["ann", "hello"])
