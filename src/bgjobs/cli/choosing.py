"""Which jobs a command is for: those named by id, or with `--all` those that meet its conditions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bgjobs import clock
from bgjobs.cli import options
from bgjobs.cli.filters import Conditions
from bgjobs.errors import UsageError
from bgjobs.job import State
from bgjobs.queue import LISTED, Queue

# The fields of `Conditions` as options, in the order in which the help shows them.
OPTIONS = {
    "states": options.States,
    "class_name": options.OfClass,
    "method": options.OfMethod,
    "priority": options.OfPriority,
    "tag": options.OfTag,
    "since": options.Since,
    "until": options.Until,
    "error": options.Mentioning,
}


def conditional(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each condition; what it has as `conditions` is what they say."""

    @functools.wraps(command)
    def with_conditions(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - those of the command
        conditions = Conditions(**{name: values.pop(name) for name in OPTIONS})
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
    return [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in OPTIONS.items()]


def choose(
    ids: Sequence[str] | None,
    conditions: Conditions,
    *,
    every: bool,
    among: frozenset[State] = LISTED,
    default: frozenset[State] = LISTED,
) -> Callable[[Queue], Iterable[str]]:
    """Return what finds the chosen jobs in a queue: by id, or every one that meets the conditions.

    Conditions may ask for states from `among`; without any it is those in `default`. Raises UsageError, before there is
    a queue, if the choice is none or two.
    """
    is_conditional = conditions != Conditions()
    if ids and (every or is_conditional):
        raise UsageError("both ids and --all or conditions", hint="give one or the other", code="usage")
    if not ids and not every:
        hint = "add --all for all jobs that meet the conditions" if is_conditional else "name jobs, or give --all"
        raise UsageError("no job named", hint=hint, code="usage")
    where = conditions.filter(clock.now(), among=among, default=default)
    return lambda queue: [job.id for job in queue.jobs(where)] if every else ids or []
