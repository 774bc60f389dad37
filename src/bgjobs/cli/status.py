"""`bgjobs status`: how the queue stands, or everything about one job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from bgjobs import clock
from bgjobs.cli import details, opening, options, output, overview
from bgjobs.queue import Queue

WATCH_EVERY_S = 1.0


def status(
    job_id: options.JobId = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again; with an ID until it has ended.")
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Show how the queue stands, or all about one job.

    How many jobs are in which state, the workers, what runs now, and the latest failures.
    """
    queue = opening.existing(config, spool)
    view = _View(queue, job_id)
    if not watch:
        view.look()
        _print(view, as_json=as_json)
    elif output.is_terminal(sys.stdout) and not as_json:
        _draw(view)
    else:
        _repeat(view, lambda: _print(view, as_json=as_json, apart=True))


class _View:
    """What is looked at: the queue, or one job of it."""

    def __init__(self, queue: Queue, job_id: str | None) -> None:
        self._queue = queue
        self._job_id = None if job_id is None else queue.full_id(job_id)
        self.value: object = None
        self.lines: list[output.Line] = []
        self.is_final = False

    def look(self) -> None:
        """Look once more."""
        now = clock.now()
        if self._job_id is None:
            seen = overview.look(self._queue, now)
            self.value = overview.to_json(seen, self._queue)
            self.lines = list(overview.lines(seen))
            return
        job = self._queue.get(self._job_id)
        hide = self._queue.hidden(job)
        later = self._queue.retried([job.id]).get(job.id) if job.state.ended else None
        self.value = details.to_json(job, hide, later)
        self.lines = list(details.of_job(job, hide, now, later))
        self.is_final = job.state.ended


def _print(view: _View, *, as_json: bool, apart: bool = False) -> None:
    if as_json:
        output.json(view.value)
        return
    output.lines(view.lines)
    if apart:
        output.data("")
        sys.stdout.flush()


def _draw(view: _View) -> None:
    from bgjobs.cli import drawing  # noqa: PLC0415 - rich is slow to import

    with drawing.live() as live:
        _repeat(view, lambda: live.update(drawing.text(view.lines), refresh=True))


def _repeat(view: _View, show: Callable[[], None]) -> None:
    while True:
        view.look()
        show()
        if view.is_final:
            return
        time.sleep(WATCH_EVERY_S)
