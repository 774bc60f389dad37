"""The options and arguments that several commands share, so that they read and behave alike."""

from __future__ import annotations

from typing import Annotated

import typer

from bgjobs.cli import complete

# Where the project is, and how to print

Config = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="The allowlist; else the one here or in a parent.")
]
Spool = Annotated[str | None, typer.Option("--spool", metavar="DIR", help="The spool; else the one of the project.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Jobs

ClassName = Annotated[
    str, typer.Argument(metavar="CLASS", help="A name from the allowlist.", autocompletion=complete.class_names)
]
Method = Annotated[
    str, typer.Argument(metavar="METHOD", help="One of its methods.", autocompletion=complete.method_names)
]
JobId = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="A job: its id, or the end of it.", autocompletion=complete.job_ids),
]
ActiveIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="Jobs: ids, or the ends of them.", autocompletion=complete.active_ids),
]
EndedIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="Jobs: ids, or the ends of them.", autocompletion=complete.ended_ids),
]

# A call, for `submit` and `run`

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARG]...",
        help="Text; becomes what the method's annotations say. One that begins with - goes after --.",
    ),
]
Keywords = Annotated[
    list[str] | None, typer.Option("-k", "--keyword", metavar="NAME=VALUE", help="An argument by name; repeatable.")
]
JsonArguments = Annotated[
    str | None, typer.Option("--args", metavar="JSON", help="An array or object, instead of ARG and -k.")
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
        autocompletion=complete.states,
    ),
]
OfClass = Annotated[
    str | None, typer.Option("--class", metavar="CLASS", help="Of this class.", autocompletion=complete.class_names)
]
OfMethod = Annotated[
    str | None, typer.Option("--method", metavar="METHOD", help="Of this method.", autocompletion=complete.method_names)
]
OfPriority = Annotated[
    str | None, typer.Option("--priority", "-p", metavar="PRIORITY", help="Of this priority: 0-9, low, normal, high.")
]
OfTag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="With this tag.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help='Submitted then or later: 2h (ago), "2026-12-01 09:00".')
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Submitted before that.")]
Mentioning = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="With this text in the error, in any case.")
]
All = Annotated[bool, typer.Option("--all", help="All jobs that meet the conditions below.")]
