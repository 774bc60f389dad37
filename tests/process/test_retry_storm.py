"""Many jobs that fail at once come back spread over time, each as often as it may, and no worker spins meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bgjobs.job import State
from tests.process.conftest import request, wait_until

if TYPE_CHECKING:
    from tests.process.conftest import Project

DELAY = 1.0


@pytest.mark.sweep
@pytest.mark.parametrize("count", [200])
def test_jobs_that_fail_together_are_tried_again_apart(project: Project, count: int) -> None:
    jobs = project.queue.submit_many([request("Honest", "fail", retries=2, retry_delay=DELAY) for _ in range(count)])
    worker = project.start(concurrency=2)
    wait_until(lambda: project.queue.counts()[State.FAILED] == count, limit=60, pause=0.1)
    found = [project.queue.get(job.id) for job in jobs]
    assert {len(job.attempts) for job in found} == {3}
    waits = []
    for job in found:
        first, second, _ = job.attempts
        assert first.finished_at is not None
        waits.append((second.started_at - first.finished_at).total_seconds())
    assert min(waits) >= DELAY * 0.75 - 0.002
    moments = sorted(record["message"].split()[2] for record in project.log() if record["status"] == "RETRY")
    assert float(moments[-1]) <= DELAY * 2 * 1.25 + 0.1
    assert len(set(moments)) >= 5  # in tenths of a second: spread over a quarter on both sides
    assert len(moments) == 2 * count  # each was claimed three times and not once more
    assert worker.stop() == 0
