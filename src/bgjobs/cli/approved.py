"""`bgjobs jobs` and `bgjobs check`: what may run, and whether it can."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from inspect import Parameter
from typing import Annotated, Any

import typer

from bgjobs import system
from bgjobs.calls.signatures import Signature, Unreadable
from bgjobs.cli import options, output
from bgjobs.config import run_as, trust
from bgjobs.config.allowlist import Target
from bgjobs.errors import ConfigError, RefusedError, SpoolError
from bgjobs.queue import Queue

LIMITS = ("max_memory", "max_cpu", "max_files", "max_file_size")


def jobs(
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
    queue = Queue.open(config=config, spool=spool)
    if as_json:
        for target in queue.allowlist:
            output.json(_json(target, _signature(queue, target)))
        return
    output.lines(_lines(queue))


def check(config: options.Config = None, spool: options.Spool = None, as_json: options.AsJson = False) -> int:
    """Look for mistakes in settings, allowlist and code. Prints each problem, and exits 1 if there is any.

    Everything that may run is imported, in a child process, and its arguments are compared with the allowlist. Nothing
    is imported if other users could have changed it.
    """
    problems, targets = _problems(config, spool)
    count, unenforced = len(targets), _unenforced(targets, system.UNENFORCED)
    if as_json:
        shown = [{"class": name, "method": method, "reason": reason} for name, method, reason in problems]
        found = {"ok": not problems, "methods": count, "problems": shown, "not_enforced": unenforced}
        output.json(found | {"permissions_checked": system.CHECKS_WRITERS})
    elif problems:
        for name, method, reason in problems:
            output.data(f"{name}.{method}: {reason}" if method else reason)
    else:
        unchecked = "" if system.CHECKS_WRITERS else "; who may change them is not checked on this system"
        output.data(f"no problem found: {count} method{'s'[: count != 1]} may run{unchecked}")
    if unenforced and not as_json:
        output.note(f"not enforced on this system: {', '.join(unenforced)}")
    return 1 if problems else 0


def _signature(queue: Queue, target: Target) -> Signature | Unreadable | RefusedError:
    try:
        return queue.signature(target)
    except RefusedError as error:
        return error


def _lines(queue: Queue) -> Iterator[output.Line]:
    shown = ""
    for target in queue.allowlist:
        if target.class_name != shown:
            if shown:
                yield [("", "")]
            shown = target.class_name
            yield [(target.class_name, "bold"), (f"  {target.description}" if target.description else "", "")]
        match _signature(queue, target):
            case Signature(doc=doc) as signature:
                as_user = f"  as {target.policy.user}" if target.policy.user else ""
                yield [(f"  {signature.text()}", "cyan"), (as_user, "dim")]
                if doc:
                    yield [(f"      {doc}", "dim")]
            case Unreadable(reason):
                yield [(f"  {target.method}(...)", "cyan"), (f"  not known before it runs: {reason}", "dim")]
            case RefusedError() as error:
                yield [(f"  {target.method}", "cyan"), (f"  cannot run: {error}", "red")]


def _json(target: Target, signature: Signature | Unreadable | RefusedError) -> dict[str, Any]:
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


def _problems(config: str | None, spool: str | None) -> tuple[list[tuple[str, str, str]], list[Target]]:
    """Return all problems as class, method and reason, and what may run."""
    try:
        queue = Queue.open(config=config, spool=spool, strict=False)
    except ConfigError as error:
        if error.code == "no-config":
            raise  # nothing to check: that is no finding
        return [("", "", str(error))], []
    # Before all else: what others could have written is only looked at, and its spool not even opened.
    weak = trust.weaknesses(queue.settings, queue.allowlist)
    found = [("", "", str(weakness)) for weakness in weak] or list(_unusable(queue))
    in_source = [(target, _signature(queue, target)) for target in queue.allowlist]
    found += [
        (target.class_name, target.method, str(error)) for target, error in in_source if isinstance(error, RefusedError)
    ]
    found += _useless_secrets(in_source)
    found += [(one.class_name, one.method, f"{what}: {cure}") for one, what, cure in run_as.problems(queue.allowlist)]
    found += _unknown_accounts(queue.settings.shared_with, queue.allowlist)
    if weak:
        return found, list(queue.allowlist)
    from bgjobs.worker import foreground  # noqa: PLC0415 - `bgjobs jobs` starts no child

    told = {(name, method) for name, method, _ in found}
    found += [
        (problem.class_name, problem.method, problem.reason)
        for problem in foreground.probe(queue)
        if (problem.class_name, problem.method) not in told
    ]
    return found, list(queue.allowlist)


def _unenforced(targets: Iterable[Target], by_none: Container[str]) -> list[str]:
    """Return the limits that the settings ask for and this system does not enforce."""
    asked = {key for target in targets for key in LIMITS if getattr(target.policy, key)}
    return sorted(key for key in asked if key in by_none)


def _unusable(queue: Queue) -> Iterator[tuple[str, str, str]]:
    try:
        queue.counts()
        for finding in queue.backend.open_to_others():
            yield "", "", f"{finding.path} {finding.message}"
        queue.backend.refresh_keys()
    except (ConfigError, SpoolError) as error:
        yield "", "", str(error)


def _unknown_accounts(shared_with: str, targets: Iterable[Target]) -> Iterator[tuple[str, str, str]]:
    """Go through names of users and groups that this system does not know: nobody is let in by them."""
    if shared_with and system.group_of(shared_with) is None:
        yield "", "", f"shared_with: there is no group {shared_with!a}: correct it, or make the group"
    by_class = {target.class_name: target for target in targets}
    for name, target in by_class.items():
        for user in target.users or ():
            if not system.knows_user(user):
                yield name, "", f"{name}: users: there is no user {user!a}: correct it"
        for group in target.groups or ():
            if system.CHECKS_WRITERS and system.group_of(group) is None:
                yield name, "", f"{name}: groups: there is no group {group!a}: correct it"


def _useless_secrets(
    in_source: list[tuple[Target, Signature | Unreadable | RefusedError]],
) -> Iterator[tuple[str, str, str]]:
    """Go through names of secret arguments that no method of their class has: a slip there would show the secret."""
    secrets = {target.class_name: set(target.secret) for target, _ in in_source}
    for target, signature in in_source:
        if not isinstance(signature, Signature):
            secrets[target.class_name].clear()
            continue
        parameters = signature.inspect_signature.parameters
        if any(part.kind is Parameter.VAR_KEYWORD for part in parameters.values()):
            secrets[target.class_name].clear()
        secrets[target.class_name] -= parameters.keys()
    for name, left in secrets.items():
        for argument in sorted(left):
            yield name, "", f"{name}: secret {argument!r} is no argument of its methods: correct the name"
