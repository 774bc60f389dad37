"""`bgjobs init`: make a project to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bgjobs.cli import example, options, output


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Directory to use (default: the current one).")
    ] = Path(),
    as_json: options.AsJson = False,
) -> None:
    """Make a project: an allowlist, example jobs, an empty spool. Nothing is overwritten."""
    files = example.skeleton()
    example.write(files, folder)
    made = [str(folder / name) for name in files]
    output.result({"files": made}, [[(f"made {path}", "")] for path in made], as_json=as_json)
    there = "" if folder == Path() else f"cd {folder}; "
    example_line = f"{there}bgjobs submit ExampleJob handle hello; bgjobs worker --drain; bgjobs list"
    output.hint(f"now try: {example_line}", as_json=as_json)
