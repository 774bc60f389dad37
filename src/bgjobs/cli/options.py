"""The options and arguments that several commands share, so that they read and behave alike: which job, which call."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bgjobs import clock
from bgjobs.cli import completion
from bgjobs.errors import BadArgumentsError, RefusedError, UsageError
from bgjobs.events import SubmissionRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bgjobs.queue import Queue

BYTE_ORDER_MARK = "\ufeff"  # some editors and shells put it in front of a file, and so of what is read from it

# Where the project is, and how to print

Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Allowlist to use (default: the one here or in a parent directory)."),
]
Spool = Annotated[
    str | None, typer.Option("--spool", metavar="DIR", help="Spool to use (default: the one of the project).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Jobs

ClassName = Annotated[
    str, typer.Argument(metavar="CLASS", help="A name from the allowlist.", autocompletion=completion.class_names)
]
Method = Annotated[
    str, typer.Argument(metavar="METHOD", help="One of its methods.", autocompletion=completion.method_names)
]
JobId = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="A job: its id, or the end of it.", autocompletion=completion.job_ids),
]
IDS = {"metavar": "ID...", "help": "Jobs: ids, or the ends of them."}
ActiveIds = Annotated[list[str] | None, typer.Argument(**IDS, autocompletion=completion.active_ids)]
ScheduledIds = Annotated[list[str] | None, typer.Argument(**IDS, autocompletion=completion.scheduled_ids)]
EndedIds = Annotated[list[str] | None, typer.Argument(**IDS, autocompletion=completion.ended_ids)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; print which jobs would be changed.")]

# A worker, for `worker` and `service`

GRACE = "30s"

Concurrency = Annotated[
    int | None,
    typer.Option(
        "-c", "--concurrency", metavar="N", min=1, help="Number of jobs to run at once (default: one per core)."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="CLASS",
        help="Run jobs of this class only; repeatable.",
        autocompletion=completion.class_names,
    ),
]

# A call, for `submit` and `run`

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARG]...",
        help="Text; it becomes what the method's annotations say. One that begins with - goes after --.",
    ),
]
Keywords = Annotated[
    list[str] | None, typer.Option("-k", "--keyword", metavar="NAME=VALUE", help="Argument by name; repeatable.")
]
JsonArguments = Annotated[
    str | None, typer.Option("--args", metavar="JSON", help="JSON array or object of arguments, instead of ARG and -k.")
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="DURATION", help="Stop an attempt that runs longer: 90s, 5m, 2h.")
]

# Which jobs, for `list`, `cancel --all` and the like

States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="In this state; repeatable, or several with commas.",
        autocompletion=completion.states,
    ),
]
All = Annotated[bool, typer.Option("--all", help="Take all jobs that meet the conditions below.")]
# By condition, in the order in which the help shows them: the options for the conditions of `requests.filter_of`.
CONDITIONS = {
    "state": States,
    "class_name": Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="Of this class.", autocompletion=completion.class_names),
    ],
    "method": Annotated[
        str | None,
        typer.Option("--method", metavar="METHOD", help="Of this method.", autocompletion=completion.method_names),
    ],
    "priority": Annotated[
        str | None,
        typer.Option("--priority", "-p", metavar="PRIORITY", help="Of this priority: 0-9, low, normal, high."),
    ],
    "tag": Annotated[str | None, typer.Option("--tag", metavar="TAG", help="With this tag.")],
    "since": Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help='Submitted then or later: 2h (ago), "2026-12-01 09:00".'),
    ],
    "until": Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Submitted before that.")],
    "error": Annotated[
        str | None, typer.Option("--error", metavar="TEXT", help="With this text in the error, in any case.")
    ],
}


def conditional(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each condition; its `conditions` are those that were given, by name."""

    @functools.wraps(command)
    def with_conditions(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - those of the command
        given = {name: values.pop(name) for name in CONDITIONS}
        conditions = {name: value for name, value in given.items() if value is not None and value != []}
        return command(*args, conditions=conditions, **values)

    written = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in written.parameters.values():
        parameters += _as_options() if parameter.name == "conditions" else [parameter]
    # Typer reads the options of a command from its signature.
    with_conditions.__signature__ = written.replace(parameters=parameters)  # type: ignore[attr-defined]  # functions have it
    with_conditions.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_conditions


def _as_options() -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in CONDITIONS.items()]


# What `submit` and `run` are asked to call: ARG…, `-k NAME=VALUE`, or `--args JSON`


def call(
    queue: Queue,
    class_name: str,
    method: str,
    *,
    args: Sequence[str] | None,
    keywords: Sequence[str] | None,
    json_args: str | None,
) -> dict[str, Any]:
    """Return the fields of a `Request` that say what to call. Raises UsageError, or RefusedError, which is logged."""
    try:
        _refuse_bytes(args or (), keywords or (), json_args)
        by_place: Sequence[Any] = args or ()
        by_name: Mapping[str, Any] = {}
        if json_args is None:
            by_name = _by_name(keywords or ())
        elif args or keywords:
            raise _bad_json("given together with ARG or -k", "give one or the other")
        else:
            by_place, by_name = from_json(json_args)
    except RefusedError as error:
        queue.events.emit(SubmissionRefused(class_name, method, error.code, str(error), clock.now()))
        raise
    return {
        "class_name": class_name,
        "method": method,
        "args": by_place,
        "kwargs": by_name,
        "text": json_args is None,  # which becomes what the annotations say
    }


def from_json(text: str) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments by position or by name that a JSON array or object holds. Raises UsageError."""
    from bgjobs import json_faults  # noqa: PLC0415 - most calls need none

    try:
        found = json_faults.read(text.removeprefix(BYTE_ORDER_MARK))
    except json_faults.FaultError as error:
        raise _bad_json(str(error), 'write JSON such as ["Tony", 2] or {"name": "Tony"}') from None
    match found:
        case list():
            return found, {}
        case dict():
            return (), found
        case _:
            raise _bad_json("neither an array nor an object", 'write JSON such as ["Tony", 2] or {"name": "Tony"}')


def _refuse_bytes(args: Sequence[str], keywords: Sequence[str], json_args: str | None) -> None:
    """Refuse words with bytes that are no UTF-8: such a word of a command line cannot be written as JSON."""
    words = {f"argument {number}": text for number, text in enumerate(args, 1)}
    words |= {f"-k {text.partition('=')[0]}": text for text in keywords}
    words |= {"--args": json_args or ""}
    for what, text in words.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadArgumentsError(
                f"{what} is not UTF-8 text: {text[:40]!a}", hint="pass a path, or the bytes as text such as base64"
            ) from None


def _by_name(keywords: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for keyword in keywords:
        name, equals, value = keyword.partition("=")
        if not equals or not name:
            raise UsageError(f"bad -k {keyword[:40]!r}", hint="write -k NAME=VALUE", code="bad-keyword")
        if name in found:
            raise BadArgumentsError(f"argument {name[:80]} is repeated", hint="give it once", code="repeated")
        found[name] = value
    return found


def _bad_json(reason: str, hint: str) -> UsageError:
    return UsageError(f"bad --args: {reason}", hint=hint, code="bad-args")
