"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import rounds, surroundings
from benchmarks.lineup import REFERENCE, lineup
from benchmarks.measures import QUICK, Sizes
from benchmarks.report import Report

INTERRUPTED = 130


def main() -> int:
    """Measure, print the tables, and write every sample down if asked to."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # however we are stopped, the workers end with us
    for name in [name for name in os.environ if name.startswith("BGJOBS_")]:
        del os.environ[name]  # what is measured must not depend on the caller's own settings
    try:
        # Everything is deleted at the end: deleting slows the making of files down for a while, on some file systems.
        with tempfile.TemporaryDirectory(prefix="bgjobs-bench-", dir=options.directory) as directory:
            report = _measured(Path(directory), _sizes(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    print(report.text())
    if options.json is not None:
        options.json.write_bytes(report.json())
    return 0


def _measured(directory: Path, sizes: Sizes) -> Report:
    entries = lineup()
    where = surroundings.surroundings(directory) | {"load at the start": surroundings.load()}
    samples = list(rounds.run(entries, directory, sizes))
    where["load at the end"] = surroundings.load()
    return Report(entries=entries, reference=REFERENCE, sizes=sizes, surroundings=where, samples=samples)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure bgjobs and its peers.")
    parser.add_argument("--directory", type=Path, help="measure on its file system; else in a temporary directory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"so many rounds; else {Sizes().rounds}")
    parser.add_argument("--quick", action="store_true", help="take a few seconds, only to see that everything works")
    options = parser.parse_args()
    if options.directory is not None and not options.directory.is_dir():
        parser.error(f"no directory {options.directory}: make it first")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    return options


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else Sizes()
    return sizes if options.rounds is None else msgspec.structs.replace(sizes, rounds=options.rounds)


if __name__ == "__main__":
    sys.exit(main())
