from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_modules_that_a_flow_enters_are_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.modules", "src"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    counted = re.findall(r"^(.+): ([0-9]+) modules, ([0-9]+) changes of module$", done.stdout, re.MULTILINE)
    assert [flow for flow, *_ in counted] == ["bgjobs submit", "a drain of two jobs"]
    (submit, _), (drain, _) = ((int(entered), int(changes)) for _, entered, changes in counted)
    assert 10 < submit < drain
