"""Show the jobs of the demo while they run: a table on a terminal, elsewhere one line for each change of state."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.cli import details, moments, output, tailing
from bgjobs.events import STATUS_LOG
from bgjobs.job import Job, State, show_priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bgjobs.queue import Queue

    Show = Callable[[Sequence[Job]], None]

WIDTH = 20
NEWS = 4  # the column with the latest about a job


@contextmanager
def opened(queue: Queue, *, quiet: bool) -> Iterator[Show]:
    """Give out what shows the jobs as they are now."""
    if quiet:
        yield lambda _: None
    elif output.is_terminal(sys.stdout):
        from bgjobs.cli import drawing  # noqa: PLC0415 - rich is slow to import

        with drawing.live() as live:
            yield lambda jobs: live.update(drawing.grid([_row(job) for job in jobs], {NEWS}), refresh=True)
    else:
        yield _Changes(queue).show


class _Changes:
    """Prints what the status log says, which has every change of state."""

    def __init__(self, queue: Queue) -> None:
        self._log = tailing.Log(os.path.join(queue.settings.log_dir, STATUS_LOG))
        self._start = time.monotonic()

    def show(self, _: Sequence[Job]) -> None:
        for line in self._log.more():
            said = tailing.fields(line.decode("utf-8", "backslashreplace"))
            step = f"{said['status']} {said['attempt'] or ''}"
            name = f"{said['class']}.{said['method']}"
            past = time.monotonic() - self._start
            output.data(f"{past:5.1f} s  {step:<12} {name} ({said['priority']}): {said['message']}")
        sys.stdout.flush()


def _row(job: Job) -> output.Line:
    return [
        (show_priority(job.priority), "dim"),
        (job.name, "bold"),
        (job.state.value, job.state.value),
        (f"attempt {job.charged}/{job.retries + 1}" if job.attempts else "", ""),
        _news(job),
    ]


def _news(job: Job) -> output.Span:
    """Return what is best known of a job in its state."""
    if job.state is State.RUNNING and job.progress is not None and job.progress.total:
        full = round(WIDTH * min(1.0, job.progress.done / job.progress.total))
        return ("━" * full + "╌" * (WIDTH - full) + f" {details.progress(job.progress)}", "cyan")
    if job.error is not None:
        return (details.why(job.error), "red")
    if job.state is State.DONE and job.result_json is not None:
        return (bytes(job.result_json).decode("utf-8", "replace"), "green")
    if job.state is State.SCHEDULED:
        return (f"not before {moments.compact(job.not_before, clock.now())}", "dim")
    return ("", "")
