"""Run bgjobs through a storm of kills, stops and clock jumps, and prove that no job was lost and none ran twice.

`python -m tests.soak --seconds 60`; ends with 1 if any promise was broken, and then keeps all that it left.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

from tests.soak import diary, evidence, inspector, judging
from tests.soak.storm import Storm

# Loaded before the first fork, so that no process has to do it again.
WARM = ("bgjobs.cli.commands.worker", "bgjobs.spool.session", "bgjobs.worker.loop")
CALM_S = 300.0
MOST_SHOWN = 20


def main() -> int:
    """Storm, calm down, judge, report."""
    options = _options()
    # Without byte code each runner would compile bgjobs again, and be killed before it has done anything.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for module in WARM:
        import_module(module)
    gc.freeze()
    home = Path(tempfile.mkdtemp(prefix="bgjobs-soak-", dir=options.directory)).resolve()
    print(
        f"soak: {options.seconds:g} s, a kill every {options.kill_every:g} s, seed {options.seed}, in {home}",
        flush=True,
    )
    storm = Storm(home, options.seed, kill_every=options.kill_every)
    try:
        storm.rage(options.seconds, _say)
        _say("it calms down")
        storm.calm(CALM_S)
        _say("all has ended")
    finally:
        storm.close()
    clean = report(storm)
    if clean and not options.keep:
        shutil.rmtree(home)
    print(f"soak: {'clean' if clean else f'NOT clean: see {home}'} (seed {options.seed})")
    return 0 if clean else 1


def report(storm: Storm) -> bool:
    """Judge what is left and print it; return whether every promise was kept."""
    told = evidence.read_spool(storm.spool)
    wishes = diary.wishes(diary.read_all(storm.home / "diaries"))
    records = evidence.read_records(storm.home / "records")
    findings = [*wishes.found, *inspector.look_at_rest(storm.spool)]
    violations = judging.judge(told, wishes, records)
    kinds = Counter(violation.kind for violation in violations)
    attempts = [attempt for job in told for attempt in job.attempts]
    _count("jobs attempted to submit", len(wishes.attempted) + wishes.retrying.total())
    _count("jobs acknowledged", len(wishes.acknowledged))
    _count("ended", len(told), Counter(job.state for job in told))
    _count("attempts", len(attempts), Counter(attempt.outcome or "open" for attempt in attempts))
    _count("lost with their worker", sum(attempt.lost for attempt in attempts))
    _count("wishes", wishes.done.total(), wishes.done)
    _count("kills", storm.chaos.kills().total(), storm.chaos.kills())
    _count("other chaos", storm.chaos.others().total(), storm.chaos.others())
    _count("torn lines", sum(job.torn for job in told))
    _count("duplicates after a crash", judging.duplicates_after_crash(records.values()))
    for kind in ("lost", "unexpected", "overlap", "duplicate", "two places", "history"):
        _count(kind, kinds.pop(kind, 0))
    for kind, count in sorted(kinds.items()):
        _count(kind, count)
    _count("invariant findings", len(findings))
    _count("troubles", len(storm.troubles))
    storm.troubles += findings
    _show(storm, told, violations)
    return not violations and not storm.troubles


def _show(storm: Storm, told: list[evidence.Told], violations: list[judging.Violation]) -> None:
    for trouble in storm.troubles[:MOST_SHOWN]:
        print(f"\nTROUBLE {trouble}")
    paths = {job.id: job.path for job in told}
    for violation in violations[:MOST_SHOWN]:
        print(f"\nVIOLATION {violation.kind}: job {violation.job}: {violation.text}")
        for path in (
            storm.spool / paths.get(violation.job, "nowhere"),
            storm.home / "records" / violation.job[-2:] / violation.job,
        ):
            print(f"{path}:\n{path.read_text('utf-8', 'replace') if path.is_file() else 'is not there'}")


def _count(what: str, count: int, parts: Counter[str] | None = None) -> None:
    shown = ", ".join(f"{name} {number}" for name, number in sorted((parts or {}).items()) if number)
    print(f"  {what + ':':<28}{count:>7}{'   ' + shown if shown else ''}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the storm lasts")
    parser.add_argument("--kill-every", type=float, default=0.2, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of all choices, not of the timing")
    parser.add_argument("--directory", help="where to put the project; else the system's place for temporary files")
    parser.add_argument("--keep", action="store_true", help="keep the project also when all went well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
