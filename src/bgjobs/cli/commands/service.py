"""`bgjobs service`: make a worker a service of the system, which starts it, and starts it again when it dies."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bgjobs import system
from bgjobs.cli import completion, options, output
from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist
from bgjobs.config.settings import parse_priority
from bgjobs.errors import UsageError
from bgjobs.requests import duration
from bgjobs.services import installing, launchd, systemd, windows
from bgjobs.services.installing import Done
from bgjobs.services.service import Recipe, Service, plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bgjobs.config.allowlist import Target
    from bgjobs.config.settings import Settings

ACTIONS = ("show", "install", "uninstall")
SYSTEMS = ("systemd", "launchd", "windows")


def command(
    action: Annotated[
        str,
        typer.Argument(metavar="ACTION", help="show, install or uninstall.", autocompletion=completion.service_actions),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the service (default: after the project's directory)."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--system", help="Make a service of the whole machine, started at boot; needs --user.")
    ] = False,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="With --system: the user whose rights the jobs have.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="SYSTEM", help="With show: systemd, launchd or windows (default: this system's)."
        ),
    ] = None,
    concurrency: options.Concurrency = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="When stopped, time to wait for running jobs.")
    ] = options.GRACE,
    only: options.Only = None,
    min_priority: Annotated[
        str | None,
        typer.Option("--min-priority", metavar="PRIORITY", help="Run jobs of this priority and higher ones only."),
    ] = None,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Show, install or uninstall a worker as a system service."""
    _check(action, kind, whole=whole, user=user)
    # Not strict: it is the worker that must trust these files, and it may be another user's.
    configured = settings.load(config=config, spool=spool, strict=False)
    targets = list(Allowlist(configured))
    planned = plan(
        configured,
        targets,
        name=name,
        user=user or "",
        grace=duration("--grace", grace),
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
            return _report(planned, installing.install(planned, _recipe(kind, planned)), as_json=as_json)
        case _:
            return _report(planned, installing.uninstall(_recipe(kind, planned)), as_json=as_json)


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
        output.writer(sys.stdout)(recipe.content)  # byte for byte, to be written into a file
    output.note(f"install would write this to {recipe.path}")
    return 0


def _report(planned: Service, done: Done, *, as_json: bool) -> int:
    """Print what was done, and which commands are left to the person."""
    left = [list(command) for command in done.left]
    value = {"name": planned.name, "path": done.path, "result": done.result, "commands": left}
    output.result(value, f"{done.result} {done.path}", as_json=as_json)
    if left:
        output.hint("now run:", as_json=as_json)
    for command in () if as_json else left:
        output.data(f"  {_shown(command)}")
    for hint in done.hints:
        output.hint(hint, as_json=as_json)
    return 0


def _shown(command: Sequence[str]) -> str:
    """Return a command as one would type it."""
    if command[0] == "schtasks" or system.SERVICES == "windows":
        return subprocess.list2cmdline(command)
    return " ".join(word if word.startswith("gui/$(id -u)") else shlex.quote(word) for word in command)
