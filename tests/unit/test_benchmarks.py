from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effects, fault
from benchmarks.peers import peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.contestants import Contestant

ROOT = Path(__file__).parents[2]
BENCHMARKS = [sys.executable, "-m", "benchmarks", "--quick"]
WITHOUT_SERVER = {"huey": "Huey", "dirq": "dirq", "litequeue": "litequeue", "persistqueue": "persist-queue"}
ON_REDIS = {"rq": "RQ", "dramatiq": "Dramatiq"}
NOT_ON_WINDOWS = pytest.mark.skipif(
    sys.platform == "win32", reason="the benchmarks sync directories, which Windows cannot"
)


@NOT_ON_WINDOWS
@pytest.mark.timeout(300)  # with all peers it takes most of a minute, where nothing else runs
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
    assert _beginnings(contestant for measure, contestant in faults if measure == "drain") == _installed()
    assert all(name in ran.stdout for name in record["contestants"])
    assert not list(directory.iterdir())
    assert not [process for process in psutil.process_iter(["cwd"]) if str(directory) in (process.info["cwd"] or "")]


@NOT_ON_WINDOWS
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
        running = contestant.pids()
        assert len(running) > 1
        assert all(_runs(pid) for pid in running)
        contestant.stop_worker()
        assert fault(effects.read(), range(8)) == ""
    finally:
        contestant.tear_down()
    assert contestant.pids() == []
    assert not any(_runs(pid) for pid in running)


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
