"""One target under libFuzzer: `python -m tests.fuzz.child AGAIN TARGET WORK [options of libFuzzer]`. It never returns.

AGAIN is a program that starts this one again: libFuzzer does so to merge.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import atheris

_, AGAIN, NAME, WORK, *OPTIONS = sys.argv

with atheris.instrument_imports(include=["bgjobs", "tomllib"]):
    target = import_module(f"tests.fuzz.{NAME}").Target(Path(WORK))

atheris.Setup([AGAIN, *OPTIONS], target, enable_python_coverage=True)
atheris.Fuzz()
