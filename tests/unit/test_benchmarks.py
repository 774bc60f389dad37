from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from benchmarks.great_spool import GreatSpool
from bgjobs.job import State

ROOT = Path(__file__).parents[2]
BENCHMARKS = [sys.executable, "-m", "benchmarks", "--quick"]
PATIENCE_S = 60.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks sync directories, which Windows cannot")


def processes_below(directory: Path) -> list[psutil.Process]:
    return [each for each in psutil.process_iter(["cwd"]) if str(directory) in (each.info["cwd"] or "")]


@pytest.mark.timeout(300)
def test_the_benchmarks_measure_every_contestant_and_leave_nothing_behind(tmp_path: Path) -> None:
    samples, directory = tmp_path / "samples.json", tmp_path / "here"
    directory.mkdir()
    ran = subprocess.run(
        [*BENCHMARKS, "--directory", directory, "--json", samples],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    record = json.loads(samples.read_bytes())
    faults = {(sample["measure"], sample["contestant"]): sample["taken"]["fault"] for sample in record["samples"]}
    assert not any(faults.values()), (faults, ran.stderr)
    assert {measure for measure, contestant in faults if contestant.startswith("bgjobs")} == set(record["measures"])
    assert any(contestant.startswith("Huey") for _, contestant in faults) == (find_spec("huey") is not None)
    assert all(name in ran.stdout for name in record["contestants"])
    assert not list(directory.iterdir())
    assert not processes_below(directory)
    assert {target["verdict"] for target in record["targets"]} >= {"not measured"}
    assert all(target["what"] in ran.stdout for target in record["targets"])


def test_benchmarks_that_are_stopped_leave_nothing_behind(tmp_path: Path) -> None:
    command = [*BENCHMARKS, "--only", "quiet", "--rounds", "3", "--directory", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        give_up = time.monotonic() + PATIENCE_S
        while len(processes_below(tmp_path)) < 2 and time.monotonic() < give_up:
            time.sleep(0.02)
        assert processes_below(tmp_path)
        running.terminate()
        # Python ends itself by SIGINT when an exec() was interrupted, as in some imports; a shell says 130 of both.
        assert running.wait(PATIENCE_S) in {130, -2}
    assert not list(tmp_path.iterdir())
    assert not processes_below(tmp_path)


def test_only_what_was_asked_for_is_measured(tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    command = [*BENCHMARKS, "--only", "submit", "--only", "bulk", "--rounds", "2", "--json", str(samples)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=True)
    found = {(sample["measure"], sample["round"]) for sample in json.loads(samples.read_bytes())["samples"]}
    assert found == {("submit", 1), ("submit", 2), ("bulk", 1), ("bulk", 2)}, ran.stderr


def test_the_jobs_of_the_great_spool_lie_as_bgjobs_would_have_left_them(tmp_path: Path) -> None:
    great = GreatSpool(done=30, delayed=20, waiting=10)
    spool = great.get(tmp_path)
    counts = spool.queue.counts()
    assert (counts[State.DONE], counts[State.SCHEDULED], counts[State.QUEUED]) == (30, 20, 10)
    done = spool.queue.get(great.examples["done"])
    assert (done.state, done.result, len(done.attempts)) == (State.DONE, done.args[0], 1)
    looked = subprocess.run(spool.command("doctor"), cwd=spool.directory, capture_output=True, text=True, check=False)
    assert looked.returncode == 0, looked.stdout + looked.stderr
