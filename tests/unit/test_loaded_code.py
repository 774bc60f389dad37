"""A runner knows from which files its code was loaded, and sees when they have changed."""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.worker.child.loaded_code import LoadedCode
from bgjobs.worker.protocol import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG_AGO_NS = 1_500_000_000_000_000_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory from which modules are imported, and that is the working directory."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str = "", *, at_ns: int = LONG_AGO_NS) -> Path:
    """Write a module as if it had been there for long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    os.utime(path, ns=(at_ns, at_ns))
    return path


def run(module: str, method: str = "work") -> Run:
    return Run(
        id="0" * 26,
        attempt=1,
        retries=0,
        class_name="Any",
        method=method,
        module=module,
        owner=None,
        args=(),
        kwargs={},
    )


def loaded(root: Path, module: str, *, reload: bool = True) -> LoadedCode:
    """Return what a runner knows after it has run a job of this module, which was written well before."""
    code = LoadedCode([str(root)], str(root), reload=reload)
    assert code.begin(run(module))
    code._began_ns += 10**9  # the files of the test are a second older than they are
    importlib.import_module(module)
    code.note()
    assert code.changed() == ""
    return code


def rewrite(path: Path) -> None:
    path.write_text("changed = True\n", "utf-8")


def same_size_same_time(path: Path) -> None:
    state = path.stat()
    path.write_text("x = 2\n", "utf-8")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def replaced_by_an_older_one(path: Path) -> None:
    write(path.with_name("fresh"), "x = 1\n", at_ns=LONG_AGO_NS - 10**12).replace(path)


def turned_into_a_package(path: Path) -> None:
    write(path.with_suffix("") / "__init__.py")


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": rewrite,
    # The time of the last change of any kind tells it, and Windows has none.
    **({} if sys.platform == "win32" else {"same size and time": same_size_same_time}),
    "an older file": replaced_by_an_older_one,
    "removed": lambda path: path.unlink(),
    "only touched": os.utime,
    "a package of its name": turned_into_a_package,
    "a new module beside it": lambda path: write(path.with_name("beside.py")),
}


@pytest.mark.parametrize("how", CHANGES)
def test_with_reload_any_change_is_seen(root: Path, how: str) -> None:
    path = write(root / "plain.py", "x = 1\n")
    code = loaded(root, "plain")
    CHANGES[how](path)
    assert code.changed()
    assert not code.begin(run("plain"))


@pytest.mark.parametrize("how", ["rewritten", "an older file", "removed"])
def test_without_reload_a_changed_file_is_seen_and_its_name_is_said(root: Path, how: str) -> None:
    path = write(root / "trade" / "plain.py", "x = 1\n")
    code = loaded(root, "trade.plain", reload=False)
    assert code.look(at_once=True) == ""
    CHANGES[how](path)
    assert code.look(at_once=True) == str(Path("trade", "plain.py"))


def test_without_reload_what_has_run_goes_on_and_what_has_not_needs_a_fresh_process(root: Path) -> None:
    path = write(root / "plain.py", "x = 1\n")
    code = loaded(root, "plain", reload=False)
    rewrite(path)
    assert code.begin(run("plain"))
    assert not code.begin(run("plain", "another"))
    assert not code.begin(run("other"))


@pytest.mark.parametrize("reload", [True, False])
def test_other_files_do_not_count(root: Path, *, reload: bool) -> None:
    write(root / "plain.py")
    code = loaded(root, "plain", reload=reload)
    write(root / "data.csv")
    write(root / "2026-11" / "report.txt")
    write(root / "__pycache__" / "plain.cpython-399.pyc")
    assert code.changed() == ""
    assert code.begin(run("plain", "another"))


@pytest.mark.parametrize("helper", ["helpers/__init__.py", "helpers/deep.py", "spaced/deep.py"])
def test_helpers_packages_and_namespaces_count(root: Path, helper: str) -> None:
    write(root / "helpers" / "__init__.py")
    write(root / "helpers" / "deep.py")
    write(root / "spaced" / "deep.py")
    write(root / "plain.py", "import helpers.deep\nimport spaced.deep\n")
    code = loaded(root, "plain", reload=False)
    rewrite(root / helper)
    assert code.changed() == str(Path(helper))


def test_a_module_that_a_method_imports_later_counts(root: Path) -> None:
    write(root / "plain.py")
    path = write(root / "late.py")
    code = loaded(root, "plain", reload=False)
    assert code.begin(run("plain"))
    code._began_ns += 10**9
    importlib.import_module("late")
    code.note()
    rewrite(path)
    assert code.changed() == "late.py"


@pytest.mark.parametrize(("module", "counts"), [("mine.jobs", True), ("plain", False)])
def test_an_installed_package_counts_if_a_job_names_it(root: Path, module: str, *, counts: bool) -> None:
    place = root / "lib" / "site-packages"
    write(place / "mine" / "__init__.py")
    write(place / "mine" / "jobs.py")
    write(root / "plain.py", "import mine.jobs\n")
    sys.path.insert(0, str(place))
    try:
        code = loaded(root, module, reload=False)
    finally:
        sys.path.remove(str(place))
    rewrite(place / "mine" / "__init__.py")
    assert bool(code.changed()) == counts


def test_of_a_module_that_another_job_has_imported_nothing_is_known(root: Path) -> None:
    place = root / "lib" / "site-packages"
    write(place / "shared.py")
    write(root / "plain.py", "import shared\n")
    sys.path.insert(0, str(place))
    try:
        code = loaded(root, "plain", reload=False)
    finally:
        sys.path.remove(str(place))
    assert code.begin(run("plain"))
    assert not code.differs("plain")
    assert code.begin(run("shared"))
    assert code.differs("shared")
    fresh = LoadedCode([str(root)], str(root), reload=False)
    assert fresh.begin(run("shared"))
    assert not fresh.differs("shared")


def pack(archive: Path, content: str) -> None:
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("inside.py", content)


def test_an_archive_of_modules_counts(root: Path) -> None:
    archive = root / "packed.zip"
    pack(archive, "x = 1\n")
    sys.path.insert(0, str(archive))
    try:
        code = loaded(root, "inside", reload=False)
    finally:
        sys.path.remove(str(archive))
    pack(archive, "x = 22\n")
    assert code.changed() == "packed.zip"


def test_what_is_written_while_it_is_imported_counts_as_changed_at_once(root: Path) -> None:
    path = write(root / "plain.py")
    code = LoadedCode([str(root)], str(root), reload=True)
    assert code.begin(run("plain"))
    importlib.import_module("plain")
    os.utime(path)
    code.note()
    assert code.changed() == "plain.py"
    assert not code.differs("plain")  # so a refusal of this process is for good


def test_a_module_that_a_job_has_just_made_is_not_stale(root: Path) -> None:
    write(root / "plain.py")
    code = loaded(root, "plain", reload=False)
    assert code.begin(run("plain"))
    (root / "made.py").write_text("x = 1\n", "utf-8")
    importlib.invalidate_caches()
    importlib.import_module("made")
    code.note()
    assert code.changed() == ""
    rewrite(root / "made.py")
    assert code.changed() == "made.py"


def test_a_time_in_the_future_does_not_make_each_process_stale(root: Path) -> None:
    write(root / "plain.py", at_ns=4_000_000_000_000_000_000)
    assert loaded(root, "plain").begin(run("plain"))


@pytest.mark.skipif(sys.platform == "win32", reason="a link to a directory needs rights there")
def test_a_switched_link_counts_with_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    for release in "11", "12":
        write(root / release / "switched.py")
    current = root / "current"
    current.symlink_to(root / "11")
    monkeypatch.chdir(current)
    monkeypatch.syspath_prepend(str(current))
    code = loaded(current, "switched")
    (root / "next").symlink_to(root / "12")
    (root / "next").replace(current)
    assert code.changed()


def test_strange_modules_do_no_harm(root: Path) -> None:
    code = LoadedCode([str(root)], str(root), reload=True)
    assert code.begin(run("plain"))
    module = type(sys)
    for name, file in ("odd1", 7), ("odd2", "relative.py"), ("odd3", str(root / "nowhere" / "x.py")), ("odd4", None):
        sys.modules[name] = module(name)
        sys.modules[name].__file__ = file  # type: ignore[assignment]  # as a strange module may
    sys.modules["odd5"] = object()  # type: ignore[assignment]  # the same
    code.note()
    assert code.changed() == ""
