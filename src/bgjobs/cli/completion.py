"""What the shell may complete: states, class and method names from the allowlist, ids from the spool.

Completion never fails: where something is wrong, it has nothing to offer.
"""

from __future__ import annotations

from itertools import islice

import typer

from bgjobs.errors import BgjobsError
from bgjobs.job import ENDED, State
from bgjobs.queue import Queue

MOST_IDS = 50


def class_names(context: typer.Context) -> list[tuple[str, str]]:
    """Return the classes of the allowlist, with their descriptions."""
    queue = _queue(context)
    return list({target.class_name: target.description for target in queue.allowlist}.items()) if queue else []


def method_names(context: typer.Context) -> list[tuple[str, str]]:
    """Return the methods of the class that the line names, or of all classes."""
    queue = _queue(context)
    chosen = context.params.get("class_name")
    if queue is None:
        return []
    return [(target.method, target.class_name) for target in queue.allowlist if chosen in {None, target.class_name}]


def states() -> list[str]:
    """Return the states that a job can be in."""
    return [state.value for state in State]


def job_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the newest jobs."""
    return _ids(context, incomplete, frozenset(State) - {State.CORRUPT})


def active_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the newest jobs that have not ended."""
    return _ids(context, incomplete, frozenset(State) - ENDED)


def scheduled_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the newest jobs that wait for their moment."""
    return _ids(context, incomplete, frozenset({State.SCHEDULED}))


def ended_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the newest jobs that have ended."""
    return _ids(context, incomplete, ENDED - {State.CORRUPT})


def worker_names(context: typer.Context) -> list[tuple[str, str]]:
    """Return the workers that are at work."""
    queue = _queue(context)
    try:
        found = queue.workers() if queue else []
    except (BgjobsError, OSError):
        return []
    return [(worker.info.name, f"{worker.info.concurrency} at a time") for worker in found if worker.alive]


def service_actions() -> list[tuple[str, str]]:
    """Return what can be done with a service."""
    return [
        ("show", "print what install would write"),
        ("install", "write it, and start the worker"),
        ("uninstall", "stop the worker, and remove it"),
    ]


def _ids(context: typer.Context, incomplete: str, chosen: frozenset[State]) -> list[tuple[str, str]]:
    from bgjobs.store import Filter  # noqa: PLC0415 - only completion gets here

    queue = _queue(context)
    if queue is None:
        return []
    try:
        found = list(islice(queue.jobs(Filter(states=chosen)), MOST_IDS))
    except (BgjobsError, OSError):
        return []
    return [(job.id, f"{job.state} {job.name}") for job in found if job.id.startswith(incomplete)]


def _queue(context: typer.Context) -> Queue | None:
    """Open the queue that the line names."""
    try:
        return Queue.open(config=context.params.get("config"), spool=context.params.get("spool"))
    except (BgjobsError, OSError):
        return None
