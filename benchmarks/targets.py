"""What bgjobs means to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from benchmarks.contestants.floors import BOTH, NAMES
from benchmarks.measures import REFERENCE
from benchmarks.measures.commands import IMPORT, NOTHING, TYPER
from benchmarks.measures.only import ALL, ONLY
from benchmarks.measures.recovery import ANOTHER, RESTART
from benchmarks.measures.scale import AGAIN, FIRST
from benchmarks.results import NotMeasuredError, Results
from benchmarks.table import markdown, shown

FULL, OS = "bgjobs, durability full", "bgjobs, durability os"
FLOOR, SYNCED_FLOOR = NAMES[0], NAMES[BOTH]
TEN_MINUTES_S = 600.0
MANY = 1_000_000


class Target(Struct, frozen=True):
    """One figure, and how large or small it shall be."""

    what: str
    want: Literal["at least", "at most"]
    limit: float
    unit: str
    figure: Callable[[Results], float]


class Verdict(Struct, frozen=True, kw_only=True):
    """What became of a target: `found` is the figure, `why` says why there is none."""

    what: str
    want: str
    verdict: Literal["met", "not met", "not measured"]
    found: float | None = None
    unit: str
    why: str = ""


def verdicts(results: Results) -> list[Verdict]:
    """Judge all targets."""
    return [_verdict(target, results) for target in TARGETS]


def table(results: Results) -> str:
    """Return the verdicts as a table."""
    rows = [
        [each.what, each.want, each.why if each.found is None else f"{shown(each.found)} {each.unit}", each.verdict]
        for each in verdicts(results)
    ]
    return markdown([["bgjobs", "wanted", "measured", "target"], *rows], texts=4)


def _verdict(target: Target, results: Results) -> Verdict:
    want = f"{target.want} {target.limit:,g} {target.unit}"
    try:
        found = target.figure(results)
    except NotMeasuredError as error:
        return Verdict(what=target.what, want=want, verdict="not measured", unit=target.unit, why=str(error))
    met = found >= target.limit if target.want == "at least" else found <= target.limit
    return Verdict(what=target.what, want=want, verdict="met" if met else "not met", found=found, unit=target.unit)


def _figure(measure: str, row: str, per: float = 1) -> Callable[[Results], float]:
    return lambda results: results.figure(measure, row) / per


def _of_only(results: Results) -> float:
    return results.ratio("only", ONLY.format(100_000), ALL)


def _ratio(measure: str, row: str, other: str) -> Callable[[Results], float]:
    return lambda results: results.ratio(measure, row, other)


def _difference(measure: str, row: str, other: str) -> Callable[[Results], float]:
    return lambda results: results.figure(measure, row) - results.figure(measure, other)


def _part(measure: str, row: str, what: str, part: float) -> Callable[[Results], float]:
    return lambda results: results.percentile(measure, row, what, part)


def _where_one_fsync(*, safe: bool) -> Callable[[Results], float]:
    """Compare a synced submit with the floor of two fsyncs, if one is safe there or if it is not."""

    def figure(results: Results) -> float:
        if results.one_fsync is not safe:
            raise NotMeasuredError(f"the file system needs {'one fsync' if results.one_fsync else 'two fsyncs'}")
        return results.ratio("submit", FULL, SYNCED_FLOOR)

    return figure


def _churn(results: Results) -> float:
    figure = results.figure("churn", OS)
    if results.sizes.churn_s < TEN_MINUTES_S:
        raise NotMeasuredError(f"only {results.sizes.churn_s:g} s")
    return figure


def _flatness(results: Results) -> float:
    rates = [results.figure("backlog", row) for row in results.rows("backlog", OS)]
    if not rates:
        raise NotMeasuredError("backlog was left out")
    longest, delayed = max(results.sizes.backlogs), results.sizes.delayed
    if min(longest, delayed) < MANY:
        raise NotMeasuredError(f"only up to {longest:,} waiting and {delayed:,} delayed")
    return min(rates) / max(rates)


def _at_scale(*rows: str) -> Callable[[Results], float]:
    """Return the slowest of these, in seconds."""

    def figure(results: Results) -> float:
        found = max(results.figure("scale", row) for row in rows) / 1e3
        if results.sizes.scale < MANY:
            raise NotMeasuredError(f"only {results.sizes.scale:,} jobs of each kind")
        return found

    return figure


def _of(*states: str) -> list[str]:
    return [f"bgjobs status ID, {state}" for state in states]


TARGETS = (
    Target("drain with two runners, against Huey on SQLite", "at least", 5, "×", _ratio("drain", OS, REFERENCE)),
    Target("the same, against the uWSGI spooler", "at least", 0.35, "×", _ratio("drain", OS, "uWSGI spooler")),
    Target("the same, against the floor in Python", "at least", 0.6, "×", _ratio("drain", OS, FLOOR)),
    Target("drain with up to 1 M waiting and 1 M delayed: slowest / fastest", "at least", 0.75, "×", _flatness),
    Target("claim of --only behind 100,000 of others, against one that takes all", "at most", 1.2, "×", _of_only),
    Target("durable submit, against Huey on SQLite", "at least", 0.9, "×", _ratio("submit", FULL, REFERENCE)),
    Target("durable submit, against two fsyncs, where one is safe", "at least", 1.3, "×", _where_one_fsync(safe=True)),
    Target("durable submit, against two fsyncs, elsewhere", "at least", 0.9, "×", _where_one_fsync(safe=False)),
    Target("durable submit in groups of 1,000", "at least", 10_000, "jobs/s", _figure("bulk", FULL)),
    Target("submit, against the floor without fsync", "at least", 0.7, "×", _ratio("submit", OS, FLOOR)),
    Target("the same in memory", "at least", 0.5, "×", _ratio("submit-memory", OS, FLOOR)),
    Target("submit in ten minutes of churn: last / first", "at least", 0.8, "×", _churn),
    Target("idle worker: submit to start, p50", "at most", 1.5, "ms", _part("latency", FULL, "latency_ms", 0.5)),
    Target("idle worker: submit to start, p99", "at most", 6, "ms", _part("latency", FULL, "latency_ms", 0.99)),
    Target("the same after 25 s of quiet", "at most", 5, "ms", _figure("quiet", FULL)),
    Target("idle worker: CPU in 20 s", "at most", 0.06, "s", _part("quiet", FULL, "cpu_s", 0.5)),
    Target("idle worker: memory, with its runners", "at most", 60, "MiB", _part("quiet", FULL, "memory_mib", 0.5)),
    Target("bgjobs submit, against import typer", "at most", 1.4, "×", _ratio("commands", "bgjobs submit", TYPER)),
    Target("bgjobs submit, against rq enqueue", "at most", 0.4, "×", _ratio("commands", "bgjobs submit", "rq enqueue")),
    Target("import bgjobs, above an empty program", "at most", 60, "ms", _difference("commands", IMPORT, NOTHING)),
    Target("status with millions of jobs, the first time", "at most", 1.5, "s", _at_scale(FIRST)),
    Target("status with millions of jobs, again", "at most", 0.3, "s", _at_scale(AGAIN)),
    Target("status ID among them", "at most", 0.2, "s", _at_scale(*_of("waiting", "done", "running"))),
    Target("status ID among them, of a delayed job", "at most", 2, "s", _at_scale(*_of("delayed"))),
    Target("kill -9 beside another worker", "at most", 1, "s", _figure("recovery", f"{OS}: {ANOTHER}", per=1e3)),
    Target("kill -9, then a new worker", "at most", 1, "s", _figure("recovery", f"{OS}: {RESTART}", per=1e3)),
)
