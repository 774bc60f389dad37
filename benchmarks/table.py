"""Show what was measured, as Markdown tables that read well as plain text."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measures import Measure
    from benchmarks.rounds import Sample

SMALL = 100  # figures below it are shown with decimals
TINY = 0.1  # ratios below it are shown with as many decimals as it takes
TEXTS = 2  # so many columns hold texts, the others figures


def table(measure: Measure, samples: Sequence[Sample]) -> str:
    """Return the table of one measure: a row for each contestant, with its ratio to others."""
    known: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.measure == measure.name:
            known.setdefault(sample.contestant, []).append(sample)
    head: list[str] = []
    rows: list[list[str]] = []
    for name, own in known.items():
        said = _said(own)
        if said:
            rows.append([name, own[0].durability, said])
            continue
        summary = measure.summary([sample.taken for sample in own])
        compared = measure.compared(name, own[0].durability)
        head = [*summary, *compared, "rounds"]
        ratios = [_ratio(own, known.get(other, [])) for other in compared.values()]
        rows.append([name, own[0].durability, *map(shown, summary.values()), *ratios, str(len(own))])
    return f"## {measure.name}: {measure.title}\n\n{markdown([['', 'durability', *head], *rows], texts=TEXTS)}"


def ratios(own: Sequence[Sample], others: Sequence[Sample]) -> list[float]:
    """Return the ratios within each round: what slows one down in a round slows down the other too."""
    by_round = {other.round: other.taken for other in others if not (other.taken.fault or other.taken.answer)}
    pairs = [(sample.taken, by_round.get(sample.round)) for sample in own]
    return [ours.figure / theirs.figure for ours, theirs in pairs if theirs is not None]


def shown(figure: float) -> str:
    """Return a figure as it is shown."""
    return f"{figure:,.0f}" if figure >= SMALL or figure == int(figure) else f"{figure:,.2f}"


def markdown(rows: Sequence[Sequence[str]], *, texts: int) -> str:
    """Return the rows as a table, the first as its head. A row with too few cells ends in a long one."""
    head = rows[0]
    widths = [max(3, *(len(row[at]) for row in rows if at < texts or len(row) == len(head))) for at in range(len(head))]
    rule = ["-" * width if column < texts else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(_line(row, widths, texts) for row in [head, rule, *rows[1:]])


def _said(own: Sequence[Sample]) -> str:
    """Return what there is to say of one that has no figures."""
    faults = [f"round {sample.round}: {sample.taken.fault}" for sample in own if sample.taken.fault]
    if faults:
        return f"NOT RANKED, {'; '.join(faults)}"
    return "; ".join(dict.fromkeys(sample.taken.answer for sample in own if sample.taken.answer))


def _ratio(own: Sequence[Sample], others: Sequence[Sample]) -> str:
    found = ratios(own, others)
    return f"{_times(median(found))} ({_times(min(found))}–{_times(max(found))})" if found else "–"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= TINY else f"{ratio:.2g}"


def _line(cells: Sequence[str], widths: Sequence[int], texts: int) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:texts], widths, strict=False)]
    figures = [cell.rjust(width) for cell, width in zip(cells[texts:], widths[texts:], strict=False)]
    return f"| {' | '.join([*words, *figures])} |"
