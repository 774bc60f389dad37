"""`bgjobs service`: a worker that the system starts, and starts again when it dies."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from bgjobs import settings, system
from bgjobs.allowlist import Allowlist
from bgjobs.cli import complete, moments, options, output
from bgjobs.cli.worker import GRACE
from bgjobs.errors import BgjobsError, UsageError
from bgjobs.job import parse_priority
from bgjobs.services import launchd, systemd, windows
from bgjobs.services.service import Recipe, Service, plan

ACTIONS = ("show", "install", "uninstall")
SYSTEMS = ("systemd", "launchd", "windows")


def service(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="show, install or uninstall.")],
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
    passed_on = [*(["-c", str(concurrency)] if concurrency else []), "--grace", grace]
    for each in only or []:
        if each not in {target.class_name for target in targets}:
            raise UsageError(f"bad --only {each[:80]!r}: not in {configured.config}", code="bad-class")
        passed_on += ["--only", each]
    if min_priority is not None:
        passed_on += ["--min-priority", str(parse_priority(min_priority))]
    planned = plan(
        configured,
        targets,
        name=name,
        user=user or "",
        grace=moments.parse_length(grace, "--grace"),
        options=tuple(passed_on),
    )
    kind = kind or system.SERVICES
    match action:
        case "show":
            return _show(kind, planned, _recipe(kind, planned), as_json=as_json)
        case "install":
            return _install(planned, _recipe(kind, planned), as_json=as_json)
        case _:
            return _uninstall(planned, _recipe(kind, planned), as_json=as_json)


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


# Show


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


# Install


def _install(planned: Service, recipe: Recipe, *, as_json: bool) -> int:
    path = Path(recipe.path)
    before = _content(path)
    if before is not None and recipe.mark not in before:
        raise _taken(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(recipe.content)
    done = _can_run(recipe)
    commands = list(recipe.start)
    if done and before not in {None, recipe.content}:
        commands.append((*recipe.start[-1][:-3], "restart", recipe.start[-1][-1]))
    _carry_out(commands, done=done)
    _tell(planned, recipe, "installed" if done else "written", commands, done=done, as_json=as_json)
    if planned.user and not os.path.isdir(planned.writes[0]) and not as_json:
        output.note(f"{planned.writes[0]} is not there: make it, for {planned.user} alone, before the worker starts")
    if recipe.hint and not as_json:
        output.note(recipe.hint)
    return 0


def _uninstall(planned: Service, recipe: Recipe, *, as_json: bool) -> int:
    path = Path(recipe.path)
    before = _content(path)
    if before is None:
        raise BgjobsError(f"no service at {path}", hint="name it with --name", code="no-service")
    if recipe.mark not in before:
        raise _taken(path)
    done = _can_run(recipe)
    if done:
        _carry_out(recipe.stop, done=True)
    path.unlink()
    _carry_out(recipe.forget, done=done)
    _tell(planned, recipe, "removed", [*recipe.stop, *recipe.forget], done=done, as_json=as_json)
    return 0


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _taken(path: Path) -> BgjobsError:
    return BgjobsError(f"{path} is of another project or program", hint="choose a --name", code="exists")


def _can_run(recipe: Recipe) -> bool:
    """Tell whether the commands can be carried out here: systemd answers."""
    control = recipe.start[0][:-1]  # `systemctl`, perhaps with `--user`
    if recipe.start[0][0] != "systemctl" or shutil.which("systemctl") is None:
        return False
    asked = subprocess.run(
        [*control, "show", "--property=Version"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return asked.returncode == 0


def _carry_out(commands: Sequence[Sequence[str]], *, done: bool) -> None:
    for command in commands if done else ():
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if ran.returncode:
            reason = (ran.stderr.strip().splitlines() or [f"status {ran.returncode}"])[0]
            raise BgjobsError(f"{shlex.join(command)} failed: {reason}", hint="run it by hand", code="no-service")


def _tell(
    planned: Service, recipe: Recipe, what: str, commands: Sequence[Sequence[str]], *, done: bool, as_json: bool
) -> None:
    if as_json:
        left = [] if done else [list(command) for command in commands]
        output.json({"name": planned.name, "path": recipe.path, "result": what, "commands": left})
        return
    output.data(f"{what} {recipe.path}")
    if not done:
        output.note("now run:")
        for command in commands:
            output.data(f"  {_shown(command)}")


def _shown(command: Sequence[str]) -> str:
    """Return a command as one would type it."""
    if command[0] == "schtasks" or system.SERVICES == "windows":
        return subprocess.list2cmdline(command)
    return " ".join(word if word.startswith("gui/$(id -u)") else shlex.quote(word) for word in command)
