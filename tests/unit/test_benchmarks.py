from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = [sys.executable, "-m", "benchmarks", "--quick"]


@pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks sync directories, which Windows cannot")
def test_the_benchmarks_measure_every_contestant_and_leave_nothing_behind(tmp_path: Path) -> None:
    samples, directory = tmp_path / "samples.json", tmp_path / "here"
    directory.mkdir()
    ran = subprocess.run(
        [*BENCHMARKS, "--directory", directory, "--json", samples],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
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
    assert not [process for process in psutil.process_iter(["cwd"]) if str(directory) in (process.info["cwd"] or "")]
