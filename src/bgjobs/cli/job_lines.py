"""All about one job, as lines for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bgjobs import durations
from bgjobs.cli import times
from bgjobs.job import Attempt, Job, JobError, Progress, show_priority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from bgjobs.cli.spans import Line
    from bgjobs.views.jobs import JobView, Wait


WAITS = {
    "delay": "its moment",
    "backoff": "its next attempt",
    "no-worker": "a worker: none runs, start one with `bgjobs worker`",
    "not-taken": "a worker that takes it: each that runs has --only or --min-priority",
    "stopped-workers": "a worker: the process of each was stopped, continue one (kill -CONT)",
    "turn": "a worker that is free and takes it",
}


def of_job(view: JobView, record: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    """Go through the lines about a job that is in the queue, or was. `record` is its JSON, secrets masked."""
    job = view.job
    yield _line("job", job.id)
    yield _line("state", job.state.value, job.state.value)
    if view.waits_for is not None:
        yield _line("waits for", _wait(view.waits_for, now))
    yield from of_request(job, record)
    yield _line("submitted", f"{times.shown(job.submitted_at, now)} by {job.submitter}")
    if job.not_before > job.submitted_at:
        yield _line("not before", times.shown(job.not_before, now))
    for name, moment in (("started", job.started_at), ("finished", job.finished_at)):
        if moment is not None:
            yield _line(name, times.shown(moment, now))
    if view.retried_by is not None:
        yield _line("retried as", view.retried_by)
    if job.worker:
        yield _line("worker", job.worker)
    if job.progress is not None and not job.state.ended:
        yield _line("progress", progress(job.progress))
    yield from _outcome(job, record)
    yield _line("attempts", f"{job.charged} of {job.retries + 1}" + (f", {job.crashes} lost" if job.crashes else ""))
    for attempt in job.attempts:
        yield _attempt(attempt, now)
    if job.error is not None and job.error.traceback:
        yield _line("traceback", "")
        yield from ([(f"  {line}", "")] for line in job.error.traceback.rstrip().splitlines())


def _outcome(job: Job, record: Mapping[str, Any]) -> Iterator[Line]:
    """Go through the lines about what came of it."""
    if job.result_json is not None:
        # As the job wrote it, unless a part of it is masked.
        is_plain = record["result"] == job.result
        yield _line(
            "result", bytes(job.result_json).decode("utf-8", "replace") if is_plain else _json(record["result"])
        )
    if job.note:
        yield _line("note", job.note, "yellow")
    if job.error is not None:
        yield _line("error", why(job.error), "red")


def of_request(job: Job, record: Mapping[str, Any]) -> Iterator[Line]:
    """Go through the lines about what a job is asked to do. `record` is its JSON, secrets masked."""
    yield _line("calls", job.name, "bold")
    yield _line("arguments", _arguments(record))
    yield _line("priority", priority(job.priority))
    yield _line("retries", str(job.retries))
    for name, length in (("retry delay", job.retry_delay), ("timeout", job.timeout)):
        if length is not None:
            yield _line(name, durations.show(length))
    if job.tags:
        yield _line("tags", ", ".join(job.tags))
    if job.retry_of:
        yield _line("retry of", job.retry_of)


def priority(number: int) -> str:
    """Return a priority by name and number."""
    name = show_priority(number)
    return name if name == str(number) else f"{name} ({number})"


def progress(found: Progress) -> str:
    """Return how far a job is."""
    if found.total:
        text = f"{found.done:g}/{found.total:g} ({min(1.0, max(0.0, found.done / found.total)):.0%})"
    else:
        text = f"{found.done:g}"
    return f"{text} {found.message}".rstrip()


def why(error: JobError) -> str:
    """Return why something failed."""
    return f"{error.type}: {error.message}" if error.message else error.type


def _attempt(attempt: Attempt, now: datetime) -> Line:
    ended = f", took {times.took(attempt.started_at, attempt.finished_at)}" if attempt.finished_at else ""
    error = f": {why(attempt.error)}" if attempt.error else ""
    status = f" (exit status {attempt.exit})" if attempt.exit is not None else ""
    text = f"{times.shown(attempt.started_at, now)} on {attempt.worker}{ended}{error}{status}"
    return [(f"  {attempt.number}. {attempt.outcome or 'running':<11} ", "bold"), (text, "")]


def _arguments(record: Mapping[str, Any]) -> str:
    by_name = [f"{name}={_json(value)}" for name, value in record["kwargs"].items()]
    return ", ".join([*map(_json, record["args"]), *by_name]) or "none"


def _wait(found: Wait, now: datetime) -> str:
    until = "" if found.until is None else f", {times.shown(found.until, now)}"
    return f"{WAITS[found.reason]}{until}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _line(name: str, text: str, style: str = "") -> Line:
    return [(f"{name:<12}", "dim"), (text, style)]
