"""One target under libFuzzer: `python -m tests.fuzz.child TARGET WORK [libFuzzer's options]`. It never returns."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import atheris

_, NAME, WORK, *OPTIONS = sys.argv

with atheris.instrument_imports(include=["bgjobs", "tomllib"]):
    target = import_module(f"tests.fuzz.{NAME}").Target(Path(WORK))

atheris.Setup([sys.argv[0], *OPTIONS], target, enable_python_coverage=True)
atheris.Fuzz()
