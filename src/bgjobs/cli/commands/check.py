"""`bgjobs check`: look for mistakes in settings, allowlist and code."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from inspect import Parameter

from bgjobs import system
from bgjobs.calls.signatures import Signature
from bgjobs.cli import options, output
from bgjobs.config import run_as, trust
from bgjobs.config.allowlist import Target
from bgjobs.errors import ConfigError, RefusedError, SpoolError
from bgjobs.queue import Queue, store_of
from bgjobs.views import approved
from bgjobs.views.approved import Approved

LIMITS = ("max_memory", "max_cpu", "max_files", "max_file_size")


def command(config: options.Config = None, spool: options.Spool = None, as_json: options.AsJson = False) -> int:
    """Look for mistakes in settings, allowlist and code. Prints each problem, and exits 1 if there is any.

    Everything that may run is imported, in a child process, and its arguments are compared with the allowlist. Nothing
    is imported if other users could have changed it.
    """
    problems, targets = _problems(config, spool)
    unenforced = _unenforced(targets, system.UNENFORCED)
    value = {
        "ok": not problems,
        "methods": len(targets),
        "problems": [{"class": name, "method": method, "reason": reason} for name, method, reason in problems],
        "not_enforced": unenforced,
        "permissions_checked": system.CHECKS_WRITERS,
    }
    lines = [f"{name}.{method}: {reason}" if method else reason for name, method, reason in problems]
    if not problems:
        unchecked = "" if system.CHECKS_WRITERS else "; who may change them is not checked on this system"
        lines = [f"no problem found: {output.plural(len(targets), 'method')} may run{unchecked}"]
    output.result(value, [[(line, "")] for line in lines], as_json=as_json)
    if unenforced:
        output.hint(f"not enforced on this system: {', '.join(unenforced)}", as_json=as_json)
    return 1 if problems else 0


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
    in_source = list(approved.of(queue))
    found += [
        (target.class_name, target.method, str(error)) for target, error in in_source if isinstance(error, RefusedError)
    ]
    found += _useless_secrets(in_source)
    found += [(one.class_name, one.method, f"{what}: {cure}") for one, what, cure in run_as.problems(queue.allowlist)]
    found += _unknown_accounts(queue.settings.shared_with, queue.allowlist)
    if weak:
        return found, list(queue.allowlist)
    from bgjobs.worker import foreground  # noqa: PLC0415 - `bgjobs jobs` starts no child

    known = {(name, method) for name, method, _ in found}
    found += [
        (problem.class_name, problem.method, problem.reason)
        for problem in foreground.probe(queue)
        if (problem.class_name, problem.method) not in known
    ]
    return found, list(queue.allowlist)


def _unenforced(targets: Iterable[Target], by_none: Container[str]) -> list[str]:
    """Return the limits that the settings ask for and this system does not enforce."""
    asked = {key for target in targets for key in LIMITS if getattr(target.policy, key)}
    return sorted(key for key in asked if key in by_none)


def _unusable(queue: Queue) -> Iterator[tuple[str, str, str]]:
    try:
        queue.counts()
        in_files = store_of(queue).files
        if in_files is not None:
            for finding in in_files.open_to_others():
                yield "", "", f"{finding.path} {finding.message}"
            in_files.refresh_keys()
    except (ConfigError, SpoolError) as error:
        yield "", "", str(error)


def _unknown_accounts(shared_with: str, targets: Iterable[Target]) -> Iterator[tuple[str, str, str]]:
    """Go through names of users and groups that this system does not know, which let no one in."""
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
    in_source: list[Approved],
) -> Iterator[tuple[str, str, str]]:
    """Go through names of secret arguments that no method of their class has: a misspelt one would show the secret."""
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
