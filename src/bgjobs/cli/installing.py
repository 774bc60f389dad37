"""Install and uninstall a service: its file, and the commands that tell the system of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.cli import output
from bgjobs.errors import BgjobsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgjobs.services.service import Recipe, Service

NEWS = ("Created symlink", "Removed")  # what systemctl says before it says what went wrong


def install(planned: Service, recipe: Recipe, *, as_json: bool) -> int:
    """Write the file and start the service, anew if it has changed. What cannot begin leaves all as it was."""
    before = _content(recipe)
    commands = recipe.start if before in {None, recipe.content} else (*recipe.stop, *recipe.start)
    answers = _answers(recipe)
    lacking = [place for place in planned.writes if planned.user and not os.path.isdir(place)]
    if lacking and answers:
        hint = f"make it, for {planned.user} alone, and install again"
        raise BgjobsError(f"{lacking[0]} is not there", hint=hint, code="no-service")
    _put(recipe, recipe.content)
    try:
        _carry_out(commands if answers else ())
    except BaseException:
        _put_back(recipe, before)
        raise
    _tell(planned, recipe, "installed" if answers else "written", () if answers else commands, as_json=as_json)
    hints = [f"{place} is not there: make it, for {planned.user} alone, before the worker starts" for place in lacking]
    for hint in () if as_json else filter(None, (*hints, recipe.hint)):
        output.note(hint)
    return 0


def uninstall(planned: Service, recipe: Recipe, *, as_json: bool) -> int:
    """Stop the service, and remove its file."""
    if _content(recipe) is None:
        raise BgjobsError(f"no service at {recipe.path}", hint="name it with --name", code="no-service")
    answers = _answers(recipe)
    _carry_out(recipe.stop if answers else ())
    Path(recipe.path).unlink()
    _carry_out(recipe.forget if answers else ())
    _tell(planned, recipe, "removed", () if answers else (*recipe.stop, *recipe.forget), as_json=as_json)
    return 0


# The file


def _content(recipe: Recipe) -> bytes | None:
    """Return what is in the file, or None if there is none. Raises BgjobsError for one of somebody else."""
    try:
        content = Path(recipe.path).read_bytes()
    except FileNotFoundError:
        return None
    if recipe.mark not in content:
        hint = "choose a --name"
        raise BgjobsError(f"{recipe.path} is of another project or program", hint=hint, code="exists")
    return content


def _put(recipe: Recipe, content: bytes) -> None:
    """Write the file, in one step: half of one would look like somebody else's."""
    path = Path(recipe.path)
    fresh = path.with_name(f".{path.name}.fresh")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        system.replace(str(fresh), str(path))
    except PermissionError as error:
        hint = "a service of the machine is for root to install"
        raise BgjobsError(f"cannot write {path}: {error.strerror}", hint=hint, code="no-service") from error
    finally:
        with suppress(OSError):
            fresh.unlink()  # if it did not get to its place


def _put_back(recipe: Recipe, before: bytes | None) -> None:
    """Undo what could not be brought to its end, as far as that can be done."""
    for command in recipe.stop:
        with suppress(BgjobsError):
            _carry_out([command])
    if before is None:
        Path(recipe.path).unlink(missing_ok=True)
    else:
        _put(recipe, before)
    with suppress(BgjobsError):
        _carry_out(recipe.forget if before is None else recipe.start)


# The commands


def _answers(recipe: Recipe) -> bool:
    """Tell whether the commands can be carried out here: only with a systemd that answers."""
    if not recipe.question or shutil.which(recipe.question[0]) is None:
        return False
    return _ran(recipe.question).returncode == 0


def _carry_out(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        ran = _ran(command)
        if ran.returncode:
            said = [line for line in ran.stderr.splitlines() if line.strip() and not line.startswith(NEWS)]
            reason = said[0].strip() if said else f"status {ran.returncode}"
            raise BgjobsError(f"{shlex.join(command)} failed: {reason}", hint="see its journal", code="no-service")


def _ran(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


# What is said


def _tell(planned: Service, recipe: Recipe, what: str, left: Sequence[Sequence[str]], *, as_json: bool) -> None:
    """Say what was done, and which commands are left to the person."""
    if as_json:
        about = {"name": planned.name, "path": recipe.path, "result": what}
        output.json(about | {"commands": [list(command) for command in left]})
        return
    output.data(f"{what} {recipe.path}")
    if left:
        output.note("now run:")
        for command in left:
            output.data(f"  {_shown(command)}")


def _shown(command: Sequence[str]) -> str:
    """Return a command as one would type it."""
    if command[0] == "schtasks" or system.SERVICES == "windows":
        return subprocess.list2cmdline(command)
    return " ".join(word if word.startswith("gui/$(id -u)") else shlex.quote(word) for word in command)
