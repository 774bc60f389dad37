"""A job writes into the pipe of its own runner: its worker goes on, and no other job suffers from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import Queue
from bgjobs.job import State
from tests.cli.commands import Bgjobs
from tests.sweeping import part

if TYPE_CHECKING:
    from tests.process.conftest import Project

ALLOWED = """
[bgjobs]
durability  = "os"
retries     = 1
retry_delay = "0"

[jobs.Forger]
class   = "forger"
methods = ["forge", "echo"]
"""
FORGER = '''
import os
import stat
import time


def forge(message):
    """Say this to the worker, in place of the runner, through whatever pipe leads anywhere."""
    data = message.replace("ID", os.environ["BGJOBS_ID"]).encode() + b"\\n"
    for descriptor in range(3, 100):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                if os.name != "nt":
                    os.set_blocking(descriptor, True)
                left = data
                while left:
                    left = left[os.write(descriptor, left) :]
        except OSError:
            continue
    time.sleep(60)


def echo(what):
    return what
'''


def ended(**values: Any) -> str:
    outcome = values.pop("outcome", {"type": "Succeeded"})
    return json.dumps({"type": "Ended", "id": "ID", "began_ms": 1, "took": 0.1, "outcome": outcome} | values)


def raised(**values: Any) -> str:
    return ended(outcome={"type": "Raised", "error": {"type": "Error"}} | values)


FORGED = {
    "a moment that is none": ended(began_ms=10**18),
    "a moment before all": ended(began_ms=-(10**18)),
    "a huge number": ended(began_ms=int("9" * 4000)),
    "a wait without end": raised(retry_in="P999999999D", asked=True),
    "a wait into the past": raised(retry_in="-P999999999D", asked=True),
    "a loss that is not counted": ended(
        outcome={"type": "Crashed", "error": {"type": "WorkerLost"}, "worker_lost": True}
    ),
    "a stop that is not counted": ended(outcome={"type": "Interrupted"}),
    "a result without end": ended(outcome={"type": "Succeeded", "result": "x" * 10_000_000}),
    "a deep message": "[" * 100_000,
    "no message": "hello",
}


@pytest.fixture
def forging(project: Project) -> Project:
    (project.root / "forger.py").write_text(FORGER, "utf-8")
    project.rewrite("allowed_jobs.toml", ALLOWED)
    project.queue = Queue.open(config=str(project.config))
    return project


@pytest.mark.parametrize("message", part(FORGED.values(), tried=3), ids=FORGED.keys())
def test_a_forged_message_ends_its_own_attempt_and_nothing_else(forging: Project, message: str) -> None:
    if len(message) > 200_000:  # more than arguments may be
        source = FORGER.replace(
            "message.replace(", f"({message[:80]!r} + 'x' * 10_000_000 + {message[-80:]!r}).replace("
        )
        (forging.root / "forger.py").write_text(source, "utf-8")
        message = "long"
    forger = forging.queue.submit("Forger", "forge", [message], priority=9)
    others = [forging.queue.submit("Forger", "echo", [number]) for number in range(5)]
    worker = forging.drain()
    assert [forging.queue.get(job.id).result for job in others] == list(range(5))
    found = forging.queue.get(forger.id)
    assert (found.state, found.charged, len(found.attempts)) == (State.FAILED, 2, 2)
    assert found.error is not None
    assert found.error.type == "Crashed"
    assert "error" not in worker.says()


def test_a_process_cannot_say_of_a_job_that_it_does_not_hold_how_it_ended(forging: Project) -> None:
    other = forging.queue.submit("Forger", "echo", ["true"], delay="1s")
    forger = forging.queue.submit("Forger", "forge", [ended().replace("ID", other.id)], timeout="2s", retries=0)
    forging.drain(concurrency=2)
    assert forging.queue.get(other.id).result == "true"
    assert forging.queue.get(forger.id).state is State.FAILED


def test_a_deep_result_that_a_process_made_up_hinders_nobody_who_looks(forging: Project) -> None:
    deep = ended(outcome={"type": "Succeeded", "result": 0}).replace("0}", "[" * 940 + "]" * 940 + "}")
    forger = forging.queue.submit("Forger", "forge", [deep], timeout="1s")
    forging.drain()
    for command in (["status", forger.id], ["status", forger.id, "--json"], ["wait", forger.id, "--result"]):
        ran = Bgjobs(forging.root, forging.root)(*command)
        assert ran.returncode == 0, ran.stderr
