"""Draw what a run has written down: `python -m benchmarks.plots samples.json docs/plots`, see README.md."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import results
from benchmarks.measures import REFERENCE, is_essential

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.results import Results

    Draw = Callable[[Any, Results], None]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
MARKS = "osD^vP*X"
LINES = ("-", "--", ":")  # when there are no colours left
INCHES = (8.0, 4.6)
BOLD, IN_FRONT = 3.0, 5
# The same samples give the same file: the names in it come from the salt, and no date is in it.
STYLE = {
    "svg.hashsalt": "bgjobs",
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
}


def main() -> int:
    """Draw all plots for which there are samples."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description="Draw the samples of a run.")
    parser.add_argument("samples", type=Path, help="what --json has written")
    parser.add_argument("directory", type=Path, help="where the plots go")
    parser.add_argument("--format", default="svg", help="of the files; else svg")
    options = parser.parse_args()
    found = results.read(options.samples.read_bytes())
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, measure, draw in PLOTS:
        if not found.rows(measure):
            print(f"{name}: not drawn: {measure} was left out of that run", file=sys.stderr)
            continue
        path = options.directory / f"{name}.{options.format}"
        _drawn(draw, found, path)
        print(path)
    return 0


def _drawn(draw: Draw, found: Results, path: Path) -> None:
    matplotlib: Any = importlib.import_module("matplotlib")  # an optional package
    matplotlib.use("agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=INCHES, layout="constrained")
        draw(axes, found)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})
        pyplot.close(figure)


def _backlog(axes: Any, found: Results) -> None:  # noqa: ANN401 - matplotlib has no types here
    """Draw how fast jobs are run against how many wait."""
    rates = _by_contestant(found)
    for name, points in rates.items():
        lengths = sorted(points)
        middle = [median(points[length]) for length in lengths]
        spread = [
            [value - min(points[length]) for value, length in zip(middle, lengths, strict=True)],
            [max(points[length]) - value for value, length in zip(middle, lengths, strict=True)],
        ]
        look, mark = _look(found, name)
        axes.errorbar(lengths, middle, yerr=spread, label=name, capsize=3, marker=mark, **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("jobs that wait")
    axes.set_ylabel("jobs/s: median, least, greatest")
    _plain_ticks(axes.xaxis, (1,))
    _plain_ticks(axes.yaxis, (1, 2, 5))
    axes.set_title("Drain against backlog", loc="left")


def _by_contestant(found: Results) -> dict[str, dict[float, Sequence[float]]]:
    """Return all rates of each contestant by the length of its queue."""
    rates: dict[str, dict[float, Sequence[float]]] = {}
    for row in _sound(found, "backlog"):
        [waiting] = found.each("backlog", row, "waiting")
        name = row.rpartition(f", {waiting:,.0f} waiting")[0]
        rates.setdefault(name, {})[waiting] = found.each("backlog", row, "per_s")
    return rates


def _latency(axes: Any, found: Results) -> None:  # noqa: ANN401 - matplotlib has no types here
    """Draw which part of the jobs has started within which time."""
    for row in _sound(found, "latency"):
        every = sorted(found.each("latency", row, "latency_ms"))
        parts = [100 * (at + 1) / len(every) for at in range(len(every))]
        look, _ = _look(found, row)
        axes.step([every[0], *every], [0.0, *parts], where="post", label=row, **look)
    axes.set_xscale("log")
    axes.set_ylim(0, 101)
    axes.set_xlabel("ms from the call of submit to the first line of the job")
    axes.set_ylabel("% of the jobs have started")
    _plain_ticks(axes.xaxis, (1,))
    axes.set_title("Start latency of an idle worker", loc="left")


def _look(found: Results, name: str) -> tuple[dict[str, Any], str]:
    """Return how this contestant is drawn, the same in all plots, and with which mark. Ours stand out."""
    names = [*found.rows("latency"), *_by_contestant(found)]
    place = list(dict.fromkeys(names)).index(name)
    line = LINES[place // len(COLOURS) % len(LINES)]
    look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "linestyle": line}
    if is_essential(name) and name != REFERENCE:
        look |= {"linewidth": BOLD, "zorder": IN_FRONT}
    return look, MARKS[place % len(MARKS)]


def _plain_ticks(axis: Any, steps: Sequence[int]) -> None:  # noqa: ANN401 - matplotlib has no types here
    """Label a logarithmic axis at these steps of each power of ten, with plain figures."""
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=steps))
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.9g}"))


def _sound(found: Results, measure: str) -> list[str]:
    """Return the rows that have figures."""
    bad = {(one.measure, one.contestant) for one in found.samples if one.taken.fault or one.taken.answer}
    return [row for row in found.rows(measure) if (measure, row) not in bad]


PLOTS: tuple[tuple[str, str, Draw], ...] = (
    ("drain-against-backlog", "backlog", _backlog),
    ("latency", "latency", _latency),
)


if __name__ == "__main__":
    sys.exit(main())
