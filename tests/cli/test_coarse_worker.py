"""A worker whose clocks go on every 15.6 ms only, as those of Windows, keeps delays, timeouts and order."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from bgjobs.job import State
from tests.cli.commands import PATIENCE_S, environment

if TYPE_CHECKING:
    from pathlib import Path

    from bgjobs import Queue

PROGRAM = """
import sys, time
from datetime import UTC, datetime

ns, monotonic = time.time_ns, time.monotonic
time.time_ns = lambda: ns() // 15_625_000 * 15_625_000
time.time = lambda: time.time_ns() / 1_000_000_000
time.monotonic = lambda: monotonic() // 0.015625 * 0.015625

from bgjobs import clock
from bgjobs.cli.app import run

clock.now = lambda: datetime.fromtimestamp(time.time_ns() // 1000 / 1_000_000, UTC)
sys.exit(run(sys.argv[1:]))
"""


def test_a_worker_with_a_coarse_clock_does_as_any_other(project: Path, queue: Queue) -> None:
    first = [queue.submit("Work", "nothing") for _ in range(20)]
    flaky = queue.submit("Work", "flaky", retries=2, retry_delay="0.01s", priority="low")
    late = queue.submit("Work", "nothing", delay="0.05s", priority="low")
    slow = queue.submit("Work", "sleep", [60], timeout="0.02s", priority="low")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "worker", "--drain", "-c", "1"],
        cwd=project,
        env=environment(project.parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    ended = [queue.get(job.id) for job in (*first, flaky, late, slow)]
    assert [job.state for job in ended] == [*[State.DONE] * 22, State.FAILED]
    assert ended[-1].error is not None
    assert ended[-1].error.type == "JobTimeout"
    assert len(ended[20].attempts) == 2
    for job in ended:
        for attempt in job.attempts:
            assert attempt.finished_at is not None
            # The runner has the fine clock: its moment may lie within the tick in which the worker's ended.
            assert (attempt.finished_at - attempt.started_at).total_seconds() > -0.0157
    begun = [job.attempts[0].started_at for job in ended[:20]]
    assert begun == sorted(begun)
