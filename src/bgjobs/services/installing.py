"""Install and uninstall a service: write or remove its file, and run the commands of the system for it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from bgjobs import system
from bgjobs.errors import BgjobsError

if TYPE_CHECKING:
    from bgjobs.services.service import Recipe, Service

NEWS = ("Created symlink", "Removed")  # what systemctl prints before its error


class Done(Struct, frozen=True, kw_only=True):
    """What was done with the file of a service, which commands are left to a person, and what else to do."""

    path: str
    result: Literal["installed", "written", "removed"]
    left: Sequence[Sequence[str]] = ()
    hints: Sequence[str] = ()


def install(planned: Service, recipe: Recipe) -> Done:
    """Write the file and start the service, anew if it has changed. If it cannot be started, all is as it was."""
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
    hints = [f"{place} is not there: make it, for {planned.user} alone, before the worker starts" for place in lacking]
    hints += [recipe.hint] if recipe.hint else []
    if answers:
        return Done(path=recipe.path, result="installed", hints=hints)
    return Done(path=recipe.path, result="written", left=commands, hints=hints)


def uninstall(recipe: Recipe) -> Done:
    """Stop the service, and remove its file."""
    if _content(recipe) is None:
        raise BgjobsError(f"no service at {recipe.path}", hint="name it with --name", code="no-service")
    answers = _answers(recipe)
    _carry_out(recipe.stop if answers else ())
    Path(recipe.path).unlink()
    _carry_out(recipe.forget if answers else ())
    return Done(path=recipe.path, result="removed", left=() if answers else (*recipe.stop, *recipe.forget))


# The file


def _content(recipe: Recipe) -> bytes | None:
    """Return what is in the file, or None if there is none. Raises BgjobsError for one that is not ours."""
    try:
        content = Path(recipe.path).read_bytes()
    except FileNotFoundError:
        return None
    if recipe.mark not in content:
        hint = "choose a --name"
        raise BgjobsError(f"{recipe.path} is of another project or program", hint=hint, code="exists")
    return content


def _put(recipe: Recipe, content: bytes) -> None:
    """Write the file, in one step: half of one would not be known as ours."""
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
            errors = [line for line in ran.stderr.splitlines() if line.strip() and not line.startswith(NEWS)]
            reason = errors[0].strip() if errors else f"status {ran.returncode}"
            raise BgjobsError(f"{shlex.join(command)} failed: {reason}", hint="see its journal", code="no-service")


def _ran(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
