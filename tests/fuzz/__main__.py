"""Fuzz the boundary: each target for a while, with a kept corpus to begin from.

`python -m tests.fuzz --seconds 60 [TARGET…]`; ends with 1 if one crashed, and shows the input in the form of a test.
`--minimise` puts what covers more into the kept corpus, as few and as small files as that takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import CORPUS, TARGETS

ROOT = Path(__file__).parents[2]
MOST_BYTES = 4096
MOST_SECONDS_FOR_ONE = 60
LAST_LINES = 40


class Run(NamedTuple):
    """What became of one target."""

    executions: int
    covered: int
    at_first: int
    found: int
    crash: bytes | None
    output: str
    status: int


def main() -> int:
    """Fuzz each target, and say what came of it."""
    options = _options()
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: skipped: atheris has no wheel for this Python and system (see the extra `fuzz` in pyproject.toml)")
        return 0
    bad = 0
    targets = options.target or TARGETS
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each is a process of its own, and has one thread
        runs = pool.map(lambda name: _fuzz(name, options.seconds, minimise=options.minimise), targets)
        for name, run in zip(targets, runs, strict=True):
            print(
                f"fuzz: {name}: {run.executions} executions, kept corpus {len(list((CORPUS / name).iterdir()))} files, "
                f"{run.found} new inputs, coverage {run.at_first} -> {run.covered}, crashes {int(run.status != 0)}",
                flush=True,
            )
            if run.status:
                bad += 1
                _tell(name, run)
    print(f"fuzz: {'clean' if not bad else f'{bad} targets crashed'}")
    return min(bad, 1)


def _fuzz(name: str, seconds: int, *, minimise: bool) -> Run:
    with tempfile.TemporaryDirectory(prefix="bgjobs-fuzz-") as place:
        found, work, crashes, words = (Path(place, part) for part in ("found", "work", "crashes", "words"))
        for folder in (found, work, crashes):
            folder.mkdir()
        words.write_text(_dictionary(name), "utf-8")
        arguments = [
            *(f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/", f"-dict={words}"),
            *(f"-max_len={MOST_BYTES}", f"-timeout={MOST_SECONDS_FOR_ONE}", "-rss_limit_mb=1024"),
        ]
        status, output = _child(name, work, *arguments, str(found), str(CORPUS / name))
        crash = next((path.read_bytes() for path in crashes.iterdir()), None)
        executions = max((int(number) for number in re.findall(r"^#(\d+)\s", output, re.MULTILINE)), default=0)
        coverage = [int(number) for number in re.findall(r"^#\d+\s+\w+\s+.*?cov: (\d+)", output, re.MULTILINE)] or [0]
        at_first = re.search(r"^#\d+\s+INITED cov: (\d+)", output, re.MULTILINE)
        run = Run(
            executions=executions,
            covered=max(coverage),
            at_first=int(at_first[1]) if at_first else 0,
            found=len(list(found.iterdir())),
            crash=crash,
            output=output,
            status=status,
        )
        if minimise and not status:
            _minimise(name, Path(place), found, work)
        return run


def _minimise(name: str, place: Path, found: Path, work: Path) -> None:
    """Keep as few inputs as cover what the old and the new ones cover together; the seeds always stay."""
    merged = place / "merged"
    merged.mkdir()
    status, output = _child(
        name, work, "-merge=1", f"-max_len={MOST_BYTES}", str(merged), str(CORPUS / name), str(found)
    )
    if status or not list(merged.iterdir()):
        raise RuntimeError(f"the corpus cannot be minimised:\n{output}")
    kept = {path.read_bytes() for path in CORPUS.joinpath(name).glob("seed-*")}
    for path in CORPUS.joinpath(name).iterdir():
        if not path.name.startswith("seed-"):
            path.unlink()
    for path in merged.iterdir():
        if path.read_bytes() not in kept:
            path.rename(CORPUS / name / path.name[:16])


def _child(name: str, work: Path, *arguments: str) -> tuple[int, str]:
    """Run one target under libFuzzer in a process of its own, which it ends as it likes."""
    again = work.with_name("again")
    command = [sys.executable, "-m", "tests.fuzz.child", str(again), name, str(work)]
    again.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', "utf-8")
    again.chmod(0o700)
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _dictionary(name: str) -> str:
    """Return the words of a target as libFuzzer reads them."""
    words = import_module(f"tests.fuzz.{name}").WORDS
    content = (word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape") for word in words)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in content)
    return "".join(f'"{word}"\n' for word in escaped)


def _tell(name: str, run: Run) -> None:
    """Show what crashed, as a file for the corpus, which the replaying test then tries each time."""
    print("\n".join(run.output.splitlines()[-LAST_LINES:]))
    if run.crash is None:
        return
    path = ROOT / f"crash-{name}"
    path.write_bytes(run.crash)
    print(f"fuzz: {name}: the input is in {path.name}; as a test:")
    print(f"    Target(tmp_path)({run.crash!r})  # from tests.fuzz.{name}")
    print(f"fuzz: to keep it: mv {path.name} tests/fuzz/corpus/{name}/seed-WHAT-IT-IS")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", choices=[[], *TARGETS], help="which ones; else all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--minimise", action="store_true", help="change the kept corpus")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
