"""`bgjobs service`: a worker that the system starts, and starts again when it dies."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bgjobs import system
from bgjobs.cli import complete, installing, moments, options, output
from bgjobs.cli.worker import GRACE
from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist
from bgjobs.config.settings import parse_priority
from bgjobs.errors import UsageError
from bgjobs.services import launchd, systemd, windows
from bgjobs.services.service import Recipe, Service, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.config.allowlist import Target
    from bgjobs.config.settings import Settings

ACTIONS = ("show", "install", "uninstall")
SYSTEMS = ("systemd", "launchd", "windows")


def service(
    action: Annotated[
        str,
        typer.Argument(metavar="ACTION", help="show, install or uninstall.", autocompletion=complete.service_actions),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Its name; else after the project's directory."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--system", help="A service of the whole machine, from boot on; with --user.")
    ] = False,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="With --system: whose rights its jobs have.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--for", metavar="SYSTEM", help="To show: systemd, launchd or windows; else ours."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("-c", "--concurrency", metavar="N", min=1, help="So many jobs at a time.")
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="When stopped, wait so long for running jobs.")
    ] = GRACE,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CLASS", help="Only this class; repeatable.", autocompletion=complete.class_names
        ),
    ] = None,
    min_priority: Annotated[
        str | None, typer.Option("--min-priority", metavar="PRIORITY", help="Only this priority and higher ones.")
    ] = None,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Let the system run a worker: show, install or uninstall that."""
    _check(action, kind, whole=whole, user=user)
    # Not strict: it is the worker that must trust these files, and it may be another user's.
    configured = settings.load(config=config, spool=spool, strict=False)
    targets = list(Allowlist(configured))
    planned = plan(
        configured,
        targets,
        name=name,
        user=user or "",
        grace=moments.parse_length(grace, "--grace"),
        options=(
            *(("-c", str(concurrency)) if concurrency else ()),
            *("--grace", grace),
            *_selection(configured, targets, only or [], min_priority),
        ),
    )
    kind = kind or system.SERVICES
    match action:
        case "show":
            return _show(kind, planned, _recipe(kind, planned), as_json=as_json)
        case "install":
            if user and not system.knows_user(user):
                raise UsageError(f"bad --user {user[:80]!a}: no such user here", hint="make it first", code="bad-value")
            return installing.install(planned, _recipe(kind, planned), as_json=as_json)
        case _:
            return installing.uninstall(planned, _recipe(kind, planned), as_json=as_json)


def _check(action: str, kind: str | None, *, whole: bool, user: str | None) -> None:
    hint = "see `bgjobs service -h`"
    if action not in ACTIONS:
        raise UsageError(f"no action {action[:40]!a}", hint="show, install or uninstall", code="usage")
    if kind is not None and kind not in SYSTEMS:
        raise UsageError(f"bad --for {kind[:40]!a}", hint=f"one of {', '.join(SYSTEMS)}", code="bad-value")
    if kind not in {None, system.SERVICES} and action != "show":
        raise UsageError(f"cannot {action} a service for {kind} here", hint="it can only be shown", code="usage")
    if whole and not user:
        raise UsageError("--system needs --user", hint="name the user whose rights the jobs have", code="usage")
    if user and not whole:
        raise UsageError("--user is for --system", hint=hint, code="usage")


def _selection(configured: Settings, targets: list[Target], only: list[str], min_priority: str | None) -> Iterator[str]:
    """Return the options that say which jobs the worker takes. Raises UsageError."""
    for name in only:
        if name not in {target.class_name for target in targets}:
            raise UsageError(f"bad --only {name[:80]!r}: not in {configured.config}", code="bad-class")
        yield from ("--only", name)
    if min_priority is not None:
        yield from ("--min-priority", str(parse_priority(min_priority)))


def _recipe(kind: str, planned: Service) -> Recipe:
    match kind:
        case "systemd":
            return systemd.recipe(planned, dict(os.environ))
        case "launchd":
            logs = "/Library/Logs" if planned.user else os.path.expanduser("~/Library/Logs")
            return launchd.recipe(planned, logs)
        case _:
            base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~")
            domain = os.environ.get("USERDOMAIN", "")
            return windows.recipe(planned, f"{base}\\bgjobs", f"{domain}\\{system.user()}" if domain else system.user())


def _show(kind: str, planned: Service, recipe: Recipe, *, as_json: bool) -> int:
    encoding: Literal["utf-16", "utf-8"] = "utf-16" if kind == "windows" else "utf-8"
    text = recipe.content.decode(encoding)
    if as_json:
        commands = [list(command) for command in recipe.start]
        about = {"name": planned.name, "system": kind, "path": recipe.path, "content": text, "commands": commands}
        output.json(about)
        return 0
    if output.is_terminal(sys.stdout):
        sys.stdout.write(output.harmless(text.replace("\r\n", "\n")))
    else:
        output.writer(sys.stdout)(recipe.content)  # as it is: somebody writes it into a file
    output.note(f"install would write this to {recipe.path}")
    return 0
