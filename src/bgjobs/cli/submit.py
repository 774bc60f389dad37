"""`bgjobs submit`: queue one job."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs.calls import masking
from bgjobs.cli import options, output
from bgjobs.cli.calls import Call
from bgjobs.job import Job
from bgjobs.queue import Queue
from bgjobs.requests import Request


def submit(
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
        str | None, typer.Option("-d", "--delay", metavar="DURATION", help="Not before so long from now: 5, 90s, 2h.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="WHEN", help='Not before then: "2026-12-01 09:00" (local), or with zone.'),
    ] = None,
    retries: Annotated[
        int | None, typer.Option("-r", "--retries", metavar="N", help="Further attempts after the first.")
    ] = None,
    retry_delay: Annotated[
        str | None, typer.Option("--retry-delay", metavar="DURATION", help="The wait before the first of them.")
    ] = None,
    timeout: options.Timeout = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A word to find it by; repeatable.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it ended: exit 0 done, 5 failed, 6 cancelled.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="The same, with its output on stderr.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, queue nothing, print what it would be.")
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
    call = Call(queue, class_name, method, args=args, keywords=keywords, json_args=json_args)
    request = Request(
        class_name=class_name,
        method=method,
        args=call.args,
        kwargs=call.kwargs,
        priority=priority,
        delay=delay,
        at=at,
        retries=retries,
        retry_delay=retry_delay,
        timeout=timeout,
        tags=tags or (),
        text=call.text,
    )
    if dry_run:
        _show(queue, queue.prepare(request), as_json=as_json)
        return 0
    [job] = queue.submit_many([request])
    output.queued([job.id], as_json=as_json)  # the promise holds from here on, whatever becomes of the waiting
    if not wait and not follow:
        return 0
    from bgjobs.cli import waiting  # noqa: PLC0415 - most submissions do not wait

    return waiting.for_submitted(queue, job.id, follow=follow, as_json=as_json)


def _show(queue: Queue, job: Job, *, as_json: bool) -> None:
    """Print the job as it would be. It has no id: nothing was queued."""
    hide = queue.hidden(job)
    if as_json:
        shown = masking.as_json(job, hide)
        del shown["id"]
        output.json(shown)
        return
    from bgjobs.cli import details  # noqa: PLC0415 - most submissions are no rehearsals

    output.lines(details.of_request(job, hide))
