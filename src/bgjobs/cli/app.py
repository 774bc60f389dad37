"""Take one command line apart, run the command that it names, and turn every error into one line and an exit status.

Only the module of the command that is named gets loaded: `bgjobs submit` must not pay for what `status` draws with.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
import traceback
from copy import copy
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from bgjobs.cli import output
from bgjobs.cli.output import INTERRUPTED
from bgjobs.errors import BgjobsError, UsageError, why

# In the order of the help. Each is a module of `commands` with a function `command`.
COMMANDS = (
    "init",
    "demo",
    "submit",
    "batch",
    "worker",
    "status",
    "list",
    "wait",
    "logs",
    "cancel",
    "retry",
    "run-now",
    "delete",
    "prune",
    "run",
    "jobs",
    "check",
    "doctor",
    "service",
)
COMPLETING = "_BGJOBS_COMPLETE"
PREFIX = "BGJOBS_"
# Variables that are no settings: where the project is, and what a job is told about itself.
OWN_VARIABLES = ("BGJOBS_CONFIG", "BGJOBS_DEBUG", "BGJOBS_ID", "BGJOBS_ATTEMPT", "BGJOBS_CLASS", "BGJOBS_METHOD")
PRIVATE_VARIABLES = ("BGJOBS_DEATH_FD", "BGJOBS_DETACHED")  # from a worker to what it starts
EPILOG = (
    "Exit status: 0 done, 1 could not do it, 2 wrong usage, 3 refused, 4 no such job, 5 the job failed, "
    "6 it was cancelled, 124 timed out waiting, 130 interrupted."
)

LONGEST_WORD = 80
# Typer brings its own copy of click, or uses the real one, depending on its version: this is the way to either.
ClickError: Any = typer.BadParameter.__mro__[2]


def run(words: list[str]) -> int:
    """Run one command line and return its exit status."""
    output.prepare()
    status = _run_and_tell(words, as_json=_wants_json(words))
    output.leave()
    return status


def _wants_json(words: list[str]) -> bool:
    return "--json" in words[: words.index("--") if "--" in words else None]


def _run_and_tell(words: list[str], *, as_json: bool) -> int:
    try:
        status = _run_command(words)
        sys.stdout.flush()
    except BgjobsError as error:
        output.error(error, as_json=as_json)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        return _system_error(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - a bug: its traceback helps us, not the person who meets it
        return _bug(error, as_json=as_json)
    return status


def _run_command(words: list[str]) -> int:
    command = words[0] if words else "--help"
    if not command.startswith("-") and command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "see `bgjobs -h` for what there is"
        raise UsageError(f"no command {command[:40]!a}", hint=hint, code="usage")
    is_completing = COMPLETING in os.environ
    if not is_completing:
        _name_unknown_variables(as_json=_wants_json(words))
    chosen = list(COMMANDS) if is_completing or command.startswith("-") else [command]
    try:
        return int(_app(chosen)(words or ["--help"], prog_name="bgjobs", standalone_mode=False) or 0)
    except ClickError as error:
        raise _usage(error, command, words) from None
    except typer.Abort:
        raise KeyboardInterrupt from None


def _name_unknown_variables(*, as_json: bool) -> None:
    """Warn of a variable that looks like a setting and is none: it is probably mistyped."""
    given = [name for name in os.environ if name.startswith(PREFIX)]
    if not given:
        return
    from bgjobs.config.settings import GENERAL, POLICY  # noqa: PLC0415 - few have such variables

    known = {*OWN_VARIABLES, *(f"{PREFIX}{key.upper()}" for key in GENERAL | POLICY)}
    for name in sorted(set(given) - known - set(PRIVATE_VARIABLES)):
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "unset it, see docs/cli.md for those that there are"
        output.warning(f"unknown variable {name[:80]}", hint=hint, code="unknown-variable", as_json=as_json)


class _Command(typer.core.TyperCommand):
    """A command whose error names the surplus words: click's own error has them in its text alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's context
        """Take the words apart. Raises UsageError."""
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            shown = " ".join(rest)[:LONGEST_WORD]
            raise UsageError(f"too many arguments: {shown!a}", hint=f"see `bgjobs {self.name} -h`", code="usage")
        return rest


def _app(chosen: list[str]) -> Any:  # noqa: ANN401 - click's command, of one click or the other
    """Return the command line with these commands alone."""
    app = typer.Typer(
        help="Run approved Python methods in the background, with no server.",
        epilog=EPILOG,
        add_completion=len(chosen) > 1,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in chosen:
        module = import_module(f"bgjobs.cli.commands.{name.replace('-', '_')}")
        app.command(name, cls=_Command, context_settings={"allow_extra_args": True})(module.command)
    command = typer.main.get_command(app)
    _read_numbers_strictly(command)
    # What has been imported stays: not looking through it for garbage, now and at the end, saves a tenth of the time.
    gc.freeze()
    gc.enable()
    return command


def _read_numbers_strictly(command: Any) -> None:  # noqa: ANN401 - click's command, of one click or the other
    """Accept ASCII digits alone as a whole number: Python itself reads `1_000`, ` 5` and other scripts."""
    for part in getattr(command, "commands", {"": command}).values():
        for parameter in part.params:
            if parameter.type.name.startswith("int"):  # "integer range" and the like, depending on its version
                parameter.type = _strict(parameter.type)


def _strict(kind: Any) -> Any:  # noqa: ANN401 - click's type, of one click or the other
    strict, convert = copy(kind), kind.convert

    def converted(value: object, parameter: Any, context: Any) -> Any:  # noqa: ANN401 - as above
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
            name = parameter.opts[-1] if parameter else "number"
            raise UsageError(f"bad {name} {value[:40]!a}", hint="write a whole number such as 3", code="usage")
        return convert(value, parameter, context)

    strict.convert = converted
    return strict


def _show_version(wanted: bool) -> None:
    if wanted:
        from bgjobs import __version__  # noqa: PLC0415 - looking it up takes a while

        output.data(f"bgjobs {__version__}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Run approved Python methods in the background, with no server."""


def _usage(error: Any, command: str, words: list[str]) -> UsageError:  # noqa: ANN401 - click's error, of one click or the other
    """Return the usage error in our own words: those of click change with its releases."""
    option = str(getattr(error, "option_name", ""))[:LONGEST_WORD]
    near = getattr(error, "possibilities", None)
    parameter = getattr(error, "param", None)
    hint = f"see `bgjobs {command} -h`" if command in COMMANDS else "see `bgjobs -h`"
    match type(error).__name__:
        case "NoSuchOption":
            message = f"no such option: {option}"
            if command.startswith("-"):
                hint = "options go after the command, see `bgjobs -h`"
            elif near:
                hint = f"did you mean {' or '.join(sorted(near))}?"
            elif command in {"submit", "run"}:
                hint = f"an argument that begins with - goes after --, {hint}"
        case "BadOptionUsage":
            message = f"{option} {'takes no' if f'{option}=' in ' '.join(words) else 'needs a'} value"
        case "MissingParameter":
            message = f"{_name(parameter)} is missing"
        case "BadParameter":
            message = f"bad {_name(parameter)}"
            hint = f"{_wanted(parameter)}{hint}"
        case _:
            message = "wrong usage"
    return UsageError(message, hint=hint, code="usage")


def _name(parameter: Any) -> str:  # noqa: ANN401 - click's parameter
    """Return an option by its longest name, an argument by what the help calls it."""
    if parameter is None:
        return "an argument"
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name).strip("[].").upper()


def _wanted(parameter: Any) -> str:  # noqa: ANN401 - click's parameter
    """Return what to write for the only options that click itself converts: whole numbers."""
    least = None if parameter is None else getattr(parameter.type, "min", None)
    return "" if least is None else f"use a whole number from {least} on, "


def _system_error(error: OSError, *, as_json: bool) -> int:
    was_printing = not error.filename and _cannot_print()
    if not error.filename:
        # It was no file, so it was a stream. What is left in its buffer would be one more error when Python ends.
        output.discard(sys.stdout)
        if output.reader_left(error):
            return 1
    if error.errno == errno.ENOENT and _is_here_gone():
        found = BgjobsError(
            "the current directory was deleted", hint="change to one that is there", code="no-directory"
        )
        output.error(found, as_json=as_json)
        return 1
    if was_printing:
        found = BgjobsError(
            f"cannot write standard output: {why(error)}",
            hint="see `bgjobs list` for what is done by now",
            code="system-error",
        )
        output.error(found, as_json=as_json)
        return 1
    output.error(BgjobsError(f"cannot go on: {why(error)}", code="system-error"), as_json=as_json)
    return 1


def _cannot_print() -> bool:
    """Tell whether standard output cannot be written any more: what could not be written is still in its buffer."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _is_here_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _bug(error: Exception, *, as_json: bool) -> int:
    if os.environ.get("BGJOBS_DEBUG") == "1":
        traceback.print_exc()
    text = f"internal error: {type(error).__name__}: {error}"[:1000]
    output.error(BgjobsError(text, hint="set BGJOBS_DEBUG=1 for the traceback", code="internal-error"), as_json=as_json)
    return 1
