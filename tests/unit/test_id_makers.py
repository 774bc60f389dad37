"""Whoever makes the id of a job puts the lane of its class and method into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bgjobs.ids import LANE, lane_of
from bgjobs.queue import Queue
from bgjobs.requests import Request
from tests.cli.commands import Bgjobs

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED = """
[jobs.Mail]
class = "mail:Mail"
methods = ["send", "read"]
"""
CODE = """
class Mail:
    def send(self, name):
        pass

    def read(self, name):
        pass
"""
SEND, READ = lane_of("Mail", "send"), lane_of("Mail", "read")


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "mail.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    return str(tmp_path / "allowed_jobs.toml")


@pytest.fixture
def queue(config: str) -> Queue:
    return Queue.open(config=config)


def test_submit(queue: Queue) -> None:
    assert queue.submit("Mail", "send", ["Tony"]).id[LANE] == SEND
    assert queue.submit("Mail", "read", ["Tony"], delay="1h", priority=9).id[LANE] == READ


def test_submit_many(queue: Queue) -> None:
    requests = [Request(class_name="Mail", method=method, args=["Tony"]) for method in ("send", "read", "send")]
    assert [job.id[LANE] for job in queue.submit_many(requests)] == [SEND, READ, SEND]


def test_retry(queue: Queue) -> None:
    job = queue.submit("Mail", "read", ["Tony"])
    queue.cancel(job.id)
    again = queue.retry(job.id)
    assert again.id != job.id
    assert again.id[LANE] == READ


def test_the_commands(config: str, tmp_path: Path) -> None:
    batch = tmp_path / "batch.jsonl"
    batch.write_text(
        '{"class":"Mail","method":"send","args":["Tony"]}\n{"class":"Mail","method":"read","args":["Tony"]}\n',
        encoding="utf-8",
    )
    bgjobs = Bgjobs(tmp_path, tmp_path)
    for command, *words in (["submit", "Mail", "send", "Tony"], ["batch", str(batch)]):
        result = bgjobs(command, "--config", config, *words)
        assert result.returncode == 0, result.stderr
    assert sorted(job.id[LANE] for job in Queue.open(config=config).jobs(state="queued")) == sorted([SEND, SEND, READ])
