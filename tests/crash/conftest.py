"""Counts what the crash tests tried, over all processes of pytest, and says it in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import lifecycle, system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
COUNTED = "crash"

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # they fork, and kill as POSIX does


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Return what takes down how much was tried: `count(kills=3)`."""

    def take_down(**numbers: int) -> None:
        record_property(COUNTED, json.dumps(numbers))

    return take_down


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was tried, of all tests that passed or failed, in whatever process they ran."""
    total: Counter[str] = Counter()
    failed = sum(len(terminalreporter.stats.get(how, ())) for how in ("failed", "error"))
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == COUNTED and getattr(report, "when", "") == "call":
                    total.update(json.loads(value))
    if total:
        verdict = f"{failed} tests FAILED, {total['broken']} cases broken" if failed else "no job lost, none run twice"
        terminalreporter.write_line(
            f"crash: {total['operations']} operations, {total['kills']:,} kill points, {total['errors']:,} injected "
            f"errors, {total['outside']:,} from outside, {total['states']:,} states after a power cut: {verdict}"
        )


@pytest.fixture
def place() -> Iterator[Path]:
    """Return an empty directory, in memory where there is such a place: thousands of small trees come and go in it."""
    with tempfile.TemporaryDirectory(prefix="bgjobs-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture
def tried(place: Path) -> Callable[[str, str], dict[str, Any]]:
    """Return what tries an operation in a process that has one thread, and may fork."""
    environment = system.base_environment(os.environ) | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(lifecycle.__file__).parents[1])])
    }

    def try_(operation: str, mode: str) -> dict[str, Any]:
        ended = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("driver.py")), operation, mode, str(place)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    return try_
