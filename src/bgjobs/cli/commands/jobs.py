"""`bgjobs jobs`: show what may run, and with which arguments."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter
from typing import Annotated, Any

import typer

from bgjobs.calls.signatures import Signature, Unreadable
from bgjobs.cli import options, output
from bgjobs.cli.spans import Line
from bgjobs.config.allowlist import Target
from bgjobs.errors import RefusedError
from bgjobs.queue import Queue
from bgjobs.views import approved
from bgjobs.views.approved import Approved


def command(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a job file instead.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Print what may run, and which arguments it takes. Read from the source, without running any of it."""
    if schema:
        from bgjobs.cli.schema import job_schema  # noqa: PLC0415 - rarely asked for

        output.json(job_schema(), indent=2)
        return
    found = approved.of(Queue.open(config=config, spool=spool))
    if as_json:
        for one in found:
            output.json(_json(one))
        return
    output.lines(_lines(found))


def _lines(found: Iterator[Approved]) -> Iterator[Line]:
    shown = ""
    for target, signature in found:
        if target.class_name != shown:
            if shown:
                yield [("", "")]
            shown = target.class_name
            yield [(target.class_name, "bold"), (f"  {target.description}" if target.description else "", "")]
        match signature:
            case Signature(doc=doc):
                as_user = f"  as {target.policy.user}" if target.policy.user else ""
                yield [(f"  {signature.text()}", "cyan"), (as_user, "dim")]
                if doc:
                    yield [(f"      {doc}", "dim")]
            case Unreadable(reason):
                yield [(f"  {target.method}(...)", "cyan"), (f"  not known before it runs: {reason}", "dim")]
            case RefusedError():
                yield [(f"  {target.method}", "cyan"), (f"  cannot run: {signature}", "red")]


def _json(found: Approved) -> dict[str, Any]:
    target, signature = found
    known = signature if isinstance(signature, Signature) else None
    policy = target.policy
    return {
        "class": target.class_name,
        "method": target.method,
        "description": target.description,
        "address": target.module if target.owner is None else f"{target.module}:{target.owner}",
        "signature": known.text() if known else None,
        "doc": known.doc if known else None,
        "parameters": [_parameter(part, target) for part in known.inspect_signature.parameters.values()]
        if known
        else None,
        "problem": str(signature) if isinstance(signature, RefusedError) else None,
        "priority": policy.priority,
        "delay_s": policy.delay.total_seconds(),
        "retries": policy.retries,
        "timeout_s": policy.timeout.total_seconds(),
        "user": policy.user or None,
    }


def _parameter(part: Parameter, target: Target) -> dict[str, Any]:
    return {
        "name": part.name,
        "kind": part.kind.name.lower(),
        "annotation": None if part.annotation is Parameter.empty else repr(part.annotation),
        "default": None if part.default is Parameter.empty else repr(part.default),
        "secret": part.name in target.secret,
    }
