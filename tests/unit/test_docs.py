"""The documentation says what the code does: names, defaults, options, links and examples are compared with it."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bgjobs
from bgjobs import errors
from bgjobs.cli import app
from bgjobs.config import settings
from bgjobs.config.allowlist import ENTRY, Allowlist
from bgjobs.config.settings import GENERAL, POLICY
from bgjobs.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.config.settings import Settings

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "bgjobs"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")] + sorted((ROOT / "docs").rglob("*.md"))
COMMAND_LINE = app._app(list(app.COMMANDS))
HELP = {"-h", "--help"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> Iterator[str]:
    """Go through the code blocks of a page that are in this language."""
    fenced = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    yield from fenced.findall(page.read_text(encoding="utf-8"))


def all_blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{name_of(page)}-{language}-{number}")
        for page in PAGES
        for language in languages
        for number, block in enumerate(blocks(page, language), start=1)
    ]


def rows(text: str) -> Iterator[list[str]]:
    """Go through the rows of the tables in a text, as their cells."""
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\- ]+", line):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# ------------------------------------------------------------------------------------------------------------ links


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers of Markdown make them."""
    without_code = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_another_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), target
        assert not anchor or anchor in anchors(there), target


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", text_of("README.md")))
    assert {name_of(page) for page in PAGES} - {"README.md"} <= linked


# --------------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("block", all_blocks("toml"))
def test_every_allowlist_in_the_pages_is_a_valid_one(block: str, tmp_path: Path) -> None:
    assert list(Allowlist(loaded(tmp_path, block)))


@pytest.mark.parametrize("block", all_blocks("python"))
def test_every_python_example_compiles_and_uses_names_that_exist(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "bgjobs":
            assert {alias.name for alias in node.names} <= set(bgjobs.__all__)


@pytest.mark.parametrize("block", all_blocks("json"))
def test_every_json_example_is_json_in_each_line(block: str) -> None:
    for line in block.splitlines():
        json.loads(line)


@pytest.mark.parametrize("block", all_blocks("console", "sh"))
def test_every_command_in_the_pages_exists_with_its_options(block: str) -> None:
    for line in block.replace("\\\n", " ").splitlines():
        for called in re.findall(r"(?:^|\$ |bin/|[;|(] ?)bgjobs ([a-z][^#|;)]*)", line):
            words = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", called).split()
            assert words[0] in COMMAND_LINE.commands, line
            given = {word.partition("=")[0] for word in words[1:] if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
            assert given <= options_of(COMMAND_LINE.commands[words[0]]) | HELP, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_speaks_of_a_command_or_an_option_that_does_not_exist(page: Path) -> None:
    known = options_of(COMMAND_LINE) | HELP
    for command in COMMAND_LINE.commands.values():
        known |= options_of(command)
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in code_in(prose):
        named = re.match(r"bgjobs ([a-z]+)", code)
        assert named is None or named[1] in COMMAND_LINE.commands, code
        assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", code)) <= known, code


# --------------------------------------------------------------------------------------------------- the allowlist


def documented_keys() -> dict[str, str]:
    """Return the keys in the tables of the page about the allowlist, with what it says is their built-in value."""
    found: dict[str, str] = {}
    for first, second, *_ in rows(text_of("docs/allowlist.md")):
        if re.fullmatch(r"`[a-z_]+`", first) and (second == "required" or second.startswith("`")):
            found[first.strip("`")] = second.strip("`")
    return found


def test_the_page_about_the_allowlist_has_every_key_and_no_other() -> None:
    assert set(documented_keys()) == {*GENERAL, *POLICY, *ENTRY}


def test_the_page_about_the_allowlist_gives_the_real_built_in_values(tmp_path: Path) -> None:
    lines = {key: f"{key} = {value}\n" for key, value in documented_keys().items() if value != "required"}
    in_general = "".join(line for key, line in lines.items() if key in GENERAL or key in POLICY)
    in_entry = "".join(line for key, line in lines.items() if key not in GENERAL)
    entry = '[jobs.Some]\nclass = "some"\nmethods = ["thing"]\n'
    plain = loaded(tmp_path, entry)
    # With every documented value written down, all is as it is with none of them.
    written = loaded(tmp_path, f"[bgjobs]\n{in_general}{entry}{in_entry}")
    for field in set(plain.__struct_fields__) - {"text", "jobs", "digest"}:
        assert getattr(written, field) == getattr(plain, field), field
    assert list(Allowlist(written)) == list(Allowlist(plain))


def loaded(folder: Path, text: str) -> Settings:
    file = folder / settings.FILE_NAME
    file.write_text(text, encoding="utf-8")
    return settings.load(config=str(file), environ={})


# ------------------------------------------------------------------------------------------------- the command line


def options_of(command: Any) -> set[str]:
    """Return the options of a command, as they are written."""
    named = [part for part in command.params if part.param_type_name == "option"]
    return {option for part in named for option in (*part.opts, *part.secondary_opts)} - HELP


def sections() -> dict[str, str]:
    """Return the parts of the reference by the heading that names a command: `bgjobs submit CLASS …`."""
    parts = re.split(r"^## `(bgjobs[^`]*)`$", text_of("docs/cli.md"), flags=re.MULTILINE)
    bodies = [re.split(r"^## ", part, flags=re.MULTILINE)[0] for part in parts[2::2]]
    return dict(zip(parts[1::2], bodies, strict=True))


def documented_options(section: str) -> set[str]:
    codes = [code for first, *_ in rows(section) for code in code_in(first)]
    return {code.split()[0] for code in codes if code.startswith("-")}


def test_the_reference_has_every_command_and_no_other() -> None:
    assert {heading.split()[1] for heading in sections() if " " in heading} == set(COMMAND_LINE.commands)


@pytest.mark.parametrize("name", sorted(COMMAND_LINE.commands))
def test_the_reference_has_every_option_of_a_command_and_no_other(name: str) -> None:
    [section] = [body for heading, body in sections().items() if heading.split()[1:2] == [name]]
    assert documented_options(section) == options_of(COMMAND_LINE.commands[name])


@pytest.mark.parametrize("name", sorted(COMMAND_LINE.commands))
def test_the_reference_has_the_arguments_of_a_command_in_its_heading(name: str) -> None:
    [heading] = [heading for heading in sections() if heading.split()[1:2] == [name]]
    arguments = [part for part in COMMAND_LINE.commands[name].params if part.param_type_name == "argument"]
    expected = [re.sub(r"[^A-Z]", "", part.metavar) for part in arguments]
    assert [re.sub(r"[^A-Z]", "", word) for word in heading.split()[2:]] == expected


def test_the_reference_has_the_options_without_a_command() -> None:
    assert documented_options(sections()["bgjobs"]) == options_of(COMMAND_LINE) | HELP


def test_the_reference_has_every_exit_status() -> None:
    [table] = re.findall(r"^## Exit status$(.*?)^## ", text_of("docs/cli.md"), re.DOTALL | re.MULTILINE)
    documented = {first for first, *_ in rows(table) if first.isdigit()}
    assert documented == set(re.findall(r"\b\d+\b", app.EPILOG))


@cache
def error_codes() -> set[str]:
    """Return the codes that errors are raised with: those of the classes, and those written where one is raised."""
    found = {value for kind in vars(errors).values() if isinstance(value := getattr(kind, "code", None), str)}
    for path in SOURCES.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            given = [part.value for part in call.keywords if part.arg == "code" and name != "Finding"]
            given += call.args[:1] if name.endswith("refusal") else []
            found |= {part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return found


def test_the_reference_has_every_code_of_an_error() -> None:
    [table] = re.findall(r"^## Errors as JSON$(.*?)^## ", text_of("docs/cli.md"), re.DOTALL | re.MULTILINE)
    documented = {code for first, *_ in rows(table) for code in code_in(first)}
    assert len(error_codes()) > 40
    assert error_codes() <= documented
    of_a_place = {
        "open-to-others",
        "not-ours",
        "not-a-directory",
        "network-disk",
        "split-spool",
    }  # what was found names these
    made_up = {code for code in documented - error_codes() - of_a_place if not code.startswith("bad-")}
    assert made_up == set()


def test_the_records_in_the_pages_have_the_fields_of_a_job() -> None:
    now = datetime.now(UTC)
    job = Job(id="", class_name="", method="", priority=5, not_before=now, submitted_at=now, retries=0)
    lines = [json.loads(line) for page in PAGES for block in blocks(page, "json") for line in block.splitlines()]
    records = [line for line in lines if "crashes" in line]
    assert records
    for record in records:
        assert list(record) == list(job.to_json())


def test_the_schema_in_the_docs_is_the_one_that_the_command_prints(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert app.run(["jobs", "--schema"]) == 0
    assert (ROOT / "docs" / "job.schema.json").read_bytes() == capfdbinary.readouterr().out


def test_every_error_that_the_page_about_python_names_can_be_imported_from_bgjobs() -> None:
    [section] = re.findall(r"^### Errors$(.*?)^## ", text_of("docs/python.md"), re.DOTALL | re.MULTILINE)
    named = {code for first, *_ in rows(section) for code in code_in(first)}
    assert len(named) > 5
    assert named <= set(bgjobs.__all__)


def test_the_page_about_python_has_every_public_method_of_a_queue_and_no_other() -> None:
    [section] = re.findall(r"^## Queue$(.*?)^### ", text_of("docs/python.md"), re.DOTALL | re.MULTILINE)
    named = {code.partition("(")[0] for first, *_ in rows(section) for code in code_in(first) if "(" in code}
    public = {
        name for name, value in vars(bgjobs.Queue).items() if callable(getattr(bgjobs.Queue, name)) and name[0] != "_"
    }
    assert {name.removeprefix("Queue.") for name in named} | {"to_json"} == public


# --------------------------------------------------------------------------------------------------------- the files


def test_the_table_of_files_names_every_file_and_no_other() -> None:
    named = {code for first, *_ in rows(text_of("docs/internals/architecture.md")) for code in code_in(first)}
    assert {name for name in named if name.endswith(".py")} == {
        path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.py")
    }


def test_the_table_of_places_names_what_is_there() -> None:
    [section] = re.findall(
        r"^## Where to look$(.*?)^## ", text_of("docs/internals/architecture.md"), re.DOTALL | re.MULTILINE
    )
    named = re.findall(r"`([a-z0-9_/]+\.py)`(?:: `(\w+)`| \(((?:`\w+`(?:, )?)+)\))?", section)
    assert len(named) > 15
    for file, name, names in named:
        source = (SOURCES / file).read_text(encoding="utf-8")
        for each in filter(None, [name, *code_in(names)]):
            assert re.search(rf"^ *(?:def|class) {each}\b", source, re.MULTILINE), (file, each)


def test_the_page_says_who_imports_whom_as_the_linter_holds_it() -> None:
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    [shown] = re.findall(
        r"^```text\n(cli .*?)^```$", text_of("docs/internals/architecture.md"), re.DOTALL | re.MULTILINE
    )
    there = {path.stem for path in SOURCES.iterdir()}
    held = [{name for name in re.findall(r"\w+", layer) if name in there} for layer in layers]
    assert [set(re.findall(r"\w+", layer)) for layer in shown.split("→")] == [names for names in held if names][1:]
