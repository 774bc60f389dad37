"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import images, surroundings
from benchmarks.lineup import NAMES, lineup
from benchmarks.places import Places, places, why_no_image
from benchmarks.report import Report
from benchmarks.rounds import Rounds
from benchmarks.sizes import BENCH, FULL, QUICK, Sizes

INSIDE = "BENCHMARKS_INSIDE"
INTERRUPTED = 130
NONE = "none"
# What is measured must not depend on the caller's own settings; the last two let each child compile or write more.
SETTINGS = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")


def main() -> int:
    """Measure, print the tables, and write every sample down if asked to."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where mount and mkfs are, whoever started us
    options = _options()
    if options.image and INSIDE not in os.environ:
        images.alone("benchmarks", INSIDE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # however we are stopped, the workers end with us
    for name in [name for name in os.environ if name.startswith("BGJOBS_") or name in SETTINGS]:
        del os.environ[name]
    try:
        with places(options.directory, options.image, options.sizes.image_gib) as where:
            report = _measured(where, options)
            # Before the place is emptied, which may take a while.
            print(report.text(), flush=True)
            if options.json is not None:
                options.json.write_bytes(report.json())
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _measured(where: Places, options: argparse.Namespace) -> Report:
    about = "; ".join(filter(None, [where.about, options.no_image]))
    known = surroundings.surroundings(where.disk, about) | {"load at the start": surroundings.load()}
    one_fsync = surroundings.one_fsync(where.disk)
    only = options.only or NAMES
    entries = lineup(options.sizes, only, one_fsync=one_fsync, memory=where.memory is not None)
    rounds = Rounds(entries, where, options.sizes)
    samples = list(rounds.samples())
    known["load at the end"] = surroundings.load()
    return Report(
        entries=entries,
        sizes=options.sizes,
        surroundings=known,
        one_fsync=one_fsync,
        seconds=rounds.seconds,
        samples=samples,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure bgjobs and its peers.")
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--full", action="store_true", help="measure all there is, on an image if possible")
    how_much.add_argument("--quick", action="store_true", help="take half a minute, only to see that all works")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="MEASURE", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--directory", type=Path, help="measure on its file system; else in a temporary directory")
    parser.add_argument("--image", choices=[*images.KINDS, NONE], help="measure on such a file system, made in a file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"so many rounds; else {Sizes().rounds}")
    options = parser.parse_args()
    if options.directory is None:
        options.directory = Path(tempfile.gettempdir())
    if not options.directory.is_dir():
        parser.error(f"no directory {options.directory}: make it first")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    options.sizes = _sizes(options)
    if "scale" in (options.only or ()) and not options.sizes.scale:
        parser.error("--only scale: add --full")
    _choose_image(options, parser)
    return options


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else FULL if options.full else BENCH
    return sizes if options.rounds is None else msgspec.structs.replace(sizes, rounds=options.rounds)


def _choose_image(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Take the kind that was asked for; in the full run ext4, if that is possible."""
    asked, options.no_image = options.image, ""
    options.image = "" if asked == NONE else asked or ("ext4" if options.full else "")
    if not options.image or INSIDE in os.environ:
        return
    reason = why_no_image(options.image, options.sizes.image_gib, options.directory)
    if reason and asked:
        parser.error(f"--image {asked}: {reason}")
    if reason:
        options.image, options.no_image = "", f"no image: {reason}"


if __name__ == "__main__":
    sys.exit(main())
