"""`bgjobs run`: make one call here and now, in the foreground, with the same checks and nothing queued."""

from __future__ import annotations

from typing import assert_never

from bgjobs.cli import job_lines, options, output
from bgjobs.errors import BgjobsError, JobFailed, RefusedError
from bgjobs.job import Cancelled, Crashed, Interrupted, Job, JobError, Outcome, Raised, Refused, Succeeded, TimedOut
from bgjobs.queue import Queue
from bgjobs.requests import Request


def command(
    class_name: options.ClassName,
    method: options.Method,
    args: options.Arguments = None,
    *,
    keywords: options.Keywords = None,
    json_args: options.JsonArguments = None,
    timeout: options.Timeout = None,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Run a method here and now. What it prints goes to stderr; what it returns is printed as JSON, unless it is null.

    Exit 5 if it failed, 3 if it may not run or its arguments do not fit, 130 on Ctrl-C.
    """
    from bgjobs.worker import foreground  # noqa: PLC0415 - `bgjobs -h` loads this file too, and runs nothing

    queue = Queue.open(config=config, spool=spool)
    call = options.call(queue, class_name, method, args=args, keywords=keywords, json_args=json_args)
    job = queue.prepare(Request(**call, timeout=timeout))
    return _report(job, foreground.run(queue, job), as_json=as_json)


def _report(job: Job, outcome: Outcome, *, as_json: bool) -> int:
    """Print the outcome, and return the exit status."""
    match outcome:
        case Succeeded(result, note, _):
            if note:
                output.note(f"{job.name}: {note}")
            if as_json or bytes(result) != b"null":
                output.json(result)
            return 0
        case Refused(error):
            # A refusal that only running the call could find: exit as if it had been refused before.
            output.error(RefusedError(error.message, code=error.type), as_json=as_json)
            return RefusedError.exit_status
        case Raised(error) | Crashed(error):
            return _failed(job, error, as_json=as_json)
        case TimedOut(limit):
            error = JobError(type="JobTimeout", message=f"ran longer than {limit.total_seconds():g} s")
            return _failed(job, error, as_json=as_json)
        case Cancelled() | Interrupted():
            output.error(BgjobsError(f"{job.name} was interrupted", code="interrupted"), as_json=as_json)
            return output.INTERRUPTED
    assert_never(outcome)


def _failed(job: Job, error: JobError, *, as_json: bool) -> int:
    output.error(JobFailed(job, f"{job.name} failed: {job_lines.why(error)}"), as_json=as_json)
    return JobFailed.exit_status
