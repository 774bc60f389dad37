"""`bgjobs init`: a project to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bgjobs.cli import example, options, output


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; else here.")] = Path(),
    as_json: options.AsJson = False,
) -> None:
    """Make a project: an allowlist, example jobs, an empty spool. Nothing is overwritten."""
    files = example.skeleton()
    example.write(files, folder)
    if as_json:
        output.json({"files": [str(folder / name) for name in files]})
        return
    for name in files:
        output.data(f"made {folder / name}")
    there = "" if folder == Path() else f"cd {folder}; "
    output.note(f"now try: {there}bgjobs submit ExampleJob handle hello; bgjobs worker --drain; bgjobs list")
