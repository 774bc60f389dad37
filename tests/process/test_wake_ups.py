"""A worker wakes at the doorbell at once, and is not kept from its work by one that rings all the time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bgjobs import system
from bgjobs.job import State
from bgjobs.worker import fetch
from bgjobs.worker.fetch import WakeUps
from tests.process.conftest import LIMIT, lines, request, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.conftest import Project

STORM = (
    "import os, sys\nwhile True:\n    for _ in range(100):\n        os.utime(sys.argv[1])\n    os.write(1, b'.' * 100)"
)


@pytest.fixture
def bell_file(tmp_path: Path) -> Path:
    path = tmp_path / "doorbell"
    path.touch()
    return path


@pytest.fixture
def wake_ups(bell_file: Path) -> Iterator[WakeUps]:
    poller, bell = system.Poller(), system.Doorbell(str(bell_file))
    yield WakeUps(poller, bell)
    poller.close()
    bell.close()


def is_woken(wake_ups: WakeUps, timeout_s: float) -> bool:
    """Wait as a worker does, and tell whether the doorbell rang."""
    wake_ups.wait(timeout_s, time.monotonic())
    return wake_ups.rang(time.monotonic())


def test_a_ring_that_comes_while_the_bell_is_ignored_is_noticed_a_moment_later(
    wake_ups: WakeUps, bell_file: Path
) -> None:
    for _ in range(fetch.MOST_IDLE_RINGS * 3):
        system.ring(str(bell_file))
        wait_until(lambda: is_woken(wake_ups, 0.001), pause=0)
    system.ring(str(bell_file))
    wait_until(lambda: is_woken(wake_ups, 0.1), pause=0)


def test_rings_that_bring_work_are_all_noticed_at_once(wake_ups: WakeUps, bell_file: Path) -> None:
    for number in range(fetch.MOST_IDLE_RINGS * 5):
        os.utime(bell_file, (number, number))
        assert wake_ups.rang(time.monotonic())
        wake_ups.found_work()


def test_jobs_run_and_the_worker_rests_while_somebody_rings_ten_thousand_times_a_second(
    project: Project, tmp_path: Path
) -> None:
    signed = tmp_path / "signed"
    worker = project.start(concurrency=2).ready()
    wait_until(lambda: len(list(project.spool.glob("workers/*/r*.pid"))) == 2)
    process = psutil.Process(worker.pid)
    storm = subprocess.Popen(
        [sys.executable, "-c", STORM, str(project.spool / "doorbell")], stdout=subprocess.PIPE, bufsize=0
    )
    try:
        began, before, rings = time.monotonic(), sum(process.cpu_times()[:2]), 0
        jobs = []
        while rings < 50_000 or time.monotonic() - began < 1:
            assert storm.stdout is not None
            rings += len(storm.stdout.read(10_000))
            jobs.append(project.queue.submit("Honest", "sign", [str(signed)]))
        used, took = sum(process.cpu_times()[:2]) - before, time.monotonic() - began
    finally:
        storm.kill()
        storm.wait()
        assert storm.stdout is not None
        storm.stdout.close()
    for job in jobs:
        assert project.queue.wait_until_ended(job.id, LIMIT).state is State.DONE
    assert sorted(lines(signed)) == sorted(job.id for job in jobs)
    assert used < took / 2  # it took all of a processor when it looked at each ring
    assert worker.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts watches")
def test_a_worker_that_gets_no_watch_from_the_kernel_looks_by_itself(project: Project, tmp_path: Path) -> None:
    no_watches = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    through = ["unshare", "--user", "--map-root-user", "sh", "-c", no_watches, "sh"]
    try:
        subprocess.run([*through, "true"], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let us take the watches away: {error}")
    worker = project.start(through=through).ready()
    opened = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{worker.pid}/fd").iterdir()]
    assert [name for name in opened if "inotify" in name] == []
    signed = tmp_path / "signed"
    for count in range(1, 4):
        project.queue.submit_many([request("Honest", "sign", str(signed))])
        wait_until(lambda: len(lines(signed)) == count)  # noqa: B023 - it is called at once
    assert worker.stop() == 0
