"""Hold what was built against the checkout: is all in it, and nothing else?

inspect_package.py DIST      (the folder of one sdist and one wheel; run from the checkout)
"""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
META = PROJECT["project"]
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
SDIST = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]
ALWAYS = [".gitignore", "LICENSE", "README.md", "pyproject.toml"]  # hatchling puts these into each sdist


def files_below(place: Path) -> Iterator[Path]:
    """Go through the files at a place, or the file that it is, but for byte code."""
    found = [place] if place.is_file() else place.rglob("*")
    return (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def wanted_in_wheel() -> set[str]:
    """Return what the checkout has for a wheel."""
    placed = {Path("src/bgjobs"): "bgjobs"} | {Path(path): to for path, to in WHEEL["force-include"].items()}
    return {
        str(PurePosixPath(target, path.relative_to(place).as_posix()))
        for place, target in placed.items()
        for path in files_below(place)
    }


def wanted_in_sdist() -> set[str]:
    """Return what the checkout has for an sdist: all that is kept in git, for the tests read the documentation too."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        kept = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout: what pyproject.toml promises
        return {path.as_posix() for name in [*SDIST["include"], *ALWAYS] for path in files_below(Path(name.strip("/")))}
    return {name for name in kept.split("\0") if Path(name).is_file()}


def differences(what: str, wanted: set[str], found: set[str]) -> list[str]:
    """Return a line for each name that is on one side alone."""
    return [
        *(f"{what}: {name} is missing" for name in sorted(wanted - found)),
        *(f"{what}: {name} does not belong there" for name in sorted(found - wanted)),
    ]


def in_wheel(path: Path) -> list[str]:
    """Return what is wrong with the wheel."""
    info = f"{META['name']}-{META['version']}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        return [
            *differences("wheel", wanted_in_wheel() | about, names),
            *([] if path.name.endswith("-py3-none-any.whl") else [f"wheel: {path.name} is for one system or Python"]),
            *(f"wheel: {fault}" for fault in in_metadata(wheel.read(f"{info}/METADATA"))),
        ]


def in_sdist(path: Path) -> list[str]:
    """Return what is wrong with the sdist."""
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    return differences("sdist", wanted_in_sdist() | {"PKG-INFO"}, names)


def in_metadata(content: bytes) -> Iterator[str]:
    """Go through what the metadata say otherwise than pyproject.toml."""
    said = email.message_from_bytes(content)
    for name, wanted in {
        "Version": [META["version"]],
        "Requires-Python": [META["requires-python"]],
        "License-Expression": [META["license"]],
        "Classifier": META["classifiers"],
        "Description-Content-Type": ["text/markdown"],
        "Provides-Extra": sorted(META["optional-dependencies"]),
    }.items():
        found = said.get_all(name, [])
        if found != wanted:
            yield f"{name} is {found}, not {wanted}"
    if content.partition(b"\n\n")[2] != Path(META["readme"]).read_bytes():
        yield "the description is not the README"


def main() -> int:
    """Print what is wrong, or how much was looked at."""
    dist = Path(sys.argv[1])
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    faults = [*in_wheel(wheel), *in_sdist(sdist)]
    print("\n".join(faults) or f"{len(wanted_in_wheel())} files in the wheel, {len(wanted_in_sdist())} in the sdist")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
