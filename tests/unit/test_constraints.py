"""What is installed is pinned: `constraints.txt` and pyproject.toml agree, for each Python and system."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement  # pytest brings it
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PYTHONS = [name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
SYSTEMS = [("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt")]
PLACES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": system,
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": os_name,
        "extra": "",
    }
    for python in PYTHONS
    for platform, system, os_name in SYSTEMS
]


def pins(file: str) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text("utf-8").splitlines()]
    return [Requirement(line) for line in lines if line]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(found: list[Requirement], name: str, place: dict[str, str]) -> list[Version]:
    """Return which versions are pinned for a package there."""
    return [
        Version(str(pin.specifier).removeprefix("=="))
        for pin in found
        if canonical(pin.name) == canonical(name) and (pin.marker is None or pin.marker.evaluate(place))
    ]


def wanted(*extras: str) -> list[Requirement]:
    texts = [*PYPROJECT["build-system"]["requires"], *PROJECT["dependencies"]]
    texts += [text for extra in extras for text in EXTRAS[extra]]
    return [found for found in map(Requirement, texts) if found.name != PROJECT["name"]]


@pytest.mark.parametrize("place", PLACES, ids=[f"{place['python_version']}-{place['os_name']}" for place in PLACES])
def test_all_that_the_project_asks_for_is_pinned_to_a_release_that_it_allows(place: dict[str, str]) -> None:
    found = pins("constraints.txt")
    for requirement in wanted(*EXTRAS):
        if requirement.marker is None or requirement.marker.evaluate(place):
            pinned = versions(found, requirement.name, place)
            assert len(pinned) == 1, f"{requirement.name}: {pinned}: run make lock"
            assert pinned[0] in requirement.specifier, f"{requirement}: {pinned[0]}: run make lock"


def test_the_oldest_releases_are_the_lower_bounds() -> None:
    """A bound such as 3.6 may stand for 3.6.1, where that is the first release."""
    found = pins("constraints-oldest.txt")
    for requirement in wanted("test"):
        [pinned] = versions(found, requirement.name, PLACES[0])
        [bound] = [Version(part.version).release for part in requirement.specifier if part.operator == ">="]
        assert pinned in requirement.specifier, f"{requirement}: {pinned}: run make lock"
        assert pinned.release[: len(bound)] == bound, f"{requirement}: {pinned}: run make lock"


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt"])
def test_a_file_of_pins_names_releases_and_nothing_else(file: str) -> None:
    found = pins(file)
    assert all(re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)) for pin in found)
    assert not [pin for pin in found if pin.url or pin.extras]  # pip takes no extras here
    text = (ROOT / file).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"(^|[\s=])[/~]", text)
    assert text.startswith("# Written by `make lock`")


def test_each_pip_line_in_the_readme_takes_the_pins() -> None:
    lines = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if ".venv/bin/pip install" in line]
    assert lines
    for line in lines:
        assert line.startswith("PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt .venv/bin/pip ")


@pytest.mark.parametrize(
    "file",
    ["Makefile", *(f"scripts/{name}.sh" for name in ("install-uwsgi", "try-package", "try-pythons", "wine-python"))],
)
def test_whatever_installs_takes_the_pins(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    assert "constraints.txt" in text
    assert {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"} <= set(re.findall(r"\w+", text))
