"""Cut the power under a busy queue, again and again, and see that no acknowledged job is lost.

    python -m tests.powercut [--cuts 200] [--file-system ext4] [--seed N]

Needs Linux, root and loop devices; says so and ends well where it has none. What is mounted is seen by no
other process.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import images
from tests.powercut import disks, load, rounds

INSIDE = "BGJOBS_TEST_POWERCUT_INSIDE"


def main() -> int:
    """Run what was asked for, and return the exit status."""
    options = _options()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where mount and mkfs are, whoever started us
    lacking = images.lacking()
    if lacking:
        print(f"powercut: skipped: {lacking}")
        return 0
    if INSIDE not in os.environ:
        images.alone("tests.powercut", INSIDE)
    load.adopt_orphans()
    print(f"powercut: seed {options.seed}", flush=True)
    kinds = [kind for kind in options.file_system or images.KINDS if not _skipped(kind)]
    with tempfile.TemporaryDirectory(prefix="bgjobs-powercut-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", name], check=True)
        try:
            return max((_try(kind, Path(name), options) for kind in kinds), default=0)
        finally:
            subprocess.run(
                ["umount", "--lazy", name], check=False
            )  # the last loop device may still let go of its image


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut")
    parser.add_argument("--cuts", type=int, default=200, help="so many in all")
    parser.add_argument("--file-system", action="append", choices=images.KINDS, help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    options.each = -(-options.cuts // len(options.file_system or images.KINDS))
    return options


def _skipped(kind: str) -> bool:
    reason = images.unknown(kind)
    if reason:
        print(f"powercut: {kind} skipped: {reason}", flush=True)
    return bool(reason)


def _try(kind: str, folder: Path, options: argparse.Namespace) -> int:
    """Try one kind of file system; return 1 if a promise was broken."""
    dice = random.Random(f"{options.seed} {kind}")
    disk, counts, begun = disks.Disk(kind, folder), rounds.Counts(), time.monotonic()
    try:
        lost = rounds.must_lose(disk, folder, dice)
        kept, torn = rounds.survive_lies(disk, folder, dice)
        while counts.cuts < options.each:
            rounds.cut_again_and_again(disk, folder, dice, counts)
    except rounds.BrokenPromiseError as error:
        print(f"powercut: {kind} BROKEN after {counts.cuts} cuts, seed {options.seed}:\n{error}", flush=True)
        return 1
    print(
        f"powercut: {kind} {counts.cuts} cuts, {counts.acked:,} jobs acknowledged, 0 lost, 0 torn, "
        f"{counts.again} run again, {counts.for_good} done for good and not run again, "
        f"{counts.undone} of {counts.cancels} cancels undone, "
        f"{time.monotonic() - begun:.0f} s\n"
        f"powercut: {kind} without syncs: {lost} lost, as it must be; "
        f"with syncs that lie: {torn} torn and put aside, the {kept} others done",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
