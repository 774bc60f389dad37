"""What a person is told when another program holds the queue's files, as on Windows: one line, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State, Succeeded
from bgjobs.spool import cached_listing
from bgjobs.spool.doctor import fsck
from bgjobs.spool.layout import Layout
from bgjobs.system.retrying import PAUSES
from tests.cli.commands import PATIENCE_S, Bgjobs, Result, environment
from tests.contract.held_files import DENIED, LOCKED, SHARING, HeldFiles
from tests.contract.stores import Sessions, SpoolKind, claim_all, finish

if TYPE_CHECKING:
    from bgjobs import Queue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pretends to be Windows")

ROOT = Path(__file__).parents[2]
# The command in a process in which the steps on the disk are refused as Windows refuses them; pauses take no time.
PROGRAM = """
import json, sys

import pytest

argv, code, steps, part, times = json.loads(sys.argv[1])
sys.path.append(sys.argv[2])
from bgjobs.spool import cached_listing
from tests.contract.held_files import HeldFiles

patch = pytest.MonkeyPatch()
patch.setattr(cached_listing, "RELIST_S", 0.01)
HeldFiles(patch).hold(code, *steps, part=part, times=times)
from bgjobs.cli.app import run
sys.exit(run(argv))
"""
MOVES = ["move", "replace", "unlink"]
OPENS = ["open_append", "open_create_append", "open_new", "open_read"]


def call(
    project: Path, argv: list[str], *, code: int, steps: list[str], part: str = "spool", times: int = 10**9
) -> Result:
    """Run a command to which these steps on paths with this part are refused so many times."""
    if argv[0] == "worker":
        return process(project, [argv, code, steps, part, times])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cached_listing, "RELIST_S", 0.01)
        HeldFiles(patch).hold(code, *steps, part=part, times=times)
        return Bgjobs(project, project.parent)(*argv)


def process(project: Path, plan: list[object]) -> Result:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(plan), str(ROOT)],
        cwd=project,
        env=environment(project.parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


def ended(queue: Queue) -> str:
    """Return the id of a job that was done."""
    job = queue.submit("Work", "echo", ["x"])
    workers = Sessions(SpoolKind(queue.settings.root))
    session = workers.join()
    finish(session, claim_all(session, 1)[0], Succeeded())
    workers.close()
    return job.id


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["submit", "Work", "echo", "x"], MOVES),
        (["submit", "Work", "echo", "x"], OPENS),
        (["batch", "jobs.jsonl"], MOVES),
        (["cancel", "QUEUED"], MOVES),
        (["run-now", "DELAYED"], MOVES),
        (["retry", "DONE"], MOVES),
        (["delete", "DONE"], MOVES),
        (["prune", "--older", "0", "DONE"], MOVES),
        (["status", "QUEUED"], OPENS),
        (["status", "QUEUED"], ["read"]),
        (["logs", "DONE"], OPENS),
        (["wait", "QUEUED"], OPENS),
        (["worker", "--once"], OPENS),
    ],
    ids=lambda words: "-".join(words[:2]),
)
@pytest.mark.parametrize("code", [DENIED, LOCKED])
def test_a_command_that_cannot_have_a_file_says_so_in_one_line_and_changes_nothing(
    project: Path, queue: Queue, words: list[str], steps: list[str], code: int
) -> None:
    jobs = {
        "DONE": ended(queue) if "DONE" in words else "",
        "QUEUED": queue.submit("Work", "echo", ["x"]).id,
        "DELAYED": queue.submit("Work", "echo", ["x"], delay=3600).id,
    }
    (project / "jobs.jsonl").write_text('{"class":"Work","method":"nothing"}\n' * 3, encoding="utf-8")
    before = queue.counts()
    part = "spool" if "read" not in steps else ""  # a read names no path
    if words[0] == "prune":
        words = words[:-1]  # it takes no id, and needs something to prune
    done = call(project, [jobs.get(word, word) for word in words], code=code, steps=steps, part=part)
    assert done.returncode == 1, done
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("bgjobs: cannot "), done.stderr
    assert "Traceback" not in done.stderr
    assert queue.counts() == before
    assert [finding for finding in fsck.check(Layout(queue.settings.spool)) if finding.serious] == []


@pytest.mark.parametrize("code", [DENIED, SHARING])
def test_a_worker_runs_all_jobs_though_files_are_held_for_longer_than_it_waits(
    project: Path, queue: Queue, code: int
) -> None:
    jobs = [queue.submit("Work", "flaky", retries=1), *(queue.submit("Work", "nothing") for _ in range(5))]
    held = 3 * (len(PAUSES) + 1) + 5
    done = call(project, ["worker", "--drain", "-c", "1"], code=code, steps=MOVES, times=held)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert {queue.get(job.id).state for job in jobs} == {State.DONE}
    assert len(queue.get(jobs[0].id).attempts) == 2
    assert [finding for finding in fsck.check(Layout(queue.settings.spool)) if finding.serious] == []
