"""`bgjobs submit`: queue one job."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs.cli import options, output
from bgjobs.job import Job
from bgjobs.queue import Queue
from bgjobs.requests import Request


def command(
    class_name: options.ClassName,
    method: options.Method,
    args: options.Arguments = None,
    *,
    keywords: options.Keywords = None,
    json_args: options.JsonArguments = None,
    priority: Annotated[
        str | None,
        typer.Option("-p", "--priority", metavar="PRIORITY", help="0-9 or low, normal, high; a higher one runs first."),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option("-d", "--delay", metavar="DURATION", help="Wait this long before starting: 5, 90s, 2h."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="WHEN", help='Start no earlier than this: "2026-12-01 09:00" (local), or with zone.'
        ),
    ] = None,
    retries: Annotated[
        int | None, typer.Option("-r", "--retries", metavar="N", help="Number of further attempts after the first.")
    ] = None,
    retry_delay: Annotated[
        str | None, typer.Option("--retry-delay", metavar="DURATION", help="Delay before the first retry.")
    ] = None,
    timeout: options.Timeout = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Label for filtering; repeatable.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the job has ended: exit 0 done, 5 failed, 6 cancelled.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Like --wait, and show the output of the job on stderr.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, queue nothing, and print the job that it would be.")
    ] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Queue one job and print its id. Once the id is printed, the job survives power loss and runs.

    \b
    bgjobs submit SendNotificationJobs pick_up Tony 2PM "Central Park"
    bgjobs submit BackgroundJobs automatic_debit_success -k amount=1000 -k purpose=rent
    """  # noqa: D301 - the backspace tells click to leave the lines below it alone
    queue = Queue.open(config=config, spool=spool)
    request = Request(
        **options.call(queue, class_name, method, args=args, keywords=keywords, json_args=json_args),
        priority=priority,
        delay=delay,
        at=at,
        retries=retries,
        retry_delay=retry_delay,
        timeout=timeout,
        tags=tags,
    )
    if dry_run:
        _show(queue, queue.prepare(request), as_json=as_json)
        return 0
    [job] = queue.submit_many([request])
    output.queued([job.id], as_json=as_json)  # the promise holds from here on, also if the wait is interrupted
    if not wait and not follow:
        return 0
    from bgjobs.cli import waiting  # noqa: PLC0415 - most submissions do not wait

    return waiting.for_submitted(queue, job.id, follow=follow, as_json=as_json)


def _show(queue: Queue, job: Job, *, as_json: bool) -> None:
    """Print the job as it would be. It has no id: nothing was queued."""
    from bgjobs.cli import job_lines  # noqa: PLC0415 - few submissions are dry runs

    record = queue.to_json(job)
    del record["id"]
    output.result(record, job_lines.of_request(job, record), as_json=as_json)
