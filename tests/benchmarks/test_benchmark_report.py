from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from benchmarks import plots, results, targets
from benchmarks.sizes import BENCH, FULL, Sizes

if TYPE_CHECKING:
    from pathlib import Path

OURS, HUEY = "bgjobs, durability os", "Huey, SQLite"
DRAIN = "drain with two runners, against Huey on SQLite"
FLAT = "drain with up to 1 M waiting and 1 M delayed: slowest / fastest"


def record(*samples: dict[str, Any], sizes: Sizes = BENCH, one_fsync: bool = True) -> bytes:
    """Return what a run with these samples would have written down."""
    known = {"sizes": msgspec.to_builtins(sizes), "one_fsync": one_fsync, "samples": samples, "surroundings": {}}
    return json.dumps(known).encode()


def sample(measure: str, row: str, figure: float = 0.0, *, number: int = 1, **taken: Any) -> dict[str, Any]:
    about = {"measure": measure, "contestant": row, "durability": "", "round": number}
    return about | {"taken": {"figure": figure, **taken}}


def verdict(what: str, *samples: dict[str, Any], sizes: Sizes = BENCH, one_fsync: bool = True) -> targets.Verdict:
    found = results.read(record(*samples, sizes=sizes, one_fsync=one_fsync))
    [one] = [each for each in targets.verdicts(found) if each.what == what]
    return one


def test_a_target_that_was_reached_is_met() -> None:
    one = verdict(DRAIN, sample("drain", OURS, 5000), sample("drain", HUEY, 1000))
    assert (one.verdict, one.found) == ("met", 5.0)


def test_a_target_that_was_nearly_reached_is_not_met() -> None:
    one = verdict(DRAIN, sample("drain", OURS, 4999), sample("drain", HUEY, 1000))
    assert (one.verdict, one.found) == ("not met", 4.999)


def test_an_upper_limit_is_one() -> None:
    what = "idle worker: submit to start, p99"
    row = "bgjobs, durability full"
    assert verdict(what, sample("latency", row, raw={"latency_ms": [1.0, 6.0]})).verdict == "met"
    assert verdict(what, sample("latency", row, raw={"latency_ms": [1.0, 6.1]})).verdict == "not met"


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ([], "drain was left out"),
        ([sample("drain", OURS, 5000)], "Huey, SQLite: not there"),
        ([sample("drain", OURS, 5000), sample("drain", HUEY, fault="3 lost")], "Huey, SQLite: 3 lost"),
        ([sample("drain", OURS, 5000, number=2), sample("drain", HUEY, 1)], "Huey, SQLite: never in the same round"),
    ],
)
def test_a_target_without_its_figures_was_not_measured_and_says_why(samples: list[dict[str, Any]], why: str) -> None:
    one = verdict(DRAIN, *samples)
    assert (one.verdict, one.found, one.why) == ("not measured", None, why)


def test_ratios_are_taken_within_rounds() -> None:
    busy = [sample("drain", OURS, 600, number=2), sample("drain", HUEY, 100, number=2)]
    calm = [sample("drain", OURS, 6000), sample("drain", HUEY, 1000)]
    assert verdict(DRAIN, *calm, *busy).found == 6.0


def test_a_short_run_judges_no_target_that_asks_for_a_long_one() -> None:
    rows = [sample("backlog", f"{OURS}, {waiting} waiting", 1000.0) for waiting in ("1,000", "10,000")]
    churn = "submit in ten minutes of churn: last / first"
    assert verdict(FLAT, *rows).why == "only up to 10,000 waiting and 0 delayed"
    assert verdict(FLAT, *rows, sizes=FULL).verdict == "met"
    assert verdict(churn, sample("churn", OURS, 0.9)).why == "only 15 s"
    assert verdict(churn, sample("churn", OURS, 0.9), sizes=FULL).verdict == "met"


def test_what_a_file_system_cannot_show_is_not_judged() -> None:
    rows = sample("submit", "bgjobs, durability full", 100), sample("submit", "floor: write, fsync, rename, fsync", 100)
    safe, elsewhere = [target.what for target in targets.TARGETS if "two fsyncs" in target.what]
    assert (verdict(safe, *rows).verdict, verdict(elsewhere, *rows).verdict) == ("not met", "not measured")
    assert verdict(safe, *rows, one_fsync=False).verdict == "not measured"
    assert verdict(elsewhere, *rows, one_fsync=False).verdict == "met"


def test_the_table_has_a_row_for_each_target() -> None:
    text = targets.table(results.read(record(sample("drain", OURS, 4999), sample("drain", HUEY, 1000))))
    assert len(text.splitlines()) == 2 + len(targets.TARGETS)
    assert [row for row in text.splitlines() if "not met" in row and DRAIN in row and "5 ×" in row]
    assert text.count("not measured") == len(targets.TARGETS) - 1


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib: the extra plots")
def test_the_same_samples_give_the_same_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [900.0, 1000.0, 950.0]
    rows = [
        sample("backlog", f"{OURS}, {length:,} waiting", raw={"waiting": [length], "per_s": rates})
        for length in (1000, 10_000)
    ]
    samples = tmp_path / "samples.json"
    samples.write_bytes(record(*rows, sample("latency", OURS, raw={"latency_ms": [1.0, 2.0, 3.0]})))
    drawn = []
    for name in ("one", "two"):
        monkeypatch.setattr("sys.argv", ["plots", str(samples), str(tmp_path / name)])
        assert plots.main() == 0
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert drawn[0] == drawn[1]
    assert drawn[0].keys() == {"drain-against-backlog.svg", "latency.svg"}
    assert all(OURS.encode() in plot for plot in drawn[0].values())
