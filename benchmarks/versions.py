"""Measure this checkout against an earlier commit of it, in turn, and print the ratios.

Run `python -m benchmarks.versions REV` in a checkout (Linux or macOS). Each version is given an environment of its own
that shares the installed packages, and each sample is taken in fresh processes: this one, the earlier one, the earlier
one, this one, and so on, so that what disturbs the machine disturbs both alike. A figure is judged by the median of the
ratios of neighbouring samples: above 1, this checkout is the faster one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

from benchmarks.contestants import PROCESSES
from benchmarks.contestants.bgjobs import Bgjobs
from benchmarks.effects import Effects, fault, rate
from benchmarks.processes import ROOT

FIGURES = {
    "submit": "jobs/s, one call each, durability os",
    "drain": f"jobs/s, {PROCESSES} runners",
    "drain, processor": "jobs per second of processor time of the worker and its runners",
    "first job": "jobs started per second from the start of `bgjobs worker`",
    "command": "runs/s of `bgjobs submit`",
}
COMMANDS = 8  # runs of `bgjobs submit` in one sample


def main() -> int:
    """Take all samples and print a row for each figure."""
    options = _options()
    if options.sample:
        print(json.dumps(_sample(Path(options.sample), options.jobs)))
        return 0
    with tempfile.TemporaryDirectory(prefix="bgjobs-versions-") as directory:
        above = Path(directory)
        earlier = above / "earlier"
        _git("worktree", "add", "--quiet", "--detach", str(earlier), options.revision)
        try:
            now, before = (_environment(above / f"python-{tree.name}", tree) for tree in (ROOT, earlier))
            pairs = [_pair(options, above, now, before, number) for number in range(options.pairs)]
        finally:
            _git("worktree", "remove", "--force", str(earlier))
    print(_table(pairs, _git("rev-parse", "--short", options.revision)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__.split("\n", 1)[0])
    parser.add_argument("revision", metavar="REV", nargs="?", default="HEAD~1", help="the earlier commit; else HEAD~1")
    parser.add_argument("--pairs", type=int, default=12, metavar="N", help="so many pairs of samples; else 12")
    parser.add_argument("--jobs", type=int, default=3000, metavar="N", help="so many jobs in a sample; else 3000")
    parser.add_argument("--directory", help="measure on its file system; else in a temporary directory")
    parser.add_argument("--sample", help=argparse.SUPPRESS)  # what each version is started with
    return parser.parse_args()


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout.strip()


def _environment(directory: Path, tree: Path) -> str:
    """Make an environment in which `bgjobs` is that of this tree, and all else what is installed here."""
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    # Runners ignore PYTHONPATH, so the path is written down where every Python of this environment finds it.
    lines = [str(tree / "src"), sysconfig.get_path("purelib"), ""]
    Path(packages, "versions.pth").write_text("\n".join(lines), encoding="utf-8")
    return str(python)


def _pair(options: argparse.Namespace, above: Path, now: str, before: str, number: int) -> list[dict[str, float]]:
    """Return the figures of this checkout and of the earlier one, taken in an order that changes each time."""
    taken: dict[str, dict[str, float]] = {}
    for python in (now, before) if number % 2 == 0 else (before, now):
        with tempfile.TemporaryDirectory(prefix="bgjobs-versions-", dir=options.directory or above) as directory:
            command = [python, "-m", "benchmarks.versions", "--sample", directory, "--jobs", str(options.jobs)]
            ran = subprocess.run(command, cwd=ROOT, env=_variables(), check=True, stdout=subprocess.PIPE)
            taken[python] = json.loads(ran.stdout)
    ratios = ", ".join(f"{figure} {taken[now][figure] / taken[before][figure]:.3f}" for figure in FIGURES)
    print(f"pair {number + 1} of {options.pairs}: {ratios}", file=sys.stderr)
    return [taken[now], taken[before]]


def _variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BGJOBS_", "PYTHON"))}
    return kept | {"PYTHONPATH": str(ROOT)}  # the benchmarks themselves are those of this checkout, for both


def _sample(directory: Path, jobs: int) -> dict[str, float]:
    """Take one sample of the version that this process has: all figures, more is better."""
    contestant, numbers, effects = Bgjobs("os"), range(jobs), Effects(directory)
    contestant.set_up(directory)
    began = time.perf_counter()
    for number in numbers:
        contestant.submit(number)
    submitted = time.perf_counter() - began
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_ns = time.monotonic_ns()
    worker = contestant.command("worker", "--concurrency", str(PROCESSES), "--drain", "--quiet")
    subprocess.run(worker, cwd=directory, check=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = effects.read()
    wrong = fault(found, numbers)
    if wrong:
        sys.exit(f"of {jobs} jobs: {wrong}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "submit": jobs / submitted,
        "drain": rate(found, PROCESSES).per_second,
        "drain, processor": jobs / used,
        "first job": 1e9 / (min(each.started_ns for each in found) - began_ns),
        "command": _commands(contestant, directory),
    }


def _commands(contestant: Bgjobs, directory: Path) -> float:
    command = contestant.command("submit", "Work", "note", "1")
    began = time.perf_counter()
    for _ in range(COMMANDS):
        subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return COMMANDS / (time.perf_counter() - began)


def _table(pairs: list[list[dict[str, float]]], revision: str) -> str:
    head = f"{'figure':<18}{'this':>10}{revision:>10}{'ratio':>8}{'lowest':>8}{'highest':>9}"
    lines = [head]
    for figure, meaning in FIGURES.items():
        now, before = ([pair[version][figure] for pair in pairs] for version in (0, 1))
        ratios = sorted(one / other for one, other in zip(now, before, strict=True))
        middle = f"{median(now):>10.1f}{median(before):>10.1f}{median(ratios):>8.3f}"
        lines.append(f"{figure:<18}{middle}{ratios[0]:>8.3f}{ratios[-1]:>9.3f}  {meaning}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
