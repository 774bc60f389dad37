"""The example project that comes with bgjobs: find it, and copy it or a part of it, never over anything."""

from __future__ import annotations

import re
from pathlib import Path

import bgjobs
from bgjobs.config.settings import FILE_NAME
from bgjobs.errors import BgjobsError

SKELETON = "jobs.examples"  # the module of the example that a new project begins with
SPOOL_PAGE = """\
# The queue

bgjobs keeps its jobs here, one file each; the first command that needs the spool sets it up. Look as you like, but
move and change nothing by hand. To throw the whole queue away, stop the workers and delete everything here.
"""
SPOOL_IGNORED = """\
# Jobs are no source code: git keeps only the page about them.
*
!.gitignore
!README.md
"""


def whole() -> dict[str, str]:
    """Return the files of the example project: their paths and contents."""
    root = _root()
    found = {FILE_NAME: _read(root / FILE_NAME)}
    return found | {f"jobs/{path.name}": _read(path) for path in sorted((root / "jobs").glob("*.py"))}


def skeleton() -> dict[str, str]:
    """Return the files that a new project begins with."""
    files = whole()
    return {
        FILE_NAME: _only(files[FILE_NAME], SKELETON),
        "jobs/__init__.py": files["jobs/__init__.py"],
        "jobs/examples.py": files["jobs/examples.py"],
        "spool/README.md": SPOOL_PAGE,
        "spool/.gitignore": SPOOL_IGNORED,
    }


def write(files: dict[str, str], folder: Path) -> None:
    """Write the files below a folder. Raises BgjobsError, with nothing written, if one of them is there."""
    for name in files:
        if (folder / name).exists() or (folder / name).is_symlink():
            raise BgjobsError(
                f"{folder / name} is there already", hint="choose another directory, or move it away", code="exists"
            )
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)


def _root() -> Path:
    """Return where the example lies: in the installed package, or on top of a checkout."""
    package = Path(bgjobs.__file__).resolve().parent
    for place in (package / "example", package.parents[1]):
        if (place / FILE_NAME).is_file() and (place / "jobs" / "examples.py").is_file():
            return place
    raise BgjobsError(
        "this installation of bgjobs lacks its example project", hint="install it again", code="no-example"
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _only(allowlist: str, module: str) -> str:
    """Return the allowlist with the settings and the classes of one module alone."""
    head, *tables = re.split(r"^(?=\[)", allowlist, flags=re.MULTILINE)
    kept = [table for table in tables if table.startswith("[bgjobs]") or f'"{module}:' in table]
    # A comment at the end of a table is about the next one, which may not come along.
    own = [re.sub(r"(\n#[^\n]*)+\n*\Z", "\n", table).rstrip() for table in kept]
    about = "# [jobs.NAME]: NAME is what one writes on the command line; `class` says where the code is, module:Class."
    settings, *classes = own
    settings = settings.replace("payments", "examples")  # the comments name a module of the example
    return "\n\n".join([head.rstrip(), settings, f"{about}\n{classes[0]}", *classes[1:]]) + "\n"
