"""Everything about one job, as lines to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bgjobs import durations
from bgjobs.calls import masking
from bgjobs.calls.masking import masked
from bgjobs.cli import moments
from bgjobs.job import Attempt, Job, JobError, Progress, show_priority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from bgjobs.cli.output import Line


def to_json(job: Job, hide: frozenset[str], later: str | None) -> dict[str, Any]:
    """Return the record of a job and, if a later job retries it, which."""
    shown = masking.as_json(job, hide)
    return shown if later is None else shown | {"retried_by": later}


def of_job(job: Job, hide: frozenset[str], now: datetime, later: str | None = None) -> Iterator[Line]:
    """Go through the lines about a job that is in the queue, or was, and that a later one may retry."""
    yield _line("job", job.id)
    yield _line("state", job.state.value, job.state.value)
    yield from of_request(job, hide)
    yield _line("submitted", f"{moments.shown(job.submitted_at, now)} by {job.submitter}")
    if job.not_before > job.submitted_at:
        yield _line("not before", moments.shown(job.not_before, now))
    for name, moment in (("started", job.started_at), ("finished", job.finished_at)):
        if moment is not None:
            yield _line(name, moments.shown(moment, now))
    if later is not None:
        yield _line("retried as", later)
    if job.worker:
        yield _line("worker", job.worker)
    if job.progress is not None and not job.state.ended:
        yield _line("progress", progress(job.progress))
    yield from _outcome(job, hide)
    yield _line("attempts", f"{job.charged} of {job.retries + 1}" + (f", {job.crashes} lost" if job.crashes else ""))
    for attempt in job.attempts:
        yield _attempt(attempt, now)
    if job.error is not None and job.error.traceback:
        yield _line("traceback", "")
        yield from ([(f"  {line}", "")] for line in job.error.traceback.rstrip().splitlines())


def _outcome(job: Job, hide: frozenset[str]) -> Iterator[Line]:
    """Go through the lines about what came of it."""
    if job.result_json is not None:
        yield _line("result", _result(job, hide))
    if job.note:
        yield _line("note", job.note, "yellow")
    if job.error is not None:
        yield _line("error", why(job.error), "red")


def of_request(job: Job, hide: frozenset[str]) -> Iterator[Line]:
    """Go through the lines about what a job is asked to do."""
    yield _line("calls", job.name, "bold")
    yield _line("arguments", _arguments(job, hide))
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
    ended = f", took {moments.took(attempt.started_at, attempt.finished_at)}" if attempt.finished_at else ""
    error = f": {why(attempt.error)}" if attempt.error else ""
    status = f" (exit status {attempt.exit})" if attempt.exit is not None else ""
    text = f"{moments.shown(attempt.started_at, now)} on {attempt.worker}{ended}{error}{status}"
    return [(f"  {attempt.number}. {attempt.outcome or 'running':<11} ", "bold"), (text, "")]


def _arguments(job: Job, hide: frozenset[str]) -> str:
    args, kwargs = masked(job.args, job.kwargs, hide)
    by_name = [f"{name}={_json(value)}" for name, value in kwargs.items()]
    return ", ".join([*map(_json, args), *by_name]) or "none"


def _result(job: Job, hide: frozenset[str]) -> str:
    if hide:
        return _json(masking.as_json(job, hide)["result"])
    return bytes(job.result_json or b"").decode("utf-8", "replace")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _line(name: str, text: str, style: str = "") -> Line:
    return [(f"{name:<12}", "dim"), (text, style)]
