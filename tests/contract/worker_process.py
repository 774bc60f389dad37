"""A worker process that a test can kill: it joins, claims, begins and ends as many jobs as its plan says.

    python worker_process.py KIND WHERE '{"claim": 3, "begin": 2}'

It says on stdout what it did, as one line of JSON, and waits for a word on stdin: `finish` lets it finish what it has
begun, the end of input lets it end. The plan:

    claim     jobs to claim
    begin     how many of them to begin, as a runner does
    decide    the ending to store for each begun one and not to carry out, as if the power went: done, retry or back
    runner    start a process that holds a runner's lock and outlives us
    hammer    claim and finish whatever there is, in batches of this many, until nothing is left
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from bgjobs import system
from bgjobs.job import Interrupted, JobError, Outcome, Raised, Succeeded
from bgjobs.lifecycle import Policy
from tests.contract.stores import KINDS, NO_SELECTION, begin, claim_all, finish, info

ENDINGS: dict[str, Outcome] = {
    "done": Succeeded(),
    "retry": Raised(JobError(type="OSError", message="no answer"), ("OSError",)),
    "back": Interrupted(),
}
HOURLY = Policy(retry_delay=timedelta(hours=1), backoff="fixed")
RUNNER = """
import sys, time
from bgjobs.locks import hold_for_life
held = hold_for_life(sys.argv[1])
print("held", flush=True)
time.sleep(600)  # until it is killed
"""


def main() -> None:
    """Do what the plan says."""
    kind, where, text = sys.argv[1:]
    plan = json.loads(text)
    store = KINDS[kind](where)
    session = store.open().join(info(), NO_SELECTION)
    if "hammer" in plan:
        mine = []
        say({"ready": []})
        sys.stdin.readline()
        while claims := session.claim(plan["hammer"]):
            for claim in claims:
                finish(session, claim, Succeeded())
                mine.append(claim.job.id)
        session.leave()
        say({"claimed": mine})
        return
    claims = claim_all(session, plan.get("claim", 0))
    begun = [(claim, begin(session, claim)) for claim in claims[: plan.get("begin", 0)]]
    said = {"id": [session.id], "claimed": [claim.job.id for claim in claims]}
    if "decide" in plan:
        store.break_off_moves()
        for claim, running in begun:
            with contextlib.suppress(OSError):
                finish(session, claim, ENDINGS[plan["decide"]], policy=HOURLY, running=running)
    if "runner" in plan:
        lock = session.slots.lock(0)
        # By these a runner is known, and no other process of this user is.
        marks = {"BGJOBS_SPOOL": str(Path(lock).parents[2]), "BGJOBS_DEATH_FD": "-1"}
        command = [sys.executable, "-c", RUNNER, lock, "bgjobs.worker.child.main"]
        runner = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | marks)
        assert runner.stdout is not None
        runner.stdout.readline()
        birth = system.birth(runner.pid) or ""
        session.slots.started(0, runner.pid, birth)
        said["runner"] = [str(runner.pid), birth]
    say(said)
    if sys.stdin.readline().strip() == "finish":
        for claim, running in begun:
            finish(session, claim, Succeeded(), running=running)
        say({"finished": [claim.job.id for claim, _ in begun]})
        sys.stdin.readline()


def say(what: dict[str, list[str]]) -> None:
    """Print one line of JSON for the test."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
