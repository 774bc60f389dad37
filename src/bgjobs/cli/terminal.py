"""Draw on a terminal, with rich. Only imported where there is one."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bgjobs.plain_text import sanitized

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence
    from typing import Self

    from bgjobs.cli.spans import Line
    from bgjobs.job import Job

MOST_BARS = 8
STYLES = {
    "queued": "blue",
    "scheduled": "blue",
    "waiting": "blue",
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "cancelled": "yellow",
    "corrupt": "magenta",
}


def console(stream: TextIO | None = None) -> Console:
    """Return a console on the stream (default: stdout) that interprets no markup."""
    return Console(
        file=stream or sys.stdout,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,
        emoji=False,
        highlight=False,
    )


def lines(shown: Iterable[Line]) -> None:
    """Print lines of spans."""
    console().print(text(shown), soft_wrap=True)


def table(head: Sequence[str], rows: Iterable[Line], elastic: Container[int]) -> None:
    """Print a table that fits the terminal: where space is scarce, the elastic columns are cut."""
    console().print(grid(list(rows), elastic, head))


def grid(rows: Sequence[Line], elastic: Container[int], head: Sequence[str] = ()) -> Table:
    """Return a table for rich, of rows of equal length."""
    drawn = Table(box=None, pad_edge=False, header_style="dim", show_header=bool(head))
    for place, title in enumerate(head or [""] * len(rows[0])):
        drawn.add_column(title, no_wrap=place not in elastic)
    for row in rows:
        drawn.add_row(*(_cell(*part) for part in row))
    return drawn


def live(stream: TextIO | None = None) -> Live:
    """Return an area of the terminal that is drawn again at each update."""
    return Live(console=console(stream), auto_refresh=False, vertical_overflow="crop")


def text(shown: Iterable[Line]) -> Text:
    """Return lines of spans as one text for rich."""
    return Text("\n").join(Text().join(span(*part) for part in line) for line in shown)


def span(content: str, style: str) -> Text:
    """Return one span for rich. A state is a style as well."""
    return Text(sanitized(content), style=STYLES.get(style, style))


def _cell(content: str, style: str) -> Text:
    cell = span(content, style)
    cell.no_wrap, cell.overflow = True, "ellipsis"
    return cell


class Bars:
    """A bar for each job that is waited for, or one for all of them when there are many."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on this terminal."""
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[about]}", markup=False),
            TimeElapsedColumn(),
            console=console(stream),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def show(self, jobs: Sequence[Job]) -> None:
        """Draw how far the jobs are."""
        if len(jobs) > MOST_BARS:
            self._set("", "waiting", sum(job.state.ended for job in jobs), len(jobs), "jobs ended")
            return
        for job in jobs:
            found = job.progress
            done, total = (1.0, 1.0) if job.state.ended else (found.done, found.total) if found else (0.0, None)
            about = sanitized(found.message) if found and not job.state.ended else ""
            self._set(job.id, f"{job.name} {job.state}", done, total, about)

    def _set(self, key: str, title: str, done: float, total: float | None, about: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(title, total=total, about=about)
        self._progress.update(self._tasks[key], description=title, completed=done, total=total, about=about)


class Bar:
    """One bar for a long input. It is out of the way while data is printed."""

    def __init__(self, stream: TextIO, total: int | None) -> None:
        """Draw on this terminal; `total` is the length of the input in bytes, if it is known."""
        # Data on stdout stays on stdout: rich would send it to where the bar is drawn.
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console(stream),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the bar while the block prints."""
        self._progress.stop()
        yield
        self._progress.start()

    def show(self, done: int, about: str) -> None:
        """Draw how far it is."""
        self._progress.update(self._task, completed=done, description=about, refresh=True)
