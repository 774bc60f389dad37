from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effects, fault
from benchmarks.great_spool import GreatSpool
from benchmarks.measures.only import ALL, ONLY
from benchmarks.measures.steps import PARTS
from benchmarks.peers import peers
from bgjobs.job import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.contestants import Contestant

ROOT = Path(__file__).parents[2]
BENCHMARKS = [sys.executable, "-m", "benchmarks", "--quick"]
PATIENCE_S = 60.0
WITHOUT_SERVER = {"huey": "Huey", "dirq": "dirq", "litequeue": "litequeue", "persistqueue": "persist-queue"}
ON_REDIS = {"rq": "RQ", "dramatiq": "Dramatiq"}

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
    ours = ("bgjobs", ALL, ONLY, *PARTS)
    assert {measure for measure, row in faults if row.startswith(ours)} == set(record["measures"])
    assert _beginnings(contestant for measure, contestant in faults if measure == "drain") == _installed()
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


@pytest.mark.parametrize("contestant", [Bgjobs("os"), *peers()], ids=lambda contestant: contestant.name)
def test_a_contestant_runs_each_of_many_jobs_once_in_processes_that_it_names(
    contestant: Contestant, tmp_path: Path
) -> None:
    effects = Effects(tmp_path)
    try:
        contestant.set_up(tmp_path)
        contestant.submit_many(range(8))
        contestant.start_worker()
        effects.wait_for(8)
        running = _running(contestant)
        assert len(running) > 1
        contestant.stop_worker()
        assert fault(effects.read(), range(8)) == ""
    finally:
        contestant.tear_down()
    assert contestant.pids() == []
    assert not any(_runs(pid) for pid in running)


@pytest.mark.parametrize("contestant", [Bgjobs("os"), *peers()], ids=lambda contestant: contestant.name)
def test_a_contestant_whose_worker_was_killed_names_no_process_and_starts_another(
    contestant: Contestant, tmp_path: Path
) -> None:
    effects = Effects(tmp_path)
    try:
        contestant.set_up(tmp_path)
        server = set(contestant.pids())
        contestant.submit(0)
        contestant.start_worker()
        effects.wait_for(1)
        killed = set(contestant.pids()) - server
        contestant.kill_worker()
        assert killed
        assert not any(_runs(pid) for pid in killed)
        assert set(contestant.pids()) == server
        contestant.start_worker()
        contestant.submit(1)
        effects.wait_for(2)
        assert {effect.number for effect in effects.read()} >= {1}
    finally:
        contestant.tear_down()


def _running(contestant: Contestant) -> list[int]:
    """Return the processes that it names, all of which run; one that lives for a single job may end meanwhile."""
    give_up = time.monotonic() + PATIENCE_S
    while not all(map(_runs, named := contestant.pids())):
        assert time.monotonic() < give_up, named
        time.sleep(0.02)
    return named


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _installed() -> set[str]:
    """Return how the names of those contestants begin that can take part here."""
    here = {name for module, name in WITHOUT_SERVER.items() if find_spec(module)}
    here |= {"uWSGI"} if Path(sys.executable).with_name("uwsgi").exists() or shutil.which("uwsgi") else set()
    here |= {"Celery, files"} if find_spec("celery") else set()
    if shutil.which("redis-server") and find_spec("redis"):
        here |= {name for module, name in ON_REDIS.items() if find_spec(module)}
        here |= {"Celery, Redis"} if find_spec("celery") else set()
    return here | {"bgjobs", "floor"}


def _beginnings(names: Iterable[str]) -> set[str]:
    known = {*WITHOUT_SERVER.values(), *ON_REDIS.values(), "uWSGI", "Celery, files", "Celery, Redis", "bgjobs", "floor"}
    return {next((beginning for beginning in known if name.startswith(beginning)), name) for name in names}
