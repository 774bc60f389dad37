"""Show what was measured, as Markdown tables that read well as plain text."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.measures import Measure
    from benchmarks.rounds import Sample

SMALL = 100  # figures below it are shown with decimals
TEXTS = 2  # so many columns hold texts, the others figures


def table(measure: Measure, contestants: Sequence[Contestant], samples: Sequence[Sample], reference: str) -> str:
    """Return the table of one measure: a row for each contestant, with its ratio to the reference."""
    rows: list[list[str]] = []
    names: list[str] = []
    for contestant in contestants:
        own = _of(measure.name, contestant.name, samples)
        row = [contestant.name, measure.durability(contestant)]
        faults = [f"round {sample.round}: {sample.taken.fault}" for sample in own if sample.taken.fault]
        if faults:
            rows.append([*row, f"NOT RANKED, {'; '.join(faults)}"])
            continue
        summary = measure.summary([sample.taken for sample in own])
        names = list(summary)
        ratio = _ratio(own, _of(measure.name, reference, samples))
        rows.append([*row, *(_shown(figure) for figure in summary.values()), ratio])
    return f"## {measure.title}\n\n{_markdown([['', 'durability', *names, f'× {reference} (min–max)'], *rows])}"


def _of(measure: str, contestant: str, samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if (sample.measure, sample.contestant) == (measure, contestant)]


def _ratio(own: Sequence[Sample], reference: Sequence[Sample]) -> str:
    """Return the median of the ratios within each round: what slows one down in a round slows down the other too."""
    if not reference or any(sample.taken.fault for sample in reference):
        return "–"
    pairs = zip(own, reference, strict=True)
    ratios = [ours.taken.figure / theirs.taken.figure for ours, theirs in pairs]
    return f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _shown(figure: float) -> str:
    return f"{figure:,.2f}" if figure < SMALL else f"{figure:,.0f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a table, the first as its head. A row with too few cells ends in a long one."""
    head = rows[0]
    widths = [max(3, *(len(row[column]) for row in rows if _counts(row, column, head))) for column in range(len(head))]
    rule = ["-" * width if column < TEXTS else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(_line(row, widths) for row in [head, rule, *rows[1:]])


def _counts(row: Sequence[str], column: int, head: Sequence[str]) -> bool:
    return column < TEXTS or len(row) == len(head)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    texts = [cell.ljust(width) for cell, width in zip(cells[:TEXTS], widths, strict=False)]
    figures = [cell.rjust(width) for cell, width in zip(cells[TEXTS:], widths[TEXTS:], strict=False)]
    return f"| {' | '.join([*texts, *figures])} |"
